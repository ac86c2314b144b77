"""From the log to deliveries: who is told of what, once, whatever crashes."""

import json
import re
from pathlib import Path
from threading import Barrier, Thread
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from app import audit, keys, runs
from app.auth import Principal, Scope
from app.db import transaction
from app.tables import ApiKey, AuditEvent, AuditHead, WebhookEndpoint
from app.webhooks import deliveries, endpoints, events, relay
from app.webhooks.events import EventType, Message
from tests.app import story
from tests.app.webhooks import scene

pytestmark = pytest.mark.usefixtures("configured")
APP = Path(relay.__file__).parents[1]
RELEASING = story.EAGER | {"release": "publish"}


def idle() -> int:
    """A dataset and a model that takes its time: a ticket is accepted, and stays so."""
    story.dataset()
    return story.trained(policy=story.PATIENT)


def test_every_kind_that_is_looked_for_is_appended_somewhere() -> None:
    written = "".join(path.read_text() for path in APP.rglob("*.py") if path != Path(events.__file__))
    for kind in events.KINDS:
        assert f'"{kind}"' in written, kind
    assert {kind.value for kind in EventType} - events.KINDS == {
        "ticket.quarantined", "version.weights_purged", "version.weights_withdrawn", "webhook.test",
    }  # fmt: skip


def test_a_client_is_told_of_its_own_tickets_and_of_nothing_else() -> None:
    story.dataset()
    mine, other, root = scene.endpoint("mine"), scene.endpoint("other"), scene.endpoint("ops", admin=True)
    model_id = story.trained(policy=RELEASING)
    ticket = story.submit(1, client="mine")
    story.submit(2, client="nobody")
    story.work(model_id)
    gone = story.submit(5, client="other")
    story.cancel(gone)
    assert relay.fan_out() > 0
    assert scene.told(mine) == ["ticket.accepted", "ticket.fulfilled", "ticket.data_releasable"]
    assert {body["data"]["ticket"] for body in scene.bodies(mine)} == {str(ticket)}
    assert scene.told(other) == ["ticket.accepted", "ticket.cancelled"]
    assert {body["data"]["ticket"] for body in scene.bodies(other)} == {str(gone)}
    everything = scene.told(root)
    assert everything.count("ticket.accepted") == 3
    assert everything.count("version.published") == 2
    assert relay.fan_out() == 0


def test_payloads_are_thin_and_as_the_schema_says() -> None:
    story.dataset()
    root = scene.endpoint("ops", admin=True)
    model_id = story.trained()
    ticket = story.submit(1, 2, subjects=["p-4"], client="mine", external_id="case of Jane Doe")
    story.work(model_id)
    story.stop(model_id)
    relay.fan_out()
    for row, body in zip(scene.rows(root), scene.bodies(root), strict=True):
        assert Message.model_validate(body).type == row.type
        assert body["sequence"] == row.seq
        assert set(body) == {"type", "timestamp", "sequence", "data"}
        assert not re.search(r"s-000\d|p-4|Jane", row.body)
    version = next(body["data"] for body in scene.bodies(root) if body["type"] == "version.published")
    assert version == {"version": "m-v1", "model": "m", "href": "/models/m-v1/audit"}
    accepted = next(body["data"] for body in scene.bodies(root) if body["type"] == "ticket.accepted")
    assert accepted == {"ticket": str(ticket), "href": f"/deletions/{ticket}"}
    stopped = next(body["data"] for body in scene.bodies(root) if body["type"] == "model.stopped")
    assert stopped == {"model": "m", "href": "/models/m/versions"}


def test_each_ticket_of_a_quarantined_batch_is_told_to_its_client() -> None:
    story.dataset()
    mine, other, root = scene.endpoint("mine"), scene.endpoint("other"), scene.endpoint("ops", admin=True)
    model_id = story.trained(policy=story.PATIENT)
    tickets = {story.submit(1, client="mine"), story.submit(2, client="mine")}
    theirs = story.submit(3, client="other")
    story.replace(model_id, story.EAGER)
    story.fail(story.closed(model_id), again=False)
    relay.fan_out()
    held = [body["data"]["ticket"] for body in scene.bodies(mine) if body["type"] == "ticket.quarantined"]
    assert sorted(held) == sorted(map(str, tickets))
    assert [body["data"]["ticket"] for body in scene.bodies(other) if body["type"] == "ticket.quarantined"] == [
        str(theirs)
    ]
    assert scene.told(root).count("ticket.quarantined") == 3
    assert scene.told(root).count("batch.quarantined") == 1


def test_an_escalation_says_from_what_to_what() -> None:
    story.dataset()
    root = scene.endpoint("ops", admin=True, events=[EventType.BATCH_ESCALATED])
    model_id = story.trained()
    story.submit(1)
    lease = story.closed(model_id)
    with transaction() as session:
        runs.escalate(session, lease, "iau", "retrain", ["UE of s-0001's batch wholly above"])
    relay.fan_out()
    (body,) = scene.bodies(root)
    assert body["data"] == {
        "batch": str(lease.batch_id), "model": "m", "href": f"/batches/{lease.batch_id}", "rung": "iau", "to": "retrain",
    }  # fmt: skip


def test_only_what_was_asked_for() -> None:
    story.dataset()
    mine = scene.endpoint("mine", events=[EventType.TICKET_DATA_RELEASABLE])
    model_id = story.trained(policy=RELEASING)
    story.submit(1, client="mine")
    story.work(model_id)
    relay.fan_out()
    assert scene.told(mine) == ["ticket.data_releasable"]


def test_it_begins_with_what_comes_after_it_was_made() -> None:
    idle()
    story.submit(1, client="mine")
    mine = scene.endpoint("mine")
    story.submit(2, client="mine")
    relay.fan_out()
    assert scene.told(mine) == ["ticket.accepted"]


def test_what_is_rolled_back_is_never_told() -> None:
    idle()
    mine = scene.endpoint("mine")
    with transaction() as session:
        audit.append(session, "ticket.cancelled", "mine", ticket_id=uuid4())
        session.rollback()
    relay.fan_out()
    assert scene.told(mine) == []


def test_a_relay_that_dies_has_moved_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries and cursor are one commit: killed between the two, both are as they were; then each is told once."""
    idle()
    mine = scene.endpoint("mine")
    story.submit(1, client="mine")
    before = scene.row(mine).cursor
    real = relay.insert

    def killed(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(relay, "insert", killed)
    with pytest.raises(KeyboardInterrupt):
        relay.fan_out()
    monkeypatch.setattr(relay, "insert", real)
    assert (scene.row(mine).cursor, scene.told(mine)) == (before, [])
    relay.fan_out()
    assert scene.told(mine) == ["ticket.accepted"]


def test_many_relays_at_once_tell_each_thing_once() -> None:
    idle()
    made = [scene.endpoint(f"client-{number}") for number in range(3)]
    for number in range(3):
        for ordinal in range(5):
            story.submit(number * 5 + ordinal, client=f"client-{number}")
    together = Barrier(4)

    def run() -> None:
        together.wait()
        relay.fan_out()

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    relay.fan_out()
    for endpoint_id in made:
        assert scene.told(endpoint_id) == ["ticket.accepted"] * 5


def test_a_long_log_is_read_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "WINDOW", 3)
    idle()
    mine = scene.endpoint("mine")
    for ordinal in range(10):
        story.submit(ordinal, client="mine" if ordinal % 2 else "other")
    steps = []
    while (step := relay.advance(mine)) is not None and scene.row(mine).cursor < head():
        steps.append(step)
    assert len(steps) >= 3
    assert max(steps) <= 3
    assert scene.told(mine) == ["ticket.accepted"] * 5


def head() -> int:
    with transaction() as session:
        return session.get_one(AuditHead, 1).seq


def test_an_event_that_is_not_committed_yet_is_not_skipped() -> None:
    """Numbers follow commits: while one transaction holds the head, nothing after it can commit before it."""
    idle()
    mine = scene.endpoint("mine")
    ticket = story.submit(1, client="mine")
    with transaction() as session:
        audit.append(session, "ticket.cancelled", "mine", ticket_id=ticket)
        relay.fan_out()  # meanwhile
        assert scene.told(mine) == ["ticket.accepted"]
    relay.fan_out()
    assert scene.told(mine) == ["ticket.accepted", "ticket.cancelled"]


def test_an_owner_without_a_live_key_is_told_nothing_until_it_has_one_again() -> None:
    idle()
    mine = scene.endpoint("mine")
    with transaction() as session:
        (key,) = keys.listing(session, "mine")
        keys.revoke(session, key.prefix, "ops")
    story.submit(1, client="mine")
    relay.fan_out()
    assert scene.told(mine) == []
    story.key("mine", Scope.DELETIONS_READ)  # not what it takes
    relay.fan_out()
    assert scene.told(mine) == []
    story.key("mine", Scope.WEBHOOKS_WRITE)
    relay.fan_out()
    assert scene.told(mine) == ["ticket.accepted"]


def test_what_was_written_for_an_owner_who_may_no_longer_be_told_is_put_aside() -> None:
    idle()
    mine, other = scene.endpoint("mine"), scene.endpoint("other")
    for client in ("mine", "other"):
        story.submit(1, client=client)
    relay.fan_out()
    with transaction() as session:
        session.execute(update(ApiKey).where(ApiKey.client == "mine").values(expires_at=ApiKey.created_at))
    first = deliveries.claim()
    assert first is not None
    assert first.endpoint_id == other
    assert deliveries.claim() is None
    story.key("mine", Scope.WEBHOOKS_WRITE)
    assert deliveries.claim() is None, "it is looked at again later"
    scene.due_now()
    claims = [deliveries.claim(), deliveries.claim()]
    assert mine in {held.endpoint_id for held in claims if held is not None}


def test_who_is_no_admin_any_more_hears_of_its_own_only() -> None:
    model_id = idle()
    root = scene.endpoint("ops", admin=True, events=[EventType.TICKET_ACCEPTED, EventType.VERSION_PUBLISHED])
    story.key("ops", Scope.WEBHOOKS_WRITE)
    with transaction() as session:
        session.execute(update(ApiKey).where(ApiKey.scopes.contains(["admin"])).values(expires_at=ApiKey.created_at))
    story.submit(1, client="other")
    story.submit(2, client="ops")
    story.retrain(model_id)
    story.work(model_id)
    relay.fan_out()
    assert scene.told(root) == ["ticket.accepted"]


def test_a_subject_of_an_identity_provider_has_no_keys_and_is_told_all_the_same() -> None:
    idle()
    who = Principal("oidc:jane", frozenset({Scope.WEBHOOKS_WRITE}))
    with transaction() as session:
        made, _ = endpoints.create(session, who, scene.URL, None, None)
    story.submit(1, client="oidc:jane")
    story.submit(2, client="other")
    relay.fan_out()
    assert scene.told(made.id) == ["ticket.accepted"]


def test_a_disabled_endpoint_stands_still_and_goes_on_where_it_stood() -> None:
    idle()
    mine = scene.endpoint("mine")
    who = Principal("mine", frozenset({Scope.WEBHOOKS_WRITE}))
    switch(mine, who, enabled=False)
    story.submit(1, client="mine")
    relay.fan_out()
    assert scene.told(mine) == []
    switch(mine, who, enabled=True)
    relay.fan_out()
    assert scene.told(mine) == ["ticket.accepted"]


def switch(endpoint_id: UUID, who: Principal, *, enabled: bool) -> None:
    with transaction() as session:
        found = endpoints.get(session, who.sees, endpoint_id, lock=True)
        endpoints.change(session, found, {"enabled": enabled}, who)


def test_the_end_of_an_endpoint_is_told_to_its_owners_others_and_to_admins() -> None:
    ended, second, stranger = scene.endpoint("mine"), scene.endpoint("mine"), scene.endpoint("other")
    root = scene.endpoint("ops", admin=True)
    with transaction() as session:
        endpoints.disable(session, session.get_one(WebhookEndpoint, ended), "the receiver answered 410 Gone")
    relay.fan_out()
    assert scene.told(second) == scene.told(root) == ["webhook.disabled"]
    assert scene.bodies(second)[0]["data"] == {"webhook": str(ended), "href": f"/webhooks/{ended}"}
    assert scene.told(stranger) == []
    switch(ended, Principal("mine", frozenset({Scope.WEBHOOKS_WRITE})), enabled=True)
    relay.fan_out()
    assert scene.told(ended) == []


def test_no_event_names_more_of_an_url_than_its_host() -> None:
    scene.endpoint("mine", url="https://hooks.example/services/T0KEN")
    with transaction() as session:
        (created,) = [event.body for event in session.query(AuditEvent) if event.kind == "webhook.created"]
    assert json.loads(created)["data"]["host"] == "hooks.example"
    assert "T0KEN" not in created
