"""What is open, and what asking for it costs."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from app.config import settings
from app.db import engine, transaction
from app.metrics import exposition, live
from app.metrics.exposition import render
from app.tables import Batch, WebhookEndpoint
from app.webhooks import endpoints, relay
from tests.app import story
from tests.app.metrics.exported import everything, scrape
from tests.app.webhooks import scene
from tests.app.webhooks.conftest import configured

__all__ = ["configured"]


def test_what_is_open(database: str) -> None:
    everything()
    seen = scrape()
    assert seen("expunge_up") == 1
    for state, model in (("quarantined", "m"), ("batched", "m"), ("pending", "quiet")):
        assert seen("expunge_obligations", model=model, state=state) == 1
        assert 0 <= seen("expunge_oldest_obligation_age_seconds", model=model, state=state) < 600
    assert 7000 < seen("expunge_deadline_slack_seconds", model="m") < 7200
    assert seen("expunge_obligations_overdue", model="m") == 0
    assert [seen("expunge_slack_seconds_bucket", le=le) for le in ("3600.0", "21600.0", "259200.0")] == [0, 1, 2]
    assert seen("expunge_slack_seconds_gcount") == 2
    assert seen("expunge_batches", model="m", state="quarantined", rung="") == 1
    assert seen("expunge_batches", model="m", state="running", rung="") == 1
    assert (seen("expunge_model_held", model="quiet"), seen("expunge_model_held", model="m")) == (1, 0)
    assert (seen("expunge_model_stopped", model="quiet"), seen("expunge_model_stopped", model="m")) == (1, 0)
    assert seen("expunge_deadline_margin_seconds", model="m") == 86_400
    assert seen("expunge_bank_references_wanted", model="quiet") == 4
    assert seen("expunge_bank_references", model="quiet", state="pending") == 4
    assert seen("expunge_artifact_bytes", kind="weights") > 0
    assert seen("expunge_artifact_store_free_bytes") < seen("expunge_artifact_store_size_bytes")
    assert 0 <= datetime.now(UTC).timestamp() - seen("expunge_audit_last_event_timestamp_seconds") < 600


@pytest.mark.usefixtures("configured")
def test_how_far_webhooks_are_behind() -> None:
    story.dataset()
    behind, ended = scene.endpoint("mine"), scene.endpoint("other")
    with transaction() as session:
        endpoints.disable(session, session.get_one(WebhookEndpoint, ended), "for the test")
    story.submit(1, client="mine")
    with transaction() as session:
        lag = live.head(session).seq - session.get_one(WebhookEndpoint, behind).cursor
    seen = scrape()
    assert (
        seen("expunge_webhook_endpoints", state="enabled"),
        seen("expunge_webhook_endpoints", state="disabled"),
    ) == (1, 1)
    assert seen("expunge_webhook_lag_events") == lag > 3
    relay.fan_out()
    exposition.DATABASE.cache_clear()
    seen = scrape()
    assert (seen("expunge_webhook_lag_events"), seen("expunge_webhook_deliveries_due")) == (0, 3)
    assert 0 < seen("expunge_webhook_oldest_due_seconds") < 600


def test_what_is_overdue(database: str) -> None:
    story.dataset()
    story.trained(policy=story.PATIENT)
    story.submit(1, deadline=datetime.now(UTC) + timedelta(hours=1))
    story.submit(2)
    with transaction() as session:
        session.execute(
            text("UPDATE obligation SET deadline_at = now() - interval '1 minute' WHERE deadline_at > now()")
        )
    seen = scrape()
    assert seen("expunge_obligations_overdue", model="m") == 1
    assert seen("expunge_deadline_slack_seconds", model="m") < -59
    assert seen("expunge_slack_seconds_bucket", le="0.0") == 1


def test_a_running_batch_says_its_rung(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    lease = story.closed(model_id)
    with transaction() as session:
        story.runs.heartbeat(session, lease, rung="iau", step="one", progress=0.5)
    assert scrape()("expunge_batches", model="m", state="running", rung="iau") == 1


def test_models_beyond_the_bound_share_a_label(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story.dataset()
    for name in ("first", "second", "third"):
        story.trained(name, policy=story.PATIENT)
    story.submit(1)
    whole = scrape()
    monkeypatch.setenv("EXPUNGE_METRICS_MODELS", "1")
    settings.cache_clear()
    seen = scrape()
    assert {dict(labels)["model"] for _, labels in seen.values if "model" in dict(labels)} == {"first", "(other)"}
    assert seen("expunge_obligations", model="(other)", state="pending") == 2
    assert seen("expunge_runs_total", model="(other)", outcome="published") == 2
    assert seen("expunge_models") == 3
    for name in ("expunge_obligations", "expunge_runs_total", "expunge_claims_total", "expunge_batches_closed_total"):
        assert total(seen.values, name) == total(whole.values, name)


def total(values: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str) -> float:
    return sum(value for (found, _), value in values.items() if found == name)


def test_no_label_holds_an_id(database: str) -> None:
    everything()
    told = scrape().text
    samples = {story.sample(ordinal) for ordinal in range(20)}
    ids = {str(batch.id) for batch in story.all_of(Batch)} | {str(t.id) for t in story.all_of(story.Ticket)}
    for secret in (*samples, *ids, "p-0", "p-1", '"tool"', '"engineer"', '"w2"', "people", "plants"):
        assert secret not in told


def test_scrapes_one_after_the_other_ask_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    everything()
    scrape()
    asked: list[str] = []
    event.listen(engine(), "before_cursor_execute", lambda *told: asked.append(told[2]))
    for _ in range(5):
        render("text/plain")
    assert not [
        statement for statement in asked if "FROM obligation" in statement or "FROM audit_event WHERE" in statement
    ]
    monkeypatch.setattr(exposition, "SECONDS", 0.0)
    render("text/plain")
    assert [statement for statement in asked if "FROM obligation" in statement]


def test_a_query_that_takes_too_long_ends(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TIMEOUT", "SET LOCAL statement_timeout = '50ms'")
    monkeypatch.setitem(live.QUERIES, "models", "SELECT pg_sleep(60)")
    seen = scrape()
    assert seen("expunge_up") == 0


# A history of a hundred thousand tickets that are done with, and their batches; a handful is open.
HISTORY = """
    INSERT INTO ticket (id, client, dataset_id, reason, risk_tier, state, accepted, unknown, already_forgotten,
                        pending_elsewhere)
    SELECT gen_random_uuid(), 'tool', 1, 'other', 'low', 'fulfilled', 1, 0, 0, 0 FROM generate_series(1, 100000);
    INSERT INTO batch (id, model_id, kind, trigger, state, policy_id, policy, why, requested_by, attempt, lease_epoch,
                       progress)
    SELECT gen_random_uuid(), 1, 'unlearn', 'age', 'published', 1, '{}', '', '', 1, 1, 1 FROM generate_series(1, 20000);
    INSERT INTO obligation (ticket_id, model_id, state, samples, version_id, batch_id)
    SELECT t.id, 1, 'fulfilled', 1, 1, b.id
    FROM (SELECT id, row_number() OVER () AS n FROM ticket WHERE state = 'fulfilled') AS t
    JOIN (SELECT id, row_number() OVER () AS n FROM batch WHERE state = 'published') AS b ON b.n = 1 + t.n % 20000
    ON CONFLICT DO NOTHING;
    ANALYZE;
"""


@pytest.mark.service
def test_the_plans_do_not_read_history(database: str) -> None:
    everything()
    with transaction() as session:
        session.execute(text(HISTORY))
    for name in ("obligations", "batches", "banks"):
        with transaction() as session:
            plan = "\n".join(session.scalars(text("EXPLAIN (ANALYZE, BUFFERS) " + live.QUERIES[name])))
        assert "Seq Scan on obligation" not in plan, plan
        assert "Seq Scan on batch" not in plan, plan
    seen = scrape()
    assert seen("expunge_obligations", model="m", state="batched") == 1
    assert not seen.has("expunge_obligations", model="m", state="fulfilled")
