"""Deliveries: claimed for one attempt, accounted for, tried again, given up, sent anew, forgotten.

A claim pushes the delivery's due time behind its lease, in a transaction of its own; none is open during the call. A sender
that dies leaves a delivery that is due again when the lease is over: told twice at worst, by the same `webhook-id`.
"""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Select, delete, func, or_, select, tuple_, update
from sqlalchemy.orm import Session, selectinload

from app.config import settings
from app.db import changed, transaction
from app.errors import Conflict, NotFound
from app.tables import DeliveryState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from app.webhooks import endpoints, events, keys
from app.webhooks.events import EventType
from app.webhooks.sending import Outcome, Word

log = structlog.get_logger()

AT_ONCE = 4
"""Calls to one endpoint at a time: a receiver that hangs holds no more senders than that."""
LONGEST_WAIT = 24 * 3600.0
SILENCE = timedelta(minutes=5)
"""After which it is looked again whether an endpoint's owner may be told."""

PURGED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Claim:
    """One attempt that is ours to make: all it needs, with its headers signed for now."""

    endpoint_id: UUID
    delivery_id: UUID
    attempt: int
    url: str
    body: bytes
    headers: dict[str, str] | None
    """None where this installation's secret is not the one that the endpoint's was derived from."""


def claim() -> Claim | None:
    """Take one delivery that is due, of an endpoint drawn at random, so that none waits behind another's backlog. What an
    owner without a key that may be told has due is put aside: it was written while there was one."""
    with transaction() as session:
        while (endpoint := session.scalar(ready().order_by(func.random()).limit(1))) is not None:
            if endpoints.sight(session, endpoint) is not None:
                return take(session, endpoint)
            waiting = update(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id, due_now())
            session.execute(waiting.values(due_at=func.now() + SILENCE))
    return None


def take(session: Session, endpoint: WebhookEndpoint) -> Claim | None:
    """The endpoint's delivery that has been due for longest."""
    due = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id, due_now())
    due = due.order_by(WebhookDelivery.due_at).limit(1)
    taken = session.scalar(due.with_for_update(skip_locked=True, key_share=True))
    if taken is None:  # others are about to take all there are
        return None
    taken.attempt, taken.tries, taken.claimed = taken.attempt + 1, taken.tries + 1, True
    taken.due_at = func.now() + lease()
    session.add(WebhookAttempt(delivery_id=taken.id, number=taken.attempt))
    body = taken.body.encode()
    signed = headers(session, endpoint, taken.id, body)
    return Claim(endpoint.id, taken.id, taken.attempt, endpoint.url, body, signed)


def lease() -> timedelta:
    """How long a sender has for an attempt and its account: over twice what a call may take."""
    return timedelta(seconds=2 * settings().webhook_seconds + 5)


def ready() -> Select[WebhookEndpoint]:
    """Enabled endpoints with a delivery that is due, but for those that are being called often enough as it is."""
    mine = WebhookDelivery.endpoint_id == WebhookEndpoint.id
    due = select(WebhookDelivery.id).where(mine, due_now()).exists()
    held = select(func.count()).where(mine, WebhookDelivery.claimed, WebhookDelivery.due_at > func.now())
    return select(WebhookEndpoint).where(
        WebhookEndpoint.disabled_at.is_(None), due, held.correlate(WebhookEndpoint).scalar_subquery() < AT_ONCE
    )


def due_now() -> ColumnElement[bool]:
    return (WebhookDelivery.state == DeliveryState.PENDING) & (WebhookDelivery.due_at <= func.now())


def headers(session: Session, endpoint: WebhookEndpoint, delivery_id: UUID, body: bytes) -> dict[str, str] | None:
    """The call's headers, signed with the endpoint's secret, and with the one before it while that still holds."""
    secret = keys.derive(endpoint.id, endpoint.secret_number)
    if keys.check(secret) != endpoint.secret_check:
        return None
    timestamp = int(time.time())
    signatures = [keys.sign(secret, str(delivery_id), timestamp, body)]
    if endpoint.previous_until is not None and endpoint.previous_until > session.scalars(select(func.now())).one():
        before = keys.derive(endpoint.id, endpoint.secret_number - 1)
        signatures.append(keys.sign(before, str(delivery_id), timestamp, body))
    return {
        "Content-Type": "application/json",
        "User-Agent": "Expunge",
        "Webhook-Id": str(delivery_id),
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": " ".join(signatures),
    }


def record(held: Claim, outcome: Outcome) -> None:
    """Account for an attempt. Of one that outlived its lease a success counts and a failure does not: another is on its way.

    The endpoint's row is locked first, as by whoever enables or disables it.
    """
    with transaction() as session:
        locked = select(WebhookEndpoint).where(WebhookEndpoint.id == held.endpoint_id)
        endpoint = session.scalar(locked.with_for_update(key_share=True))
        query = select(WebhookDelivery).where(WebhookDelivery.id == held.delivery_id)
        row = session.scalar(query.with_for_update(key_share=True))
        if endpoint is None or row is None:  # removed meanwhile
            return
        attempt = session.get_one(WebhookAttempt, (held.delivery_id, held.attempt))
        attempt.seconds, attempt.status, attempt.outcome = outcome.seconds, outcome.status, outcome.word
        now = session.scalars(select(func.now())).one()
        if outcome.word is Word.DELIVERED:
            row.state, row.claimed, row.ended_at = DeliveryState.DELIVERED, False, now
            if endpoint.succeeded_at is None or endpoint.succeeded_at < now - timedelta(minutes=1):
                endpoint.succeeded_at = now
        elif row.attempt == held.attempt and row.state is DeliveryState.PENDING:
            row.claimed = False
            put_off(session, endpoint, row, outcome.word, now)


def put_off(session: Session, endpoint: WebhookEndpoint, row: WebhookDelivery, word: Word, now: datetime) -> None:
    """After a failure: the next attempt, or none any more. The last one comes when the time for trying is over."""
    if word is not Word.GONE and now < row.give_up_at:
        row.due_at = min(now + timedelta(seconds=wait(row.tries)), row.give_up_at)
        return
    row.state, row.ended_at = DeliveryState.FAILED, now
    begun = row.give_up_at - endpoints.patience()
    if endpoint.disabled_at is not None:
        return
    if word is Word.GONE:
        endpoints.disable(session, endpoint, "the receiver answered 410 Gone")
    elif endpoint.succeeded_at is None or endpoint.succeeded_at < begun:
        endpoints.disable(session, endpoint, f"no call succeeded for {settings().webhook_retry_days:g} days")


def wait(tries: int) -> float:
    """Seconds until the next attempt: full jitter, so that receivers that come back meet no herd."""
    highest = settings().webhook_retry_seconds * 4.0 ** min(tries - 1, 20)
    return random.uniform(0, min(highest, LONGEST_WAIT))  # noqa: S311 - spreads load, hides nothing


def test(session: Session, endpoint: WebhookEndpoint) -> WebhookDelivery:
    """A call that says nothing but that it came. Raises `Conflict` while the last one waits, or on a disabled endpoint."""
    refuse_disabled(endpoint)
    waits = select(WebhookDelivery.id).where(
        WebhookDelivery.endpoint_id == endpoint.id,
        WebhookDelivery.type == EventType.WEBHOOK_TEST,
        WebhookDelivery.state == DeliveryState.PENDING,
    )
    if session.scalar(waits.limit(1)) is not None:
        raise Conflict("A test call is waiting already. The deliveries show how it goes.")
    named = EventType.WEBHOOK_TEST
    made = WebhookDelivery(
        endpoint_id=endpoint.id,
        seq=None,
        part=0,
        type=named,
        body=events.body_of(named, events.of_webhook(endpoint.id), datetime.now(UTC), None),
        state=DeliveryState.PENDING,
        give_up_at=func.now() + endpoints.patience(),
    )
    session.add(made)
    session.flush()
    session.refresh(made)
    return made


def refuse_disabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        raise Conflict("The webhook is disabled. Enable it first.")


def redeliver(session: Session, endpoint: WebhookEndpoint, delivery_id: UUID) -> WebhookDelivery:
    """Begin a delivery anew, whatever became of it; its `webhook-id` stays. Raises `NotFound`, and `Conflict` in mid-call."""
    refuse_disabled(endpoint)
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint.id)
    row = session.scalar(query.with_for_update(key_share=True))
    if row is None:
        raise NotFound("No delivery of that id to this webhook; deliveries are kept for a time only.")
    now = session.scalars(select(func.now())).one()
    if row.claimed and row.due_at > now:
        raise Conflict("The delivery is being tried at this moment.")
    row.state, row.ended_at, row.claimed, row.tries = DeliveryState.PENDING, None, False, 0
    row.due_at, row.give_up_at = now, now + endpoints.patience()
    session.flush()
    session.refresh(row)
    return row


def page(
    session: Session,
    endpoint: WebhookEndpoint,
    state: DeliveryState | None,
    limit: int,
    after: tuple[datetime, UUID] | None,
) -> list[WebhookDelivery]:
    """The endpoint's deliveries with their attempts, newest first, at most `limit`, behind the keyset position `after`."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id)
    query = query.options(selectinload(WebhookDelivery.attempts))
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    if after is not None:
        query = query.where(tuple_(WebhookDelivery.created_at, WebhookDelivery.id) < after)
    newest = query.order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
    return list(session.scalars(newest.limit(limit)))


def purge() -> int:
    """Drop deliveries past their term, some at a time; returns how many. Pending ones go only where their endpoint has been
    disabled for as long."""
    term = func.now() - timedelta(days=settings().webhook_keep_days)
    ended = or_(WebhookDelivery.state != DeliveryState.PENDING, WebhookEndpoint.disabled_at < term)
    old = select(WebhookDelivery.id).join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
    old = old.where(WebhookDelivery.created_at < term, ended).limit(PURGED_AT_ONCE)
    total = 0
    while True:
        with transaction() as session:
            gone = changed(session, delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)))
        total += gone
        if gone < PURGED_AT_ONCE:
            return total
