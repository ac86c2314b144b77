"""Totals over the audit log: each event once, whoever counts, however often."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.db import transaction
from app.metrics import tally
from app.tables import AuditHead, Run, Ticket
from tests.app import story
from tests.app.metrics.exported import everything, scrape


def test_what_happened_is_counted(database: str) -> None:
    everything()
    seen = scrape()
    assert seen("expunge_events_total", kind="ticket.accepted") == 4
    assert seen("expunge_tombstones_total") == 4
    assert seen("expunge_verdicts_total", model="m", rung="retrain", decision="publish") == 1
    assert seen("expunge_runs_total", model="m", outcome="published") == 2
    assert seen("expunge_runs_total", model="m", outcome="failed") == 1
    assert seen("expunge_runs_total", model="m", outcome="lost") == 1
    assert seen("expunge_leases_stolen_total", model="m") == 1
    assert seen("expunge_claims_total", model="m", attempt="1") == 4
    assert seen("expunge_claims_total", model="m", attempt="2") == 1
    assert seen("expunge_batches_closed_total", model="m", kind="unlearn", trigger="age") == 3
    assert seen("expunge_batches_closed_total", model="quiet", kind="train", trigger="registration") == 1
    assert seen("expunge_events_behind") == 0


def test_every_event_is_counted_once(database: str) -> None:
    everything()
    with transaction() as session:
        head = session.scalar(select(AuditHead.seq))
    first = scrape()
    assert sum(value for (name, _), value in first.values.items() if name == "expunge_events_total") == head
    second = scrape()
    counted = [key for key in first.values if key[0].endswith(("_total", "_count", "_bucket"))]
    assert {key: second.values[key] for key in counted} == {key: first.values[key] for key in counted}
    story.submit(7)
    assert scrape()("expunge_events_total", kind="ticket.accepted") == 5


def test_two_that_count_at_once_count_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one waits within its transaction until the other has had its turn, which then has nothing to do."""
    tally.catch_up()
    everything()
    inside, free = threading.Event(), threading.Event()
    count = tally.Count

    def slowly(*arguments: object) -> tally.Count:
        inside.set()
        assert free.wait(30)
        return count(*arguments)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(tally, "Count", slowly)
    first = threading.Thread(target=tally.catch_up)
    first.start()
    assert inside.wait(30)
    with transaction() as session:
        assert tally.fold(session) == 0
        assert tally.totals(session).get(("events", 0, ("ticket.accepted",))) is None
    free.set()
    first.join()
    assert scrape()("expunge_events_total", kind="ticket.accepted") == 4


def test_a_long_log_is_counted_in_parts(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    everything()
    whole = scrape()
    with transaction() as session:
        session.execute(tally.Tally.__table__.delete())
    monkeypatch.setattr(tally, "AT_ONCE", 3)
    monkeypatch.setattr(tally, "CATCH_UP_SECONDS", 0.0)
    assert not scrape().has("expunge_events_total", kind="model.stopped")
    with transaction() as session:
        assert tally.fold(session) == 3
    assert 0 < scrape()("expunge_events_behind") < whole("expunge_audit_head")
    monkeypatch.setattr(tally, "CATCH_UP_SECONDS", 30.0)
    again = scrape()
    steady = [key for key in whole.values if key[0].endswith(("_total", "_count", "_bucket"))]
    assert {key: again.values[key] for key in steady} == {key: whole.values[key] for key in steady}


def test_a_worker_lost_in_every_attempt_is_counted_as_often(database: str) -> None:
    """The last loss is seen by whoever gives the batch up; when an operator gives it its attempts back, it is not seen
    again."""
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    story.close(model_id)
    for number in range(3):
        story.expire(story.claimed(model_id, f"w{number}"))
        story.rested(model_id)
    assert story.claim(model_id) is None
    assert scrape()("expunge_leases_stolen_total", model="m") == 3
    (batch,) = [batch for batch in story.all_of(story.Batch) if batch.state == "quarantined"]
    with transaction() as session:
        story.batches.retry(session, batch.id, "operator")
    story.publish(story.claimed(model_id))
    seen = scrape()
    assert seen("expunge_leases_stolen_total", model="m") == 3
    assert seen("expunge_runs_total", model="m", outcome="published") == 2


def test_histograms_are_cumulative_and_sum_up(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    story.work(model_id)
    with transaction() as session:
        session.execute(update(Run).values(finished_at=Run.started_at + timedelta(seconds=200)))
        session.execute(update(Ticket).values(closed_at=Ticket.created_at + timedelta(days=5)))
    seen = scrape()
    bucket = "expunge_run_seconds_bucket"
    assert [seen(bucket, outcome="published", le=le) for le in ("60.0", "300.0", "+Inf")] == [0, 2, 2]
    assert seen("expunge_run_seconds_sum", outcome="published") == 400
    assert [seen("expunge_ticket_seconds_bucket", le=le) for le in ("259200.0", "604800.0", "+Inf")] == [0, 1, 1]
    assert seen("expunge_ticket_seconds_sum") == 5 * 86_400
    assert seen("expunge_step_seconds_count", step="update", rung="retrain") == 1
