"""Claims, leases, publication and failure: every write of a run that lost its batch must change nothing."""

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from app import runs
from app.config import settings
from app.db import engine, transaction
from app.errors import StaleEpoch
from app.tables import (
    Batch,
    BatchKind,
    BatchState,
    Model,
    ObligationState,
    Run,
    TicketState,
    Verdict,
    Version,
    VersionKind,
)
from tests.app import story


@pytest.fixture
def model_id(database: str) -> int:
    story.dataset()
    return story.trained()


def everything() -> list[Any]:
    """All that a run may write, to be compared before and after."""
    tables = ("batch", "run", "verdict", "version", "obligation", "ticket", "model", "audit_event")
    with engine().connect() as connection:
        return [connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).all() for table in tables]


class TestClaim:
    def test_of_two_workers_one_gets_the_batch(self, model_id: int) -> None:
        story.submit(1)
        story.close(model_id)
        barrier, leases = threading.Barrier(2), []

        def take(worker: str) -> None:
            barrier.wait()
            leases.append(story.claim(model_id, worker))

        threads = [threading.Thread(target=take, args=(f"w{i}",)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([lease for lease in leases if lease is not None]) == 1

    def test_nothing_is_taken_while_a_lease_holds(self, model_id: int) -> None:
        story.submit(1)
        story.closed(model_id)
        story.retrain(model_id)
        assert story.claim(model_id, "w2") is None

    def test_a_model_that_does_not_exist(self, database: str) -> None:
        assert story.claim(4711) is None

    def test_a_lease_says_all_that_a_worker_needs(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        (first,) = story.all_of(Version)
        assert (lease.model, lease.problem, lease.kind, lease.attempt, lease.epoch) == (
            "m",
            "digits",
            BatchKind.UNLEARN,
            1,
            1,
        )
        assert lease.parent == runs.Parent(first.id, 1, first.weights_digest, None)

    def test_the_database_allows_one_running_batch_a_model(self, model_id: int) -> None:
        story.submit(1)
        story.closed(model_id)
        other = story.retrain(model_id)
        running = update(Batch).where(Batch.id == other).values(state=BatchState.RUNNING)
        with pytest.raises(IntegrityError), transaction() as session:
            session.execute(running)


class TestLostLease:
    def test_another_worker_takes_it_over_with_the_next_epoch(self, model_id: int) -> None:
        story.submit(1)
        lost = story.closed(model_id)
        story.expire(lost)
        taken = story.claimed(model_id, "w2")
        assert (taken.batch_id, taken.epoch, taken.attempt) == (lost.batch_id, 2, 2)
        ends = [(run.epoch, run.worker, run.outcome) for run in story.all_of(Run) if run.batch_id == lost.batch_id]
        assert ends == [(1, "w1", None), (2, "w2", None)]

    def test_whatever_it_then_writes_changes_nothing(self, model_id: int) -> None:
        story.submit(1)
        lost = story.closed(model_id)
        offered = story.candidate(lost, b"bytes", story.record(lost, b"bytes"))
        (parent,) = story.all_of(Version)
        story.expire(lost)
        story.claimed(model_id, "w2")
        before = everything()
        with transaction() as session:
            assert not runs.heartbeat(session, lost, rung="iau", step="late", progress=0.9)
        writes: list[Callable[[Any], object]] = [
            lambda session: runs.publish(session, lost, offered),
            lambda session: runs.fail(session, lost, "late", again=True),
            lambda session: runs.fail(session, lost, "late", again=False),
            lambda session: runs.absorb(session, lost),
            lambda session: runs.escalate(session, lost, "iau", "retrain", ["late"]),
            lambda session: runs.nothing_left(session, lost),
        ]
        for write in writes:
            with pytest.raises(StaleEpoch), transaction() as session:
                write(session)
        with pytest.raises(StaleEpoch):
            story.record(lost, b"late")
        assert everything() == before
        assert story.model(model_id).current_version_id == parent.id

    def test_a_lease_that_ran_out_is_still_good_until_it_is_taken(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.expire(lease)
        with transaction() as session:
            assert runs.heartbeat(session, lease, rung="iau", step="searching", progress=0.5)
        assert story.claim(model_id, "w2") is None
        batch = story.batch(lease.batch_id)
        assert (batch.rung, batch.step, batch.progress) == ("iau", "searching", 0.5)
        story.publish(lease)

    def test_a_late_worker_that_publishes_is_not_stopped_by_the_one_that_wants_its_batch(self, model_id: int) -> None:
        """The one has the batch and wants the model, the other the model and the batch: one must step back."""
        story.submit(1)
        lease = story.closed(model_id)
        offered = story.candidate(lease, b"bytes", story.record(lease, b"bytes"))
        story.expire(lease)
        with transaction() as session:
            runs.fenced(session, lease)
            assert story.claim(model_id, "w2") is None
            runs.publish(session, lease, offered)
        assert story.batch(lease.batch_id).state is BatchState.PUBLISHED


class TestPublish:
    def test_one_commit_moves_everything(self, model_id: int) -> None:
        ticket_id = story.submit(1, 2)
        lease = story.closed(model_id)
        version = story.publish(lease, b"weights")
        assert (version.number, version.kind, version.forgotten, version.excluded_count) == (
            2,
            VersionKind.UNLEARNED,
            2,
            2,
        )
        assert story.model(model_id).current_version_id == version.id
        batch = story.batch(lease.batch_id)
        assert (batch.state, batch.lease_until, batch.progress) == (BatchState.PUBLISHED, None, 1.0)
        owed = story.obligation(ticket_id, model_id)
        assert (owed.state, owed.version_id) == (ObligationState.FULFILLED, version.id)
        assert story.ticket(ticket_id).state is TicketState.FULFILLED

    def test_the_parent_must_still_be_current(self, model_id: int) -> None:
        story.submit(1)
        story.work(model_id)
        first, second = story.all_of(Version)
        story.submit(2)
        lease = story.closed(model_id)
        offered = story.candidate(lease, b"bytes", story.record(lease, b"bytes"))
        with transaction() as session:
            session.execute(update(Model).values(current_version_id=first.id))
        with pytest.raises(StaleEpoch), transaction() as session:
            runs.publish(session, lease, offered)
        assert len(story.all_of(Version)) == 2
        assert lease.parent is not None
        assert lease.parent.id == second.id

    @pytest.mark.parametrize("without_parent", [False, True])
    def test_two_versions_never_share_a_parent(self, model_id: int, without_parent: bool) -> None:
        story.submit(1)
        story.work(model_id)
        copy = (
            "INSERT INTO version (model_id, number, kind, parent_id, batch_id, verdict_id, decision, weights_digest,"
            " weights_bytes, manifest_digest, excluded_digest, excluded_count, forgotten, environment)"
            " SELECT model_id, 9, kind, parent_id, :batch, verdict_id, decision, weights_digest, weights_bytes,"
            " manifest_digest, excluded_digest, excluded_count, forgotten, environment FROM version WHERE number = :n"
        )
        batch_id = story.retrain(model_id)
        with pytest.raises(IntegrityError, match="uq_version_model_id_parent_id"), transaction() as session:
            session.execute(text(copy), {"batch": batch_id, "n": 1 if without_parent else 2})

    @pytest.mark.parametrize("fault", ["other bytes", "escalate", "inconclusive", "no verdict"])
    def test_the_database_refuses_what_no_verdict_publishes(self, model_id: int, fault: str) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        judgement = {
            "escalate": story.ESCALATE,
            "inconclusive": runs.Judgement(story.Decision.INCONCLUSIVE, ["crosses"]),
        }.get(fault, story.PUBLISH)
        verdict_id = story.record(lease, b"judged", judgement)
        offered = story.candidate(
            lease, b"other" if fault == "other bytes" else b"judged", 4711 if fault == "no verdict" else verdict_id
        )
        with pytest.raises(IntegrityError, match="fk_version_verdict_id"), transaction() as session:
            runs.publish(session, lease, offered)
        assert len(story.all_of(Version)) == 1

    def test_no_version_says_anything_but_publish(self, model_id: int) -> None:
        with pytest.raises(IntegrityError, match="published_on_a_verdict"), transaction() as session:
            session.execute(update(Version).values(decision="escalate"))

    def test_a_fulfilled_obligation_names_its_version(self, model_id: int) -> None:
        story.submit(1)
        with pytest.raises(IntegrityError, match="fulfilled_by_a_version"), transaction() as session:
            session.execute(text("UPDATE obligation SET state = 'fulfilled'"))

    def test_the_parents_gradient_sum_is_given_up(self, model_id: int) -> None:
        with transaction() as session:
            session.execute(update(Version).values(gradients_digest="ab" * 32))
        story.submit(1)
        story.work(model_id)
        first, second = story.all_of(Version)
        assert first.gradients_digest is None
        assert first.superseded_at is not None
        assert second.superseded_at is None


class TestStop:
    """Whenever a stop lands, what is not published yet will not be."""

    def test_before_the_verdict(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.stop(model_id, "coverage is short")
        verdict_id = story.record(lease, b"bytes")
        (verdict,) = [row for row in story.all_of(Verdict) if row.id == verdict_id]
        assert verdict.decision is story.Decision.INCONCLUSIVE
        assert verdict.reasons == ["approximate updates are stopped: coverage is short", *story.PUBLISH.reasons]

    def test_between_verdict_and_publication(self, model_id: int) -> None:
        ticket_id = story.submit(1)
        lease = story.closed(model_id)
        offered = story.candidate(lease, b"bytes", story.record(lease, b"bytes"))
        story.stop(model_id, "coverage is short")
        with pytest.raises(runs.Stopped, match="coverage is short"), transaction() as session:
            runs.publish(session, lease, offered)
        assert len(story.all_of(Version)) == 1
        version = story.publish(lease, kind=VersionKind.RETRAINED)
        assert story.obligation(ticket_id, model_id).version_id == version.id

    def test_a_rung_is_not_even_tried(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.stop(model_id)
        with transaction() as session:
            assert runs.barred(session, lease, "iau") == "approximate updates are stopped: for the test"

    def test_what_does_not_pass_keeps_its_reasons(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.stop(model_id)
        story.record(lease, b"bytes", story.ESCALATE)
        assert story.all_of(Verdict)[-1].reasons == story.ESCALATE.reasons

    def test_trainings_go_on(self, model_id: int) -> None:
        story.stop(model_id)
        story.retrain(model_id)
        (version,) = story.work(model_id)
        assert version.kind is VersionKind.RETRAINED


class TestAttempts:
    """One split of the audit's data may judge two sets of weights of a batch, however often it is run."""

    @staticmethod
    def attempt(lease: runs.Lease, rung: str, weights: bytes) -> int | None:
        with transaction() as session:
            return runs.attempt(session, lease, rung, hashlib.sha256(weights).hexdigest())

    @staticmethod
    def barred(lease: runs.Lease, rung: str) -> str | None:
        with transaction() as session:
            return runs.barred(session, lease, rung)

    def test_two_rungs_are_two(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        assert self.attempt(lease, "iau", b"a") == 1
        story.record(lease, b"a", story.ESCALATE)
        assert self.attempt(lease, "iau-calibrated", b"b") == 2
        story.record(lease, b"b", story.ESCALATE, "iau-calibrated")
        shares = [(v.thresholds["attempt"], v.thresholds["attempt_error"]) for v in story.all_of(Verdict)[1:]]
        assert shares == [(1, pytest.approx(0.03)), (2, pytest.approx(0.02))]

    def test_the_same_bytes_after_a_crash_are_the_same_attempt(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.record(lease, b"a", story.ESCALATE)
        story.record(lease, b"b", story.PUBLISH, "iau-calibrated")
        story.expire(lease)
        again = story.claimed(model_id, "w2")
        for rung, weights, number in (("iau", b"a", 1), ("iau-calibrated", b"b", 2)):
            assert self.barred(again, rung) is None
            assert self.attempt(again, rung, weights) == number
        story.record(again, b"a", story.ESCALATE)
        offered = story.candidate(again, b"b", story.record(again, b"b", story.PUBLISH, "iau-calibrated"))
        with transaction() as session:
            assert runs.publish(session, again, offered).number == 2

    def test_other_bytes_after_a_crash_get_no_third(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.record(lease, b"a", story.ESCALATE)
        story.expire(lease)
        again = story.claimed(model_id, "w2")
        assert self.attempt(again, "iau", b"other") == 2
        story.record(again, b"other", story.ESCALATE)
        assert self.barred(again, "iau-calibrated") == runs.SPENT
        assert self.attempt(again, "iau-calibrated", b"b") is None
        with pytest.raises(AssertionError, match="attempts are spent"):
            story.record(again, b"b", story.PUBLISH, "iau-calibrated")

    def test_a_ladder_with_one_rung_has_one(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.EAGER | {"ladder": ["iau", "retrain"]})
        story.submit(1)
        lease = story.closed(model_id)
        story.record(lease, b"a", story.ESCALATE)
        assert story.all_of(Verdict)[-1].thresholds["attempt_error"] == 0.05
        assert self.attempt(lease, "iau", b"other") is None

    def test_a_longer_ladder_of_an_earlier_release_gets_no_third(self, model_id: int) -> None:
        story.submit(1)
        batch = story.close(model_id)
        assert batch is not None
        with transaction() as session:
            session.get_one(Batch, batch.id).policy = batch.policy | {
                "ladder": ["iau", "iau-calibrated", "scrub", "retrain"]
            }
        lease = story.claimed(model_id)
        story.record(lease, b"a", story.ESCALATE)
        story.record(lease, b"b", story.ESCALATE, "iau-calibrated")
        assert self.barred(lease, "scrub") == runs.SPENT


class TestFailure:
    def test_another_attempt_waits_longer_each_time(self, model_id: int) -> None:
        ticket_id = story.submit(1)
        lease = story.closed(model_id)
        for attempt in (1, 2):
            assert lease.attempt == attempt
            story.fail(lease, "disk full")
            rest = text("SELECT extract(epoch FROM not_before - now()) FROM batch WHERE id = :id")
            with transaction() as session:
                wait = session.scalar(rest, {"id": lease.batch_id})
            assert 0 < float(wait or 0) <= settings().retry_seconds * attempt
            assert float(wait or 0) > settings().retry_seconds * (attempt - 1)
            assert story.claim(model_id) is None
            story.rested(model_id)
            lease = story.claimed(model_id)
        story.fail(lease, "disk full")
        batch = story.batch(lease.batch_id)
        assert (batch.state, batch.failure) == (BatchState.QUARANTINED, "disk full")
        assert story.ticket(ticket_id).state is TicketState.QUARANTINED
        assert story.obligation(ticket_id, model_id).state is ObligationState.QUARANTINED
        outcomes = [run.outcome for run in story.all_of(Run) if run.batch_id == batch.id]
        assert outcomes == ["failed"] * 3

    def test_a_worker_lost_in_each_attempt_is_noticed_by_the_next_claim(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        for _ in range(settings().max_attempts - 1):
            story.expire(lease)
            lease = story.claimed(model_id)
        story.expire(lease)
        assert story.claim(model_id) is None
        batch = story.batch(lease.batch_id)
        assert batch.state is BatchState.QUARANTINED
        assert batch.failure == "its worker was lost in each attempt"

    def test_a_limit_lowered_while_a_batch_waits(self, model_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        story.fail(lease)
        story.rested(model_id)
        monkeypatch.setattr(settings(), "max_attempts", 1)
        assert story.claim(model_id) is None
        assert story.batch(lease.batch_id).state is BatchState.QUARANTINED

    def test_what_will_not_help_is_not_tried_again(self, model_id: int) -> None:
        story.submit(1), story.submit(2)
        lease = story.closed(model_id)
        story.fail(lease, "the parent's weights are gone", again=False)
        assert story.batch(lease.batch_id).state is BatchState.QUARANTINED

    def test_a_batch_that_keeps_failing_is_halved_until_the_poison_stands_alone(self, model_id: int) -> None:
        made = [story.submit(i) for i in range(5)]
        poison = made[3]
        story.close(model_id)
        for _ in range(200):
            lease = story.claim(model_id)
            if lease is None:
                if not [b for b in story.all_of(Batch) if b.state in (BatchState.READY, BatchState.RUNNING)]:
                    break
                story.rested(model_id)
            elif story.obligation(poison, model_id).batch_id == lease.batch_id:
                story.fail(lease)
            else:
                story.publish(lease)
        states = [story.ticket(ticket_id).state for ticket_id in made]
        assert states == [TicketState.FULFILLED] * 3 + [TicketState.QUARANTINED, TicketState.FULFILLED]
        split = [b for b in story.all_of(Batch) if b.state is BatchState.SPLIT]
        assert split
        for parent in split:
            assert len([b for b in story.all_of(Batch) if b.split_from_id == parent.id]) == 2

    def test_a_retrain_that_fails_keeps_its_tickets_together(self, model_id: int) -> None:
        made = [story.submit(1), story.submit(2)]
        story.retrain(model_id)
        lease = story.claimed(model_id)
        with transaction() as session:
            runs.absorb(session, lease)
        story.fail(lease, again=False)
        assert {story.ticket(t).state for t in made} == {TicketState.QUARANTINED}
        story.retrain(model_id)
        story.work(model_id)
        assert {story.ticket(t).state for t in made} == {TicketState.FULFILLED}


class TestAbsorb:
    def test_a_retrain_takes_everything_that_is_owed(self, model_id: int) -> None:
        quarantined = story.submit(1)
        story.fail(story.closed(model_id), again=False)
        batched = story.submit(2)
        waiting_batch = story.close(model_id)
        pending = story.submit(3)
        story.retrain(model_id)
        assert waiting_batch is not None
        with transaction() as session:  # the retrain is the older of the two
            session.execute(update(Batch).where(Batch.id == waiting_batch.id).values(created_at=text("now()")))
        lease = story.claimed(model_id)
        while lease.kind is not BatchKind.RETRAIN:
            story.fail(lease)
            lease = story.claimed(model_id)
        with transaction() as session:
            runs.absorb(session, lease)
        for ticket_id in (quarantined, batched, pending):
            assert story.obligation(ticket_id, model_id).batch_id == lease.batch_id
            assert story.ticket(ticket_id).state is TicketState.WORKING
        emptied = story.batch(waiting_batch.id)
        assert (emptied.state, emptied.failure) == (BatchState.CANCELLED, f"absorbed by batch {lease.batch_id}")
        version = story.publish(lease)
        assert version.kind is VersionKind.RETRAINED
        assert version.excluded_count == 3
        assert story.work(model_id) == []

    def test_a_ticket_that_comes_after_it_waits_for_the_next_batch(self, model_id: int) -> None:
        story.retrain(model_id)
        lease = story.claimed(model_id)
        with transaction() as session:
            runs.absorb(session, lease)
        late = story.submit(1)
        offered = story.candidate(lease, b"bytes", story.record(lease, b"bytes"))
        with transaction() as session:
            runs.publish(session, lease, offered)
        assert story.ticket(late).state is TicketState.PENDING

    def test_the_last_rung_of_an_update_absorbs_too(self, model_id: int) -> None:
        story.submit(1)
        lease = story.closed(model_id)
        late = story.submit(2)
        story.record(lease, b"update", story.ESCALATE)
        version = story.publish(lease, b"retrained", VersionKind.RETRAINED)
        assert version.forgotten == 2
        assert story.ticket(late).state is TicketState.FULFILLED


class TestRelease:
    @staticmethod
    def model(release: str) -> int:
        story.dataset()
        return story.trained(policy=story.EAGER | {"release": release})

    def test_on_publication(self, database: str) -> None:
        model_id = self.model("publish")
        ticket_id = story.submit(1)
        story.work(model_id)
        assert story.ticket(ticket_id).data_releasable_at is not None

    def test_on_backfill(self, database: str) -> None:
        model_id = self.model("backfill")
        first, second = story.submit(1), story.submit(2)
        story.work(model_id)
        assert story.ticket(first).data_releasable_at is None
        story.retrain(model_id)
        retrained = story.work(model_id)[0]
        for ticket_id in (first, second):
            assert story.ticket(ticket_id).data_releasable_at is not None
        tried = [v for v in story.all_of(Verdict) if v.rung == "iau"]
        assert [(v.truth, v.truth_version_id) for v in tried] == [({"mu": 0.0, "ue": 0.0}, retrained.id)]

    def test_a_retrain_releases_its_own_tickets_at_once(self, database: str) -> None:
        model_id = self.model("backfill")
        ticket_id = story.submit(1, tier=story.RiskTier.HIGH)
        story.work(model_id)
        assert story.ticket(ticket_id).data_releasable_at is not None

    def test_every_model_must_have_released(self, database: str) -> None:
        story.dataset()
        eager = story.trained("eager", policy=story.EAGER | {"release": "publish"})
        careful = story.trained("careful")
        ticket_id = story.submit(1)
        story.work(eager), story.work(careful)
        ticket = story.ticket(ticket_id)
        assert ticket.state is TicketState.FULFILLED
        assert ticket.data_releasable_at is None
        story.retrain(careful)
        story.work(careful)
        assert story.ticket(ticket_id).data_releasable_at is not None

    def test_a_truth_is_measured_once(self, database: str) -> None:
        model_id = self.model("backfill")
        story.submit(1)
        story.work(model_id)
        for _ in range(2):
            story.retrain(model_id)
            story.work(model_id)
        (tried,) = [v for v in story.all_of(Verdict) if v.rung == "iau"]
        second = next(v for v in story.all_of(Version) if v.kind is VersionKind.RETRAINED)
        assert tried.truth_version_id == second.id


def test_the_open_batch_is_shown(model_id: int) -> None:
    with transaction() as session:
        assert runs.running(session, model_id) is None
    story.submit(1)
    lease = story.closed(model_id)
    with transaction() as session:
        found = runs.running(session, model_id)
        assert found is not None
        assert found.id == lease.batch_id
