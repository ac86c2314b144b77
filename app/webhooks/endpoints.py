"""Endpoints: made, changed, given a new secret, disabled, removed; and what their owners may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import Select, func, select, tuple_, update
from sqlalchemy.orm import Session

from app import audit, oidc
from app import keys as api_keys
from app.auth import Principal, Scope
from app.config import settings
from app.errors import Conflict, Forbidden, NotFound
from app.tables import AuditHead, DeliveryState, WebhookDelivery, WebhookEndpoint
from app.webhooks import addresses, keys
from app.webhooks.events import EventType

MOST = 20
"""Endpoints that one client may have."""


def create(
    session: Session, who: Principal, url: str, events: Sequence[EventType] | None, description: str | None
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret: the one time that it is shown. It hears of what happens from now on."""
    check_events(events, everything=who.sees is None)
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"webhooks of {who.client}", 0))))
    count = session.scalar(select(func.count()).where(WebhookEndpoint.client == who.client)) or 0
    if count >= MOST:
        raise Conflict(f"A client may have {MOST} webhook endpoints. Remove one first.")
    endpoint_id, number = uuid4(), 1
    secret = keys.derive(endpoint_id, number)
    made = WebhookEndpoint(
        id=endpoint_id,
        client=who.client,
        url=addresses.check_url(url, settings()),
        description=description,
        events=[str(event) for event in events] if events is not None else None,
        every_client=who.sees is None,
        cursor=0,
        secret_number=number,
        secret_check=keys.check(secret),
    )
    session.add(made)
    append(session, "webhook.created", who.client, made)
    made.cursor = session.scalars(select(AuditHead.seq)).one()  # the head is ours until the commit: nothing is missed
    session.flush()
    return made, keys.shown(secret)


def check_events(events: Sequence[EventType] | None, *, everything: bool) -> None:
    """Raise `Forbidden` for an event that its owner would never be told of."""
    for event in events or ():
        if not everything and not event.of_ticket:
            raise Forbidden(f"`{event}` is told to a key with the scope `admin`.")


def append(session: Session, kind: str, by: str, endpoint: WebhookEndpoint, **more: Any) -> None:
    """The audit event of a change. Of the URL only its host: the rest may hold a receiver's own secret."""
    host = httpx.URL(endpoint.url).host
    audit.append(session, kind, by, webhook=str(endpoint.id), client=endpoint.client, host=host, **more)


def visible(client: str | None) -> Select[WebhookEndpoint]:
    """Endpoints that this client may see: its own, or all for None (an admin)."""
    query = select(WebhookEndpoint)
    return query if client is None else query.where(WebhookEndpoint.client == client)


def get(session: Session, client: str | None, endpoint_id: UUID, *, lock: bool = False) -> WebhookEndpoint:
    """The endpoint, or `NotFound`, also for one that belongs to somebody else. To change one, which `lock` is for, takes a
    key that may see what it is told: a client's narrow key may not turn its admin's endpoint elsewhere."""
    query = visible(client).where(WebhookEndpoint.id == endpoint_id)
    found = session.scalar(query.with_for_update(key_share=True) if lock else query)
    if found is None:
        raise NotFound("No webhook of that id among yours.")
    if lock and found.every_client and client is not None:
        raise Forbidden("This webhook is told of every client's tickets. Use a key with the scope `admin`.")
    return found


def page(
    session: Session, client: str | None, limit: int, after: tuple[datetime, UUID] | None
) -> list[WebhookEndpoint]:
    """Endpoints, newest first, at most `limit`, behind the keyset position `after`."""
    query = visible(client).order_by(WebhookEndpoint.created_at.desc(), WebhookEndpoint.id.desc()).limit(limit)
    if after is not None:
        query = query.where(tuple_(WebhookEndpoint.created_at, WebhookEndpoint.id) < after)
    return list(session.scalars(query))


def change(session: Session, endpoint: WebhookEndpoint, asked: dict[str, Any], by: Principal) -> None:
    """Change what `asked` names: url, description, events, enabled. What is enabled again goes on where it stood."""
    if "events" in asked:
        check_events(asked["events"], everything=endpoint.every_client and by.sees is None)
        endpoint.events = [str(event) for event in asked["events"]] if asked["events"] is not None else None
    if "url" in asked:
        endpoint.url = addresses.check_url(asked["url"], settings())
    if "description" in asked:
        endpoint.description = asked["description"]
    if asked.get("enabled") is True and endpoint.disabled_at is not None:
        enable(session, endpoint)
    elif asked.get("enabled") is False and endpoint.disabled_at is None:
        endpoint.disabled_at, endpoint.disabled_why = func.now(), f"by {by.client}"
    if asked:
        append(session, "webhook.changed", by.client, endpoint, fields=sorted(asked))


def enable(session: Session, endpoint: WebhookEndpoint) -> None:
    """Begin anew: also what was under way when it was disabled."""
    endpoint.disabled_at = endpoint.disabled_why = None
    waiting = (WebhookDelivery.endpoint_id == endpoint.id) & (WebhookDelivery.state == DeliveryState.PENDING)
    anew = update(WebhookDelivery).where(waiting, ~WebhookDelivery.claimed)
    session.execute(anew.values(due_at=func.now(), tries=0, give_up_at=func.now() + patience()))


def patience() -> timedelta:
    """How long a delivery is tried."""
    return timedelta(days=settings().webhook_retry_days)


def disable(session: Session, endpoint: WebhookEndpoint, why: str) -> None:
    """Stop calling; the event tells the owner's other endpoints and admins."""
    endpoint.disabled_at, endpoint.disabled_why = func.now(), why
    append(session, "webhook.disabled", "expunge", endpoint, why=why)


def rotate(session: Session, endpoint: WebhookEndpoint, overlap: timedelta, by: str) -> str:
    """A new secret, shown this once. For the time of the overlap calls carry the old one's signature beside its own."""
    number = endpoint.secret_number + 1
    secret = keys.derive(endpoint.id, number)
    endpoint.secret_number, endpoint.secret_check = number, keys.check(secret)
    endpoint.previous_until = func.now() + overlap if overlap else None
    append(session, "webhook.rotated", by, endpoint, overlap_seconds=int(overlap.total_seconds()))
    return keys.shown(secret)


def remove(session: Session, endpoint: WebhookEndpoint, by: str) -> None:
    """The endpoint and its deliveries."""
    append(session, "webhook.removed", by, endpoint)
    session.delete(endpoint)


@dataclass(frozen=True)
class Sight:
    """What an endpoint's owner may see at present: one client's tickets, or with None everything."""

    client: str | None

    def covers(self, client: str | None) -> bool:
        """Whether it may be told of what belongs to this client; None is what belongs to none."""
        return self.client is None or self.client == client


def sight(session: Session, endpoint: WebhookEndpoint) -> Sight | None:
    """What the owner may see, by its keys as they stand; None while it has none with the scope: then the endpoint waits.

    So whoever revokes a client's last key silences what that key may have set up. An identity provider's subject has no
    keys here: what its token said when it made the endpoint holds.
    """
    if endpoint.client.startswith(oidc.PREFIX):
        return Sight(None if endpoint.every_client else endpoint.client)
    held = api_keys.scopes_of(session, endpoint.client)
    if Scope.ADMIN in held:
        return Sight(None if endpoint.every_client else endpoint.client)
    return Sight(endpoint.client) if Scope.WEBHOOKS_WRITE in held else None
