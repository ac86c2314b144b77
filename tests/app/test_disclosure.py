"""Two versions beside each other must not give a lone subject away: withdrawn weights, batches that wait for company."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import batches, disclosure, evidence, runs, store, sweep, versions
from app.db import engine, transaction
from app.tables import AuditEvent, BatchKind, Model, Obligation, Reason, Version
from tests.app import story
from tests.app.routes.test_deletions import is_problem
from tests.app.test_versions import Later

FEW = 3
WITHDRAW = story.EAGER | {"lone": {"rule": "withdraw", "min_batch": FEW}}
MERGE = story.EAGER | {"lone": {"rule": "merge", "min_batch": FEW, "max_wait_seconds": 3600}}


def model(policy: dict[str, Any]) -> int:
    """A model of 20 samples, two a subject, whose first version's bytes are stored."""
    story.dataset()
    model_id = story.register(policy=policy)
    story.publish(story.claimed(model_id), store_bytes(1))
    return model_id


def store_bytes(number: int) -> bytes:
    data = f"weights {number}".encode()
    store.put(data)
    return data


def step(model_id: int, number: int, *ordinals: int) -> Version:
    """Forget these and publish version `number`."""
    story.submit(*ordinals)
    return story.publish(story.closed(model_id), store_bytes(number))


def given(http: TestClient, number: int) -> bool:
    """Whether somebody who asks for the version's weights is given them."""
    answer = http.get(f"/models/m-v{number}/weights")
    if answer.status_code == 410:
        is_problem(answer, 410, "gone")
    return answer.status_code == 200


def withdrawn() -> list[int]:
    return [v.number for v in story.all_of(Version) if v.weights_withdrawn_at is not None]


def neighbours(number: int) -> Any:
    with transaction() as session:
        return evidence.report(session, versions.resolve(session, f"m-v{number}")).neighbours


class TestWithdraw:
    def test_the_parent_goes_as_the_lone_one_comes(self, database: str, http: TestClient) -> None:
        model_id = model(WITHDRAW)
        story.submit(1)
        lease = story.closed(model_id)
        data = store_bytes(2)
        offered = story.candidate(lease, data, story.record(lease, data))
        assert (given(http, 1), given(http, 2)) == (True, False)
        with transaction() as session:
            runs.publish(session, lease, offered)
            assert not given_now(2), "nobody is given it before the commit"
        assert (given(http, 1), given(http, 2)) == (False, True)

    def test_a_crash_before_the_commit_changes_nothing_and_after_it_nothing_is_left_to_do(
        self, database: str, http: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_id = model(WITHDRAW)
        story.submit(1)
        lease = story.closed(model_id)
        data = store_bytes(2)
        offered = story.candidate(lease, data, story.record(lease, data))
        with Session(engine()) as session:  # the worker dies before it commits
            runs.publish(session, lease, offered)
            session.rollback()
        assert (given(http, 1), given(http, 2)) == (True, False)
        with transaction() as session:
            runs.publish(session, lease, offered)
        # The worker dies here: the bytes of both are in the store, and yet only one can be had, until and after the purge.
        assert (given(http, 1), given(http, 2)) == (False, True)
        monkeypatch.setattr(store, "datetime", Later)
        sweep.purge()
        assert (given(http, 1), given(http, 2)) == (False, True)

    def test_a_reader_never_gets_both_however_fast(self, database: str, http: TestClient) -> None:
        """Whoever first got the new version never gets the old one after it."""
        model_id = model(WITHDRAW)
        story.submit(1)
        lease = story.closed(model_id)
        data = store_bytes(2)
        offered = story.candidate(lease, data, story.record(lease, data))
        begun, seen = threading.Event(), list[tuple[bool, bool]]()

        def read() -> None:
            for _ in range(200):
                new = given_now(2)
                seen.append((new, given_now(1)))
                begun.set()
                if new:
                    return

        reader = threading.Thread(target=read)
        reader.start()
        assert begun.wait(30)
        with transaction() as session:
            runs.publish(session, lease, offered)
        reader.join()
        assert (True, True) not in seen
        assert seen[0] == (False, True)
        assert seen[-1] == (True, False)

    def test_not_where_many_went(self, database: str, http: TestClient) -> None:
        model_id = model(WITHDRAW)
        step(model_id, 2, 0, 2, 4)
        assert withdrawn() == []
        assert given(http, 1)
        assert neighbours(2).few is False

    def test_many_samples_of_few_subjects_are_few(self, database: str) -> None:
        step(model(WITHDRAW), 2, 0, 1, 2, 3)
        assert withdrawn() == [1]

    def test_samples_without_a_subject_count_each(self, database: str) -> None:
        story.load("people", [(story.sample(i), None) for i in range(20)])
        model_id = story.register(policy=WITHDRAW)
        story.publish(story.claimed(model_id), store_bytes(1))
        step(model_id, 2, 0, 1, 2)
        assert withdrawn() == []

    def test_all_earlier_ones_that_are_near_not_the_parent_alone(self, database: str) -> None:
        """A retrain without any ticket leaves two versions that differ in nobody from each other."""
        model_id = model(WITHDRAW)
        story.retrain(model_id)
        story.work(model_id)
        assert withdrawn() == []
        assert neighbours(2).few is None
        step(model_id, 3, 1)
        assert withdrawn() == [1, 2]
        assert neighbours(3).withdrawn == ["m-v1", "m-v2"]

    def test_those_that_are_far_enough_stay(self, database: str) -> None:
        model_id = model(WITHDRAW)
        step(model_id, 2, 0, 2, 4)
        step(model_id, 3, 6)
        assert withdrawn() == [2]

    def test_a_sample_named_by_many_tickets_counts_once(self, database: str) -> None:
        model_id = model(WITHDRAW)
        for _ in range(4):
            story.submit(1)
        story.publish(story.closed(model_id), store_bytes(2))
        assert withdrawn() == [1]

    def test_a_ticket_that_found_it_forgotten_hides_it_from_no_count(self, database: str) -> None:
        model_id = model(WITHDRAW)
        step(model_id, 2, 0, 2, 4)
        story.submit(0)  # owes nothing
        values = {"number": 1, "batch_id": None}
        with transaction() as session:
            found = session.get_one(Model, model_id)
            assert session.scalar(disclosure.BETWEEN, disclosure.asked(found, 1, 10) | values) == 3

    def test_a_retrain_of_one_too(self, database: str) -> None:
        model_id = model(WITHDRAW)
        story.submit(1, reason=Reason.UNLAWFUL_TRAINING)
        lease = story.closed(model_id)
        assert lease.kind is BatchKind.RETRAIN
        story.publish(lease, store_bytes(2))
        assert withdrawn() == [1]

    def test_what_was_given_out_before_is_said(self, database: str, http: TestClient) -> None:
        model_id = model(WITHDRAW)
        assert given(http, 1)
        assert given(http, 1)
        step(model_id, 2, 1), step(model_id, 3, 2)
        assert neighbours(2).handed_out == ["m-v1"]
        assert "can compare" in neighbours(2).says[-1]
        assert (neighbours(3).withdrawn, neighbours(3).handed_out) == (["m-v2"], [])
        with transaction() as session:
            kinds = list(session.scalars(select(AuditEvent.kind).order_by(AuditEvent.seq)))
        assert (kinds.count("weights.handed_out"), kinds.count("weights.withdrawn")) == (1, 2)

    def test_the_bytes_go_but_for_those_that_updates_are_held_against(
        self, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_id = model(WITHDRAW)
        step(model_id, 2, 1), step(model_id, 3, 2)
        monkeypatch.setattr(store, "datetime", Later)
        sweep.purge()
        assert [v.number for v in story.all_of(Version) if v.weights_purged_at is not None] == [2]
        story.retrain(model_id)
        story.publish(story.claimed(model_id), store_bytes(4))
        sweep.purge()
        assert [v.number for v in story.all_of(Version) if v.weights_purged_at is not None] == [1, 2]


def given_now(number: int) -> bool:
    """As the route decides it, in a transaction of its own, without the bytes."""
    try:
        with transaction() as session:
            versions.hand_out(session, versions.resolve(session, f"m-v{number}"), "reader")
    except versions.Gone:
        return False
    except versions.NotFound:
        return False
    return True


class TestMerge:
    def test_a_lone_ticket_waits_for_company(self, database: str) -> None:
        model_id = model(MERGE)
        story.submit(0, 1)
        assert story.close(model_id) is None
        assert "waits for company" in str(story.model(model_id).held)
        story.submit(2, client="other"), story.submit(4)
        lease = story.closed(model_id)
        assert story.model(model_id).held is None
        story.publish(lease, store_bytes(2))
        assert withdrawn() == []
        assert neighbours(2).rule == "merge"

    def test_two_tickets_of_one_subject_are_no_company(self, database: str) -> None:
        model_id = model(MERGE)
        for ordinal in (0, 1, 0, 1):
            story.submit(ordinal)
        assert story.close(model_id) is None

    @pytest.mark.parametrize("ends", ["deadline", "flush", "time", "retrain"])
    def test_it_waits_no_longer_than_it_may_and_then_the_parent_is_withdrawn(self, database: str, ends: str) -> None:
        model_id = model(MERGE)
        near = datetime.now(UTC) + timedelta(hours=1)
        ticket_id = story.submit(1, deadline=near if ends == "deadline" else None)
        if ends == "flush":
            with transaction() as session:
                batches.flush(session, session.get_one(Model, model_id), "operator")
        if ends == "time":
            with transaction() as session:
                session.execute(update(Obligation).values(created_at=func.now() - timedelta(hours=2)))
        if ends == "retrain":
            story.retrain(model_id)
        story.work(model_id)
        assert story.obligation(ticket_id, model_id).version_id is not None
        assert withdrawn() == [1]
        assert "too little came" in " ".join(neighbours(2).says)


def test_allow_does_nothing_and_says_so(database: str, http: TestClient) -> None:
    step(model(story.EAGER | {"lone": {"rule": "allow"}}), 2, 1)
    assert withdrawn() == []
    assert given(http, 1)
    assert "whoever has the weights of both" in " ".join(neighbours(2).says)


def test_a_first_version_has_no_neighbour(database: str) -> None:
    model(WITHDRAW)
    assert neighbours(1) is None
