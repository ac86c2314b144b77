"""How versions are named, and when their weights go."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app import store, sweep, versions
from app.db import transaction
from app.errors import Conflict, Gone, NotFound, Unprocessable
from app.policy import PolicyBody
from app.tables import AuditEvent, Model, Policy, Verdict, Version
from tests.app import story
from tests.app.test_tickets import wait_until_blocked


def resolve(reference: str) -> str:
    with transaction() as session:
        return versions.name_of(versions.resolve(session, reference))


@pytest.fixture
def line(database: str) -> int:
    """A model with three versions, published on three days."""
    story.dataset()
    model_id = story.trained("digits")
    for ordinal in (1, 2):
        story.submit(ordinal)
        story.work(model_id)
    with transaction() as session:
        for number in (1, 2, 3):
            day = datetime(2026, 1, number, 12, tzinfo=UTC)
            session.execute(update(Version).where(Version.number == number).values(published_at=day))
    return model_id


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("digits-v1", "digits-v1"),
        ("digits-v3", "digits-v3"),
        ("digits", "digits-v3"),
        ("digits@", "digits-v3"),
        ("digits@current", "digits-v3"),
        ("digits@2026-01-01T12:00:00Z", "digits-v1"),
        ("digits@2026-01-02T11:59:59Z", "digits-v1"),
        ("digits@2026-01-02T14:00:00+02:00", "digits-v2"),
        ("digits@2030-01-01T00:00:00Z", "digits-v3"),
        ("digits@20260102T120000Z", "digits-v2"),
    ],
)
def test_references(line: int, reference: str, name: str) -> None:
    assert resolve(reference) == name


@pytest.mark.parametrize(
    "reference",
    ["digits-v4", "digits-v0", "digits-v01", "nobody", "nobody@current", "nobody-v1", "digits@2025-12-31T00:00:00Z", ""],
)  # fmt: skip
def test_no_such_version(line: int, reference: str) -> None:
    with pytest.raises(NotFound):
        resolve(reference)


@pytest.mark.parametrize("reference", ["digits@2026-01-02T12:00:00", "digits@yesterday", "digits@2026-13-01T00:00:00Z"])
def test_no_such_time(line: int, reference: str) -> None:
    with pytest.raises(Unprocessable):
        resolve(reference)


def test_a_model_that_was_never_trained_has_no_version(database: str) -> None:
    story.dataset()
    story.register()
    with pytest.raises(NotFound, match="first training"):
        resolve("m@current")


def test_the_chain_leads_back_to_the_first(line: int) -> None:
    with transaction() as session:
        second = versions.resolve(session, "digits-v2")
        assert [v.number for v in versions.chain(session, second)] == [2, 1]


class TestRegister:
    @pytest.mark.parametrize(
        "name", ["", "Upper", "a b", "-a", ".a", "a" * 64, "a-v1", "a-v12", "ä", "a/b", "a@b", "a\n"]
    )
    def test_names(self, database: str, name: str) -> None:
        story.dataset()
        with pytest.raises(Unprocessable):
            story.register(name)

    @pytest.mark.parametrize("name", ["a", "0", "a-v", "a-v0", "a.b_c-d", "a" * 63])
    def test_more_names(self, database: str, name: str) -> None:
        story.dataset()
        model_id = story.register(name)
        assert [p.number for p in story.all_of(Policy) if p.model_id == model_id] == [1]

    def test_an_unknown_dataset(self, database: str) -> None:
        with pytest.raises(NotFound):
            story.register()

    def test_a_name_is_taken_once_also_by_two_at_once(self, database: str) -> None:
        story.dataset("people"), story.dataset("plants")
        refused: list[Any] = []

        def second() -> None:
            try:
                story.register("m", "plants")
            except Conflict as conflict:
                refused.append(conflict)

        with transaction() as session:
            versions.register(session, "m", "people", "digits", PolicyBody(), "engineer")
            thread = threading.Thread(target=second)
            thread.start()
            wait_until_blocked()
        thread.join()
        assert len(refused) == 1
        with pytest.raises(Conflict):
            story.register("m")
        assert len(story.all_of(Model)) == 1


class TestExpiry:
    """Weights go some days after they were superseded, and not while another version has the same bytes."""

    @staticmethod
    def supersede(number: int, days: float) -> None:
        with transaction() as session:
            ended = update(Version).where(Version.number == number)
            session.execute(ended.values(superseded_at=func.now() - timedelta(days=days)))

    @staticmethod
    def purged() -> list[int]:
        return [v.number for v in story.all_of(Version) if v.weights_purged_at is not None]

    def test_after_the_days_of_the_policy_in_force(self, line: int) -> None:
        self.supersede(1, 31), self.supersede(2, 29)
        sweep.purge()
        sweep.purge()
        assert self.purged() == [1]
        with transaction() as session:
            assert session.scalar(select(func.count()).where(AuditEvent.kind == "weights.purged")) == 1

    def test_at_once_when_the_policy_keeps_none(self, line: int) -> None:
        with transaction() as session:
            policy = session.scalars(select(Policy)).one()
            session.add(Policy(model_id=line, number=2, body=policy.body | {"keep_weights_days": 0}, author="operator"))
        sweep.purge()
        assert self.purged() == [1, 2]

    def test_the_current_version_stays(self, line: int) -> None:
        self.supersede(1, 1000), self.supersede(2, 1000)
        sweep.purge()
        assert self.purged() == [1, 2]

    def test_bytes_go_with_their_last_version_and_what_is_still_named_stays(
        self, line: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared, lone, forget, gradients = (store.put(name) for name in (b"shared", b"lone", b"forget", b"gradients"))
        with transaction() as session:
            for number, weights in ((1, shared), (2, lone), (3, shared)):
                version = session.scalars(select(Version).where(Version.number == number)).one()
                copy = session.get_one(Verdict, version.verdict_id)
                verdict = Verdict(
                    batch_id=copy.batch_id, epoch=1, rung="iau", weights_digest=weights, decision="publish", reasons=[],
                    method={"forget_sha256": forget}, statistics={}, thresholds={}, seconds={},
                )  # fmt: skip
                session.add(verdict)
                session.flush()
                changed = update(Version).where(Version.id == version.id)
                session.execute(changed.values(verdict_id=verdict.id, weights_digest=weights))
            session.execute(update(Version).where(Version.number == 3).values(gradients_digest=gradients))
        self.supersede(1, 31), self.supersede(2, 31)
        monkeypatch.setattr(store, "datetime", Later)
        assert sweep.purge() == 1
        assert self.purged() == [1, 2]
        for kept in (shared, forget, gradients):
            assert store.get(kept)
        with pytest.raises(Gone):
            store.get(lone)


class Later(datetime):
    """A clock two hours ahead: nothing that was written just now is young."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # a clock that stands still
        return datetime.now(tz) + timedelta(hours=2)
