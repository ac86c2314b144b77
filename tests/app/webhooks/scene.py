"""Endpoints made and told, as the other tests of webhooks need it."""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from app.auth import Principal, Scope
from app.db import transaction
from app.tables import WebhookDelivery, WebhookEndpoint
from app.webhooks import deliveries, endpoints, senders
from app.webhooks.events import EventType
from tests.app import story

URL = "https://hooks.example/in"


def endpoint(
    client: str = "tool", url: str = URL, *, admin: bool = False, events: list[EventType] | None = None
) -> UUID:
    """An endpoint, and the key that its client must have."""
    scope = Scope.ADMIN if admin else Scope.WEBHOOKS_WRITE
    story.key(client, scope)
    with transaction() as session:
        made, _ = endpoints.create(session, Principal(client, frozenset({scope})), url, events, None)
        return made.id


def rows(endpoint_id: UUID) -> list[WebhookDelivery]:
    with transaction() as session:
        query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
        return list(session.scalars(query.order_by(WebhookDelivery.seq, WebhookDelivery.part)))


def told(endpoint_id: UUID) -> list[str]:
    return [row.type for row in rows(endpoint_id)]


def bodies(endpoint_id: UUID) -> list[dict[str, Any]]:
    return [json.loads(row.body) for row in rows(endpoint_id)]


def row(endpoint_id: UUID) -> WebhookEndpoint:
    with transaction() as session:
        return session.get_one(WebhookEndpoint, endpoint_id)


def due_now() -> None:
    """Let every wait be over, and every lease."""
    with transaction() as session:
        session.execute(update(WebhookDelivery).values(due_at=WebhookDelivery.created_at))


def drain() -> int:
    """Call for all that is due, in this thread; returns how many calls were made."""
    count = 0
    while (held := deliveries.claim()) is not None:
        senders.attempt(held)
        count += 1
    return count
