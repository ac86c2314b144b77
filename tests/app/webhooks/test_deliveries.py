"""What becomes of a delivery: claimed, called for, tried again, given up, sent anew, forgotten."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, update
from standardwebhooks import Webhook

from app import config, sweep
from app.auth import Principal, Scope
from app.db import transaction
from app.errors import Conflict, NotFound
from app.tables import DeliveryState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from app.webhooks import deliveries, endpoints, keys, relay, senders
from app.webhooks.sending import Outcome, Word
from embedded.processes import wait_for
from tests.app import story
from tests.app.webhooks import scene
from tests.receiver import Receiver, receiver

pytestmark = pytest.mark.usefixtures("configured")
WHO = Principal("mine", frozenset({Scope.WEBHOOKS_WRITE}))


@pytest.fixture
def listening() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def waiting_call(url: str = scene.URL, client: str = "mine") -> tuple[UUID, UUID]:
    """An endpoint with a test call that waits; the numbers of both."""
    endpoint_id = scene.endpoint(client, url)
    with transaction() as session:
        made = deliveries.test(session, session.get_one(WebhookEndpoint, endpoint_id))
    return endpoint_id, made.id


def delivery(delivery_id: UUID) -> WebhookDelivery:
    with transaction() as session:
        return session.get_one(WebhookDelivery, delivery_id)


def outcomes(delivery_id: UUID) -> list[str | None]:
    with transaction() as session:
        found = session.query(WebhookAttempt).filter_by(delivery_id=delivery_id).order_by(WebhookAttempt.number)
        return [attempt.outcome for attempt in found]


def claimed() -> deliveries.Claim:
    held = deliveries.claim()
    assert held is not None
    return held


def test_what_arrives_is_verified_with_the_secret_that_was_shown(listening: Receiver) -> None:
    story.dataset()
    story.key("mine", Scope.WEBHOOKS_WRITE)
    with transaction() as session:
        _, secret = endpoints.create(session, WHO, listening.url(), None, None)
    ticket = story.submit(1, client="mine")
    relay.fan_out()
    scene.drain()
    kinds = set()
    for call in listening.calls:
        told = Webhook(secret).verify(call.body, call.headers)
        kinds.add(told["type"])
        assert told["data"]["ticket"] == str(ticket)
        assert call.headers["user-agent"] == "Expunge"
    assert kinds == {"ticket.accepted", "ticket.fulfilled", "ticket.data_releasable"}
    assert set(listening.ids().values()) == {1}


def test_while_secrets_overlap_both_verify_and_afterwards_the_new_one_alone(listening: Receiver) -> None:
    story.key("mine", Scope.WEBHOOKS_WRITE)
    with transaction() as session:
        made, old = endpoints.create(session, WHO, listening.url(), None, None)
    with transaction() as session:
        new = endpoints.rotate(session, session.get_one(WebhookEndpoint, made.id), timedelta(hours=1), "mine")
    with transaction() as session:
        deliveries.test(session, session.get_one(WebhookEndpoint, made.id))
    scene.drain()
    for secret in (old, new):
        Webhook(secret).verify(listening.calls[0].body, listening.calls[0].headers)
    assert len(listening.calls[0].headers["webhook-signature"].split()) == 2
    with transaction() as session:
        session.execute(update(WebhookEndpoint).values(previous_until=func.now()))
    with transaction() as session:
        deliveries.test(session, session.get_one(WebhookEndpoint, made.id))
    scene.drain()
    Webhook(new).verify(listening.calls[1].body, listening.calls[1].headers)
    assert len(listening.calls[1].headers["webhook-signature"].split()) == 1


def test_no_secret_is_in_the_database(listening: Receiver) -> None:
    story.key("mine", Scope.WEBHOOKS_WRITE)
    with transaction() as session:
        made, secret = endpoints.create(session, WHO, listening.url(), None, None)
        raw = keys.derive(made.id, 1)
        kept = vars(made).values()
    assert raw not in kept
    assert secret not in map(str, kept)


def test_another_installations_secret_signs_nothing(listening: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    _, delivery_id = waiting_call(listening.url())
    monkeypatch.setenv("EXPUNGE_WEBHOOK_SECRET", "not the one that the endpoint's secret came from")
    config.settings.cache_clear()
    scene.drain()
    assert listening.calls == []
    assert outcomes(delivery_id) == ["secret_changed"]


def test_a_failure_is_tried_again_under_the_same_id_and_a_fresh_time(listening: Receiver) -> None:
    listening.answer = lambda _: (500 if len(listening.calls) < 3 else 200, {})
    _, delivery_id = waiting_call(listening.url())
    for _ in range(3):
        scene.drain()
        scene.due_now()
    assert scene.drain() == 0
    assert outcomes(delivery_id) == ["status", "status", "delivered"]
    assert listening.ids() == {str(delivery_id): 3}
    assert len({call.body for call in listening.calls}) == 1
    assert delivery(delivery_id).state is DeliveryState.DELIVERED


def test_waits_grow_to_a_day_with_full_jitter() -> None:
    for tries, highest in ((1, 5), (2, 20), (3, 80), (5, 1280), (9, 86_400), (500, 86_400)):
        drawn = [deliveries.wait(tries) for _ in range(300)]
        assert min(drawn) < 0.1 * highest
        assert 0.9 * highest < max(drawn) <= highest


def test_nothing_is_due_before_its_wait_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "wait", lambda _: 3600.0)
    _, delivery_id = waiting_call()
    deliveries.record(claimed(), Outcome(Word.CONNECTION))
    assert deliveries.claim() is None
    row = delivery(delivery_id)
    assert (row.state, row.claimed) == (DeliveryState.PENDING, False)
    assert row.due_at > row.created_at + timedelta(minutes=59)


def past_patience(delivery_id: UUID) -> None:
    """Let the time for trying be over."""
    with transaction() as session:
        over = update(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
        session.execute(over.values(give_up_at=func.now(), due_at=func.now()))


def test_the_last_try_comes_when_the_time_for_trying_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "wait", lambda _: 86_400.0)
    _, delivery_id = waiting_call()
    with transaction() as session:
        session.execute(update(WebhookDelivery).values(give_up_at=func.now() + timedelta(hours=1)))
    deliveries.record(claimed(), Outcome(Word.CONNECTION))
    row = delivery(delivery_id)
    assert row.due_at == row.give_up_at


def test_an_endpoint_that_never_answered_is_disabled_when_its_time_is_over() -> None:
    endpoint_id, delivery_id = waiting_call()
    past_patience(delivery_id)
    deliveries.record(claimed(), Outcome(Word.TIMEOUT))
    assert delivery(delivery_id).state is DeliveryState.FAILED
    assert scene.row(endpoint_id).disabled_why == "no call succeeded for 3 days"
    other = scene.endpoint("mine")
    relay.fan_out()
    assert scene.told(other) == []  # it came later
    with pytest.raises(Conflict, match="disabled"), transaction() as session:
        deliveries.test(session, session.get_one(WebhookEndpoint, endpoint_id))


def test_one_that_answers_other_calls_is_not() -> None:
    endpoint_id, delivery_id = waiting_call()
    past_patience(delivery_id)
    with transaction() as session:
        session.execute(update(WebhookEndpoint).values(succeeded_at=func.now() - timedelta(days=1)))
    deliveries.record(claimed(), Outcome(Word.STATUS, 0.1, 500))
    assert delivery(delivery_id).state is DeliveryState.FAILED
    assert scene.row(endpoint_id).disabled_at is None


def test_410_disables_at_once_and_enabling_begins_anew(listening: Receiver) -> None:
    listening.answer = lambda _: (410, {})
    endpoint_id, delivery_id = waiting_call(listening.url())
    watcher = scene.endpoint("mine", listening.url())
    scene.drain()
    assert scene.row(endpoint_id).disabled_why == "the receiver answered 410 Gone"
    assert delivery(delivery_id).state is DeliveryState.FAILED
    relay.fan_out()
    assert scene.told(watcher) == ["webhook.disabled"]
    with transaction() as session:
        endpoints.change(session, session.get_one(WebhookEndpoint, endpoint_id), {"enabled": True}, WHO)
    listening.answer = lambda _: (200, {})
    redeliver(endpoint_id, delivery_id)
    scene.drain()
    assert delivery(delivery_id).state is DeliveryState.DELIVERED


def redeliver(endpoint_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    with transaction() as session:
        return deliveries.redeliver(session, session.get_one(WebhookEndpoint, endpoint_id), delivery_id)


def test_a_redelivery_is_the_same_message(listening: Receiver) -> None:
    endpoint_id, delivery_id = waiting_call(listening.url())
    held = claimed()
    with pytest.raises(Conflict, match="at this moment"):
        redeliver(endpoint_id, delivery_id)
    senders.attempt(held)
    row = redeliver(endpoint_id, delivery_id)
    assert (row.state, row.tries, row.attempt, row.ended_at) == (DeliveryState.PENDING, 0, 1, None)
    scene.drain()
    assert listening.ids() == {str(delivery_id): 2}
    assert outcomes(delivery_id) == ["delivered", "delivered"]
    other = scene.endpoint("mine")
    with pytest.raises(NotFound):
        redeliver(other, delivery_id)


def test_a_claim_is_one_senders_until_its_lease_is_over(listening: Receiver) -> None:
    """A sender that dies in mid-call: the message goes out once more, by the same id, and its first attempt stays open."""
    _, delivery_id = waiting_call(listening.url())
    claimed()
    assert deliveries.claim() is None
    scene.due_now()  # the lease is over
    scene.drain()
    assert outcomes(delivery_id) == [None, "delivered"]


def test_of_an_attempt_that_outlived_its_lease_success_counts_and_failure_does_not() -> None:
    _, delivery_id = waiting_call()
    first = claimed()
    scene.due_now()
    second = claimed()
    deliveries.record(first, Outcome(Word.TIMEOUT, 15.0))
    row = delivery(delivery_id)
    assert (row.state, row.claimed, row.attempt) == (DeliveryState.PENDING, True, 2)
    deliveries.record(first, Outcome(Word.DELIVERED, 15.0, 200))
    deliveries.record(second, Outcome(Word.GONE, 0.1, 410))
    assert delivery(delivery_id).state is DeliveryState.DELIVERED
    assert scene.row(first.endpoint_id).disabled_at is None


def test_what_was_removed_in_mid_call_is_no_trouble() -> None:
    endpoint_id, _ = waiting_call()
    held = claimed()
    with transaction() as session:
        endpoints.remove(session, session.get_one(WebhookEndpoint, endpoint_id), "mine")
    deliveries.record(held, Outcome(Word.DELIVERED, 0.1, 200))
    assert story.all_of(WebhookDelivery) == story.all_of(WebhookAttempt) == []


def test_a_receiver_that_hangs_holds_up_nobody_else() -> None:
    """No endpoint is called more often than so many times at once, however much waits for it."""
    story.dataset()
    scene.endpoint("slow")
    for ordinal in range(6):
        story.submit(ordinal, client="slow")
    relay.fan_out()
    first = [claimed().endpoint_id for _ in range(deliveries.AT_ONCE)]
    assert deliveries.claim() is None
    quick, _ = waiting_call(client="quick")
    assert claimed().endpoint_id == quick
    assert quick not in first
    assert deliveries.claim() is None


def test_senders_go_on_until_nothing_is_due(listening: Receiver) -> None:
    story.dataset()
    for number in range(3):
        scene.endpoint(f"client-{number}", listening.url())
        for ordinal in range(4):
            story.submit(number * 4 + ordinal, client=f"client-{number}")
    written = relay.fan_out()
    made = senders.Senders(most=3)
    made.wake()
    assert wait_for(lambda: not made.awake, 60)
    made.pool.shutdown()
    assert len(listening.calls) == len(listening.ids()) == written == 36


def test_senders_that_stop_begin_nothing(listening: Receiver) -> None:
    waiting_call(listening.url())
    made = senders.Senders()
    made.stop()
    made.wake()
    made.pool.shutdown(wait=True)
    assert listening.calls == []


def test_the_purge_drops_what_is_old_and_ended(listening: Receiver) -> None:
    _, done = waiting_call(listening.url())
    scene.drain()
    _, waiting = waiting_call(client="other")
    disabled, dead = waiting_call(client="third")
    _, fresh = waiting_call(listening.url(), client="fourth")
    with transaction() as session:
        long_ago = func.now() - timedelta(days=31)
        aged = update(WebhookDelivery).where(WebhookDelivery.id != fresh)
        session.execute(aged.values(created_at=long_ago))
        session.execute(update(WebhookEndpoint).where(WebhookEndpoint.id == disabled).values(disabled_at=long_ago))
    sweep.purge()
    left = {row.id for row in story.all_of(WebhookDelivery)}
    assert left == {waiting, fresh}
    assert {done, dead} & left == set()
