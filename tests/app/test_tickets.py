"""Intake and the ends of a ticket, at the domain functions."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app import audit, batches, runs, tickets
from app.db import engine, transaction
from app.errors import Conflict, InFlight, KeyReused, NotFound, NothingKnown
from app.tables import (
    AuditEvent,
    BatchState,
    Idempotency,
    Model,
    Obligation,
    ObligationState,
    Ticket,
    TicketState,
    Tombstone,
)
from tests.app import story


def counts(ticket: Ticket) -> tuple[int, int, int, int]:
    return ticket.accepted, ticket.unknown, ticket.already_forgotten, ticket.pending_elsewhere


def kinds(**where: Any) -> list[str]:
    with transaction() as session:
        return [event["kind"] for event in audit.timeline(session, **where)]


def test_samples_and_subjects_that_overlap_are_counted_once(database: str) -> None:
    dataset_id = story.dataset(samples=10)
    ticket = story.ticket(story.submit(0, 1, 4, subjects=["p-0", "p-3", "p-99"]))  # p-0 has 0 and 1, p-3 has 6 and 7
    assert counts(ticket) == (5, 1, 0, 0)
    assert story.tombstoned(dataset_id) == [0, 1, 4, 6, 7]


def test_every_status_is_counted(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(0, 1)
    story.work(model_id)
    story.submit(2, 3)
    mixed = story.submit(1, 2, 3, 4, 77, 78, subjects=["p-0", "nobody"])
    assert counts(story.ticket(mixed)) == (1, 3, 2, 2)
    assert story.obligation(mixed, model_id).samples == 3  # 2, 3 and 4: the model forgot 0 and 1


def test_a_ticket_of_unknown_ids_leaves_nothing(database: str) -> None:
    story.dataset()
    story.register()
    with pytest.raises(NothingKnown):
        story.submit(77, subjects=["nobody"])
    assert not story.all_of(Ticket)
    assert not story.all_of(Tombstone)


def test_an_unknown_dataset(database: str) -> None:
    with pytest.raises(NotFound):
        story.submit(1, dataset="elsewhere")


def test_ids_with_odd_characters_are_found(database: str) -> None:
    odd = ["back\\slash", "tab\there", "'quote'", "%s", "{brace}", "NULL", "\\N", "Straße 😀", "e\u0301", "é", " x "]
    dataset_id = story.load("odd", [(f'"{o}"', None) for o in odd])
    with transaction() as session:
        asked = story.submission(dataset="odd")
        asked.sample_ids.extend(odd)
        tickets.submit(session, "tool", asked)
    assert story.tombstoned(dataset_id) == list(range(len(odd)))


def test_an_error_after_the_tombstones_leaves_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story.dataset()
    story.register()

    def broken(*_: object) -> None:
        raise RuntimeError("after bury")

    monkeypatch.setattr(tickets, "owe", broken)
    with transaction() as session:
        before = session.scalar(text("SELECT seq FROM audit_head"))
    with pytest.raises(RuntimeError), transaction() as session:
        tickets.submit(session, "tool", story.submission(1, 2), "key", b"body")
    for table in (Ticket, Tombstone, Obligation, Idempotency):
        assert not story.all_of(table)
    with transaction() as session:
        assert session.scalar(text("SELECT seq FROM audit_head")) == before


def test_a_ticket_that_nobody_owes_is_fulfilled_at_once(database: str) -> None:
    story.dataset()
    ticket = story.ticket(story.submit(1))
    assert (ticket.state, ticket.obligations) == (TicketState.FULFILLED, [])
    assert ticket.closed_at is not None
    assert ticket.data_releasable_at is not None
    assert kinds(ticket_id=ticket.id) == ["ticket.accepted", "ticket.fulfilled", "ticket.data_releasable"]


def test_a_later_ticket_for_a_sample_still_needed_is_not_releasable_before_it(database: str) -> None:
    """It owes nothing, but the truth about the sample it names is still to be measured."""
    story.dataset()
    model_id = story.trained()
    first = story.submit(1, 2)
    story.work(model_id)
    later = story.submit(2)
    assert story.ticket(later).state is TicketState.FULFILLED
    assert story.ticket(later).data_releasable_at is None
    assert story.ticket(first).data_releasable_at is None
    story.retrain(model_id)
    story.work(model_id)
    assert story.ticket(first).data_releasable_at is not None
    assert story.ticket(later).data_releasable_at is not None


class TestIdempotency:
    @staticmethod
    def submit(key: str, body: bytes = b"one", client: str = "tool") -> tickets.Accepted:
        with transaction() as session:
            return tickets.submit(session, client, story.submission(1), key, body)

    def test_a_replay_names_the_same_ticket(self, database: str) -> None:
        story.dataset()
        first, again = self.submit("k"), self.submit("k")
        assert (first.replayed, again.replayed) == (False, True)
        assert first.ticket_id == again.ticket_id
        assert len(story.all_of(Ticket)) == 1

    def test_another_body_is_refused(self, database: str) -> None:
        story.dataset()
        self.submit("k")
        with pytest.raises(KeyReused):
            self.submit("k", b"two")

    def test_a_key_belongs_to_its_client(self, database: str) -> None:
        story.dataset()
        assert self.submit("k").ticket_id != self.submit("k", client="other").ticket_id

    def test_a_key_in_flight_is_refused_and_free_after_a_failure(self, database: str) -> None:
        story.dataset()
        with Session(engine()) as session:
            tickets.submit(session, "tool", story.submission(1), "k", b"one")
            with pytest.raises(InFlight):
                self.submit("k")
            session.rollback()  # the first request dies
        assert not self.submit("k").replayed

    def test_old_keys_are_pruned(self, database: str) -> None:
        story.dataset()
        self.submit("old"), self.submit("young")
        with transaction() as session:
            aged = update(Idempotency).where(Idempotency.key == "old")
            session.execute(aged.values(created_at=func.now() - timedelta(days=91)))
        with transaction() as session:
            tickets.forget_old_keys(session, 90)
        assert [row.key for row in story.all_of(Idempotency)] == ["young"]


def test_an_external_id_is_taken_for_its_client_alone(database: str) -> None:
    story.dataset()
    first = story.submit(1, external_id="case-1")
    with pytest.raises(Conflict) as refused:
        story.submit(2, external_id="case-1")
    assert refused.value.headers == {"Location": f"/deletions/{first}"}
    story.submit(2, external_id="case-1", client="other")
    assert len(story.all_of(Tombstone)) == 2


class TestCancel:
    def test_the_samples_are_trainable_again_unless_another_ticket_names_them(self, database: str) -> None:
        dataset_id = story.dataset()
        model_id = story.trained(policy=story.PATIENT)
        first, second = story.submit(1, 2), story.submit(2, 3)
        story.cancel(first)
        assert story.tombstoned(dataset_id) == [2, 3]
        ticket = story.ticket(first)
        assert (ticket.state, ticket.data_removed_at) == (TicketState.CANCELLED, None)
        assert ticket.closed_at is not None
        assert story.obligation(first, model_id).state is ObligationState.CANCELLED
        with transaction() as session:
            batches.flush(session, session.get_one(Model, model_id), "op")
        assert story.forget_set(story.closed(model_id)) == [2, 3]
        assert story.ticket(second).state is TicketState.WORKING

    def test_a_cancelled_ticket_is_no_witness_that_a_sample_was_forgotten(self, database: str) -> None:
        story.dataset()
        model_id = story.trained(policy=story.PATIENT)
        first = story.submit(1)
        second = story.submit(1)
        story.cancel(first)
        assert story.obligation(second, model_id).samples == 1
        third = story.submit(1)
        assert story.obligation(third, model_id).samples == 1

    def test_it_says_who(self, database: str) -> None:
        story.dataset()
        story.register()
        ticket_id = story.submit(1)
        with transaction() as session:
            tickets.cancel(session, None, ticket_id, "the admin")
            assert audit.timeline(session, ticket_id=ticket_id)[-1]["actor"] == "the admin"

    @pytest.mark.parametrize("stage", ["batched", "fulfilled", "cancelled"])
    def test_it_is_refused_once_a_batch_has_it_or_it_has_ended(self, database: str, stage: str) -> None:
        story.dataset()
        model_id = story.trained()
        ticket_id = story.submit(1)
        if stage == "cancelled":
            story.cancel(ticket_id)
        else:
            lease = story.closed(model_id)
            if stage == "fulfilled":
                story.publish(lease)
        with pytest.raises(Conflict):
            story.cancel(ticket_id)

    def test_it_is_refused_when_one_of_two_models_has_begun(self, database: str) -> None:
        story.dataset()
        one, two = story.trained("one"), story.trained("two", policy=story.PATIENT)
        ticket_id = story.submit(1)
        story.closed(one)
        with pytest.raises(Conflict):
            story.cancel(ticket_id)
        assert story.obligation(ticket_id, two).state is ObligationState.PENDING

    def test_a_batch_that_closes_meanwhile_wins_or_loses_whole(self, database: str) -> None:
        """The batch has taken the obligation and not yet committed: the cancel waits, and is then refused."""
        story.dataset()
        model_id = story.trained()
        ticket_id = story.submit(1)
        outcome: list[object] = []

        def cancel() -> None:
            try:
                story.cancel(ticket_id)
                outcome.append("cancelled")
            except Conflict:
                outcome.append("refused")

        with transaction() as session:
            assert batches.close_due(session, model_id) is not None
            thread = threading.Thread(target=cancel)
            thread.start()
            wait_until_blocked()
        thread.join()
        assert outcome == ["refused"]
        assert story.ticket(ticket_id).state is TicketState.WORKING
        assert len(story.all_of(Tombstone)) == 1

    def test_a_cancel_under_way_keeps_the_ticket_from_a_batch(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        ticket_id = story.submit(1)
        closed: list[object] = []
        with transaction() as session:
            tickets.cancel(session, None, ticket_id, "tool")
            thread = threading.Thread(target=lambda: closed.append(story.close(model_id)))
            thread.start()
            wait_until_blocked()
        thread.join()
        assert [story.obligation(ticket_id, model_id).state] == [ObligationState.CANCELLED]
        assert story.ticket(ticket_id).state is TicketState.CANCELLED
        lease = story.claim(model_id)
        if lease is not None:  # the batch had been found due before the cancel; it has nothing to do
            assert story.forget_set(lease) == []


def wait_until_blocked() -> None:
    """Return once some connection to the test's database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with engine().connect() as connection:
        while not connection.scalar(waiting):
            connection.rollback()


class TestFulfilment:
    def test_a_ticket_of_two_models_waits_for_both(self, database: str) -> None:
        story.dataset()
        one, two = story.trained("one"), story.trained("two")
        ticket_id = story.submit(1)
        story.work(one)
        ticket = story.ticket(ticket_id)
        assert (ticket.state, ticket.closed_at) == (TicketState.WORKING, None)
        story.work(two)
        ticket = story.ticket(ticket_id)
        assert ticket.state is TicketState.FULFILLED
        assert ticket.closed_at is not None
        assert kinds(ticket_id=ticket_id).count("ticket.fulfilled") == 1

    def test_two_models_that_publish_at_the_same_moment_do_not_leave_the_ticket_to_each_other(
        self, database: str
    ) -> None:
        story.dataset()
        one, two = story.trained("one"), story.trained("two")
        ticket_id = story.submit(1)
        leases = [story.closed(one), story.closed(two)]
        offers = [story.candidate(lease, b"bytes", story.record(lease, b"bytes")) for lease in leases]

        def second() -> None:
            with transaction() as session:
                runs.publish(session, leases[1], offers[1])

        settle = tickets.settle
        settled, proceed = threading.Event(), threading.Event()

        def slow(session: Session, ids: Any, batch_id: Any = None) -> None:
            settle(session, ids, batch_id)
            settled.set()
            proceed.wait(20)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tickets, "settle", slow)
            thread = threading.Thread(target=second)
            thread.start()
            assert settled.wait(20)
            patch.setattr(tickets, "settle", settle)
            other = threading.Thread(target=lambda: story_publish(leases[0], offers[0]))
            other.start()
            wait_until_blocked()
            proceed.set()
            thread.join()
            other.join()
        assert story.ticket(ticket_id).state is TicketState.FULFILLED

    def test_a_late_ticket_for_a_sample_that_the_running_batch_forgets_is_not_lost(self, database: str) -> None:
        """Its batch finds nothing to forget: the version that is current by then is clean for it as well."""
        story.dataset()
        model_id = story.trained()
        story.submit(1)
        lease = story.closed(model_id)
        late = story.submit(1)
        version = story.publish(lease)
        follow = story.closed(model_id)
        assert story.forget_set(follow) == []
        with transaction() as session:
            runs.nothing_left(session, follow)
        ticket = story.ticket(late)
        assert ticket.state is TicketState.FULFILLED
        assert ticket.obligations[0].version_id == version.id
        assert ticket.data_releasable_at is None  # the first ticket's truth is still to be measured with this sample
        assert story.batch(follow.batch_id).state is BatchState.CANCELLED
        story.retrain(model_id)
        story.work(model_id)
        assert story.ticket(late).data_releasable_at is not None


def story_publish(lease: runs.Lease, offered: runs.Candidate) -> None:
    with transaction() as session:
        runs.publish(session, lease, offered)


def test_transitions_that_do_not_exist_are_defects(database: str) -> None:
    with transaction() as session, pytest.raises(AssertionError):
        tickets.move(session, uuid4(), TicketState.FULFILLED, TicketState.PENDING)
    assert tickets.before(TicketState.CANCELLED) == [TicketState.PENDING]


def test_pages_are_newest_first_and_filtered(database: str) -> None:
    story.dataset("people"), story.dataset("plants")
    story.register()
    mine = [story.submit(i, external_id=f"case-{i}") for i in range(5)]
    theirs = story.submit(7, client="other", dataset="plants")
    with transaction() as session:  # tickets of one moment are ordered by id
        same = datetime(2026, 1, 1, tzinfo=UTC)
        session.execute(update(Ticket).where(Ticket.id.in_(mine[:3])).values(created_at=same))
        session.execute(update(Ticket).where(Ticket.id == mine[4]).values(deadline_at=same))

    def page(client: str | None = "tool", wanted: tickets.Filter | None = None, limit: int = 50, after: Any = None):
        with transaction() as session:
            return tickets.page(session, client, wanted or tickets.Filter(), limit, after)

    everything = page()
    assert {t.id for t in everything} == set(mine)
    assert [(t.created_at, t.id) for t in everything] == sorted(
        ((t.created_at, t.id) for t in everything), reverse=True
    )
    walked: list[Ticket] = []
    while found := page(limit=2, after=(walked[-1].created_at, walked[-1].id) if walked else None):
        walked += found
    assert [t.id for t in walked] == [t.id for t in everything]
    assert theirs in {t.id for t in page(None)}
    assert [t.id for t in page(wanted=tickets.Filter(external_id="case-2"))] == [mine[2]]
    assert [t.id for t in page(None, tickets.Filter(dataset="plants"))] == [theirs]
    assert [t.id for t in page(None, tickets.Filter(state=TicketState.FULFILLED))] == [theirs]
    assert [t.id for t in page(wanted=tickets.Filter(overdue=True))] == [mine[4]]


def test_each_accepted_ticket_has_its_event_without_ids(database: str) -> None:
    story.dataset()
    ticket_id = story.submit(1, subjects=["p-3"])
    with transaction() as session:
        body = session.scalars(select(AuditEvent.body).where(AuditEvent.ticket_id == ticket_id)).first()
    assert body is not None
    assert "s-0001" not in body
    assert "p-3" not in body
