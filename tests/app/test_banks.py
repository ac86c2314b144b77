"""A reference bank's life in the database: who may order it, who holds its references, and that nothing outlives its end."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from app import banks, lineage, references, runs, sweep
from app.config import settings
from app.db import engine, transaction
from app.errors import Conflict, ServiceError, StaleEpoch, Unprocessable
from app.references import ReferenceLease
from app.tables import AuditEvent, Bank, BankState, Model, Reason, Reference, ReferenceState, Version
from tests.app import story
from unlearning.division import GROUP

TRAINING: dict[str, Any] = story.EAGER | {"bank": {"build": "training", "references": 4}}


@pytest.fixture
def model_id(database: str) -> int:
    story.dataset()
    return story.trained()


def order(model_id: int, wanted: int = 4) -> Bank:
    with transaction() as session:
        model = session.get_one(Model, model_id)
        return banks.order(session, model, banks.anchor(session, model_id), wanted, "to be sure", "operator")


def claim(worker: str = "w1") -> ReferenceLease | None:
    with transaction() as session:
        return references.claim(session, worker)


def claimed(worker: str = "w1") -> ReferenceLease:
    lease = claim(worker)
    assert lease is not None, "nothing to claim"
    return lease


def scores_of(lease: ReferenceLease) -> str:
    return f"{lease.bank_id:032x}{lease.number:032x}"


def complete(lease: ReferenceLease, forgotten: Any = None) -> str:
    digest = scores_of(lease)
    with transaction() as session:
        known = lineage.forgotten(session, lease.model_id) if forgotten is None else forgotten
        references.complete(session, lease, digest=digest, seconds=2.0, told={"samples": 15}, forgotten=known)
    return digest


def fail(lease: ReferenceLease, *, again: bool = True) -> None:
    with transaction() as session:
        references.fail(session, lease, "it broke", again=again)


def expire() -> None:
    with transaction() as session:
        running = update(Reference).where(Reference.state == ReferenceState.RUNNING)
        session.execute(running.values(lease_until=func.now() - timedelta(seconds=1)))


def rested() -> None:
    with transaction() as session:
        session.execute(update(Reference).values(not_before=func.now()))


def held(model_id: int) -> banks.Held:
    with transaction() as session:
        found = banks.held(session, model_id)
    assert found is not None
    return found


def assembled(model_id: int, digest: str = "ab" * 32) -> banks.Held:
    """The table of all whole groups, as a worker would put it in use."""
    seen = held(model_id)
    known = GROUP * (len(seen.whole) // GROUP)
    with transaction() as session:
        facts = {"references": known, "samples": 20, "bytes": 100}
        gone = lineage.forgotten(session, model_id)
        banks.assembled(session, seen, seen.whole, digest, facts, gone)
    return seen


def ready(model_id: int, wanted: int = 4) -> Bank:
    """A bank with its table."""
    order(model_id, wanted)
    for _ in range(wanted):
        complete(claimed())
    assembled(model_id)
    return bank()


def bank() -> Bank:
    return story.all_of(Bank)[-1]


def states() -> list[str]:
    return [str(row.state) for row in story.all_of(Reference)]


def events(kind: str) -> list[dict[str, Any]]:
    with transaction() as session:
        query = select(AuditEvent.body).where(AuditEvent.kind == kind).order_by(AuditEvent.seq)
        return [json.loads(body)["data"] for body in session.scalars(query)]


def everything() -> list[Any]:
    with engine().connect() as connection:
        tables = ("bank", "reference", "audit_event", "version")
        return [connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).all() for table in tables]


def test_a_group_is_as_large_here_as_in_the_engine() -> None:
    assert banks.GROUP == GROUP


class TestOrder:
    def test_a_bank_has_a_row_for_each_of_its_references(self, model_id: int) -> None:
        made = order(model_id, 8)
        (version,) = story.all_of(Version)
        assert (made.state, made.wanted, made.version_id, made.digest) == (BankState.BUILDING, 8, version.id, None)
        assert [(row.number, row.state) for row in story.all_of(Reference)] == [(n, "pending") for n in range(8)]
        (ordered,) = events("bank.ordered")
        assert ordered == {"bank": made.id, "version": 1, "references": 8, "why": "to be sure"}

    def test_it_grows_by_groups_and_keeps_what_it_has(self, model_id: int) -> None:
        first = ready(model_id)
        grown = order(model_id, 8)
        assert (grown.id, grown.wanted, grown.state, grown.digest) == (first.id, 8, BankState.READY, first.digest)
        assert states() == ["done"] * 4 + ["pending"] * 4
        assert [event["added"] for event in events("bank.grown")] == [4]

    def test_one_that_is_large_enough_is_returned_as_it_is(self, model_id: int) -> None:
        first = order(model_id, 8)
        assert order(model_id, 4).id == order(model_id, 8).id == first.id
        assert len(states()) == 8
        assert events("bank.grown") == []

    def test_references_that_failed_are_tried_again(self, model_id: int) -> None:
        order(model_id)
        fail(claimed(), again=False)
        assert states()[0] == "failed"
        order(model_id)
        assert states() == ["pending"] * 4
        assert events("bank.grown")[0]["tried_again"] == 1
        assert claimed().attempt == 1

    @pytest.mark.parametrize(
        ("wanted", "rules", "error"),
        [
            (4, {"build": "never"}, Conflict),
            (20, {}, Unprocessable),
            (8, {"references": 4, "most": 4}, Unprocessable),
            (6, {}, Unprocessable),
            (0, {}, Unprocessable),
        ],
    )
    def test_what_is_refused(
        self, database: str, wanted: int, rules: dict[str, Any], error: type[ServiceError]
    ) -> None:
        story.dataset()
        model_id = story.trained(policy=story.EAGER | {"bank": rules})
        before = everything()
        with pytest.raises(error):
            order(model_id, wanted)
        assert everything() == before

    def test_without_a_trained_version_there_is_nothing_to_refer_to(self, database: str) -> None:
        story.dataset()
        with pytest.raises(Conflict, match="no trained version"):
            order(story.register())

    def test_a_version_that_another_training_has_followed_gets_none(self, model_id: int) -> None:
        with transaction() as session:
            stale = banks.anchor(session, model_id)
        story.retrain(model_id)
        story.work(model_id)
        with pytest.raises(Conflict, match="Version 2"), transaction() as session:
            banks.order(session, session.get_one(Model, model_id), stale, 4, "late", "operator")

    def test_of_two_who_order_at_once_neither_gets_a_second_bank(self, model_id: int) -> None:
        barrier = threading.Barrier(2)

        def ask(wanted: int) -> None:
            barrier.wait()
            order(model_id, wanted)

        threads = [threading.Thread(target=ask, args=(wanted,)) for wanted in (4, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(story.all_of(Bank)) == 1
        assert (bank().wanted, len(states())) == (8, 8)

    def test_the_quote_is_three_quarters_of_a_training_for_each_that_is_left(self, model_id: int) -> None:
        with transaction() as session:
            model = session.get_one(Model, model_id)
            assert banks.quote(session, model, 8) == banks.Quote(8, 8, None, 20 * 18)
            session.execute(text("""UPDATE verdict SET seconds = '{"train": 100}'"""))
        order(model_id, 8)
        complete(claimed())
        with transaction() as session:
            quote = banks.quote(session, session.get_one(Model, model_id), 8)
        assert (quote.trainings, quote.seconds) == (7, 525.0)


class TestClaim:
    def test_two_workers_get_different_references(self, model_id: int) -> None:
        order(model_id)
        barrier, leases = threading.Barrier(2), []

        def take(worker: str) -> None:
            barrier.wait()
            leases.append(claim(worker))

        threads = [threading.Thread(target=take, args=(f"w{i}",)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({lease.number for lease in leases if lease is not None}) == 2

    def test_a_lease_says_all_that_a_worker_needs(self, model_id: int) -> None:
        made = order(model_id)
        (model,) = story.all_of(Model)
        digest = story.all_of(Version)[0].manifest_digest
        wanted = ReferenceLease(made.id, 0, 1, 1, model_id, "m", "digits", model.dataset_id, digest)
        assert claimed() == wanted

    def test_nothing_is_left_when_all_are_held(self, model_id: int) -> None:
        order(model_id)
        assert [claimed().number for _ in range(4)] == [0, 1, 2, 3]
        assert claim() is None

    def test_an_expired_lease_is_taken_over_and_the_late_one_writes_nothing(self, model_id: int) -> None:
        order(model_id)
        lost = claimed()
        expire()
        taken = claimed("w2")
        assert (taken.number, taken.epoch, taken.attempt) == (0, 2, 2)
        before = everything()
        writes: list[Callable[[], object]] = [
            lambda: complete(lost),
            lambda: fail(lost),
            lambda: fail(lost, again=False),
        ]
        for write in writes:
            with pytest.raises(StaleEpoch):
                write()
        with transaction() as session:
            assert not references.heartbeat(session, lost, 0.9)
        assert everything() == before
        complete(taken)
        assert states()[0] == "done"

    def test_a_lease_that_is_renewed_holds(self, model_id: int) -> None:
        order(model_id)
        lease = claimed()
        expire()
        with transaction() as session:
            assert references.heartbeat(session, lease, 0.5)
        assert claimed("w2").number == 1
        assert story.all_of(Reference)[0].progress == 0.5

    def test_a_failure_rests_and_then_is_tried_again_until_attempts_are_spent(self, model_id: int) -> None:
        order(model_id)
        for attempt in range(1, settings().max_attempts + 1):
            lease = claimed()
            assert (lease.number, lease.attempt) == (0, attempt)
            fail(lease)
            if attempt < settings().max_attempts:
                with transaction() as session:
                    assert references.due(session) == 3, "it rests"
            rested()
        row = story.all_of(Reference)[0]
        assert (row.state, row.failure) == (ReferenceState.FAILED, "it broke")
        assert [event["again"] for event in events("reference.failed")] == [True, True, False]

    def test_one_whose_workers_were_all_lost_has_failed(self, model_id: int) -> None:
        order(model_id)
        for _ in range(settings().max_attempts):
            assert claimed().number == 0
            expire()
        assert claimed().number == 1
        assert story.all_of(Reference)[0].failure == "its worker was lost in each attempt"


class TestTable:
    def test_a_whole_group_makes_a_table_and_its_own_scores_are_named_no_more(self, model_id: int) -> None:
        order(model_id)
        for part in range(4):
            assert held(model_id).whole == [], part
            complete(claimed())
        assert held(model_id).whole == [0, 1, 2, 3]
        assembled(model_id)
        made = bank()
        assert (made.state, made.digest) == (BankState.READY, "ab" * 32)
        assert made.facts == {"references": 4, "samples": 20, "bytes": 100, "seconds": 8.0}
        assert [row.digest for row in story.all_of(Reference)] == [None] * 4
        (event,) = events("bank.ready")
        assert (event["table"], event["references"]) == (made.digest, 4)

    def test_of_two_who_assemble_one_is_told_to_read_again(self, model_id: int) -> None:
        order(model_id)
        for _ in range(4):
            complete(claimed())
        seen = held(model_id)
        assembled(model_id)
        before = everything()
        with pytest.raises(banks.Changed), transaction() as session:
            banks.assembled(session, seen, seen.whole, "cd" * 32, {"references": 4, "samples": 20}, seen_gone(model_id))
        assert everything() == before

    def test_scores_with_a_row_that_was_forgotten_meanwhile_are_not_kept(self, model_id: int) -> None:
        order(model_id)
        lease, before = claimed(), seen_gone(model_id)
        story.submit(3)
        story.work(model_id)
        with pytest.raises(banks.Changed):
            complete(lease, before)
        complete(lease)

    def test_what_waits_for_its_update_is_not_forgotten_yet(self, model_id: int) -> None:
        story.submit(3)
        assert list(seen_gone(model_id)) == []
        story.submit(3, 4, reason=Reason.UNLAWFUL_TRAINING)
        assert list(seen_gone(model_id)) == [3, 4], "they get no update, so nothing needs them"
        story.work(model_id)
        story.submit(5)
        assert list(seen_gone(model_id)) == [3, 4]
        story.work(model_id)
        assert list(seen_gone(model_id)) == [3, 4, 5]

    def test_a_ticket_that_is_taken_back_was_never_there(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.PATIENT)
        ticket = story.submit(3)
        story.cancel(ticket)
        assert list(seen_gone(model_id)) == []


def seen_gone(model_id: int) -> Any:
    with transaction() as session:
        return lineage.forgotten(session, model_id)


def update_of(model_id: int) -> tuple[runs.Lease, runs.Candidate]:
    """An update that is about to be published."""
    story.submit(1)
    lease = story.closed(model_id)
    return lease, story.candidate(lease, b"updated", story.record(lease, b"updated"))


class TestPublication:
    def test_the_rows_leave_with_the_version_in_one_commit(self, model_id: int) -> None:
        ready(model_id)
        lease, offered = update_of(model_id)
        seen = held(model_id)
        with transaction() as session:
            runs.publish(session, lease, offered, banks.Purge(seen, "cd" * 32, {}, 1, {"samples": 19}))
        assert (bank().digest, bank().facts) == ("cd" * 32, {"samples": 19})
        assert events("bank.purged") == [{"bank": seen.bank_id, "table": "cd" * 32, "samples": 1, "references": 0}]

    @pytest.mark.parametrize("when", ["before its first scores", "before its table", "after it"])
    def test_a_bank_that_changed_meanwhile_is_read_again(self, model_id: int, when: str) -> None:
        order(model_id, 8)
        if when == "before its table":
            complete(claimed())
        if when == "after it":
            for _ in range(4):
                complete(claimed())
            assembled(model_id)
        seen = held(model_id)
        purge = banks.Purge(seen, seen.digest, {}, 0, seen.facts) if seen.digests else None
        lease, offered = update_of(model_id)
        complete(claimed())
        before = everything()
        with pytest.raises(banks.Changed), transaction() as session:
            runs.publish(session, lease, offered, purge)
        assert everything() == before
        now = held(model_id)
        with transaction() as session:
            runs.publish(session, lease, offered, banks.Purge(now, now.digest, {}, 0, now.facts))
        assert events("bank.purged") == []

    def test_scores_that_cannot_be_read_are_made_again(self, model_id: int) -> None:
        order(model_id)
        complete(claimed())
        lease, offered = update_of(model_id)
        with transaction() as session:
            runs.publish(session, lease, offered, banks.Purge(held(model_id), None, {0: None}, 0, None))
        assert states() == ["pending"] * 4

    def test_a_table_that_cannot_be_read_ends_the_bank(self, model_id: int) -> None:
        ready(model_id)
        lease, offered = update_of(model_id)
        with transaction() as session:
            runs.publish(session, lease, offered, banks.Purge(held(model_id), None, {}, 0, None, unusable="damaged"))
        assert (bank().state, bank().digest) == (BankState.RETIRED, None)
        assert events("bank.retired")[0]["why"] == "damaged"

    def test_a_publication_and_a_completion_at_once_do_not_block_each_other(self, model_id: int) -> None:
        """Each wants the bank and the log's head."""
        order(model_id)
        first, second = claimed(), claimed()
        lease, offered = update_of(model_id)
        errors: list[banks.Changed] = []

        def finish() -> None:
            try:
                complete(second)
            except banks.Changed as error:
                errors.append(error)

        late = threading.Thread(target=finish)
        with transaction() as session:
            runs.publish(session, lease, offered)
            late.start()
            late.join(0.2)
            assert late.is_alive(), "it waits for the publication"
        late.join()
        assert [type(error) for error in errors] == [banks.Changed]
        complete(first)


class TestRetrain:
    def test_it_ends_the_bank_and_whoever_trains_for_it(self, model_id: int) -> None:
        order(model_id, 8)
        for _ in range(5):
            complete(claimed())
        assembled(model_id)
        lost = claimed()
        story.retrain(model_id)
        story.work(model_id)
        made = bank()
        assert (made.state, made.digest) == (BankState.RETIRED, None)
        assert made.retired_at is not None
        assert states() == ["done"] * 5 + ["failed"] * 3
        assert [row.digest for row in story.all_of(Reference)] == [None] * 8
        with pytest.raises(StaleEpoch):
            complete(lost)
        assert claim() is None
        assert [event["why"] for event in events("bank.retired")] == ["version 2 was trained"]

    def test_a_new_one_may_be_ordered_then(self, model_id: int) -> None:
        order(model_id)
        story.retrain(model_id)
        story.work(model_id)
        again = order(model_id)
        assert again.version_id == story.all_of(Version)[-1].id
        assert len(story.all_of(Bank)) == 2

    def test_the_policy_builds_one_after_every_training(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=TRAINING)
        assert (bank().wanted, bank().requested_by) == (4, "expunge")
        assert sweep.references_due() == 4
        story.submit(1)
        story.work(model_id)
        assert len(story.all_of(Bank)) == 1, "an update has no bank of its own"
        story.retrain(model_id)
        story.work(model_id)
        first, second = story.all_of(Bank)
        assert (first.state, second.state, second.version_id) == ("retired", "building", story.all_of(Version)[-1].id)


class TestSweep:
    def test_lost_bells_are_found(self, model_id: int) -> None:
        assert sweep.references_due() == 0
        order(model_id)
        assert sweep.references_due() == 4
        claimed()
        assert sweep.references_due() == 3
        expire()
        assert sweep.references_due() == 4

    def test_a_table_that_nobody_has_put_together_is_found(self, model_id: int) -> None:
        order(model_id)
        for _ in range(4):
            complete(claimed())
        assert sweep.references_due() == 1
        assembled(model_id)
        assert sweep.references_due() == 0

    def test_what_a_bank_names_is_kept_and_nothing_else(self, model_id: int) -> None:
        order(model_id, 8)
        digests = [complete(claimed()) for _ in range(5)]
        assert set(digests) <= sweep.referenced()
        assembled(model_id)
        assert sweep.referenced() & {*digests, "ab" * 32} == {digests[4], "ab" * 32}
