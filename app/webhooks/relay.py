"""From the audit log to deliveries: each endpoint's cursor follows the log, and moves in the transaction that writes what
lies between. A crash moves neither; two relays on one endpoint take turns.
"""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, or_, select
from sqlalchemy.orm import Session

from app.db import transaction
from app.tables import AuditEvent, AuditHead, DeliveryState, Model, Ticket, WebhookDelivery, WebhookEndpoint
from app.webhooks import endpoints, events
from app.webhooks.endpoints import Sight
from app.webhooks.events import Told, WebhookData

WINDOW = 1000
"""Events of the log that one transaction looks at."""


def fan_out() -> int:
    """Bring every endpoint up to the log's head, in turns; returns how many deliveries were written."""
    written = 0
    while waiting := behind():
        steps = [advance(endpoint_id) for endpoint_id in waiting]
        written += sum(step for step in steps if step is not None)
        if all(step is None for step in steps):  # each is held by another relay, or its owner has no key
            break
    return written


def behind() -> list[UUID]:
    """Enabled endpoints that have not seen the log's head."""
    head = select(AuditHead.seq).scalar_subquery()
    query = select(WebhookEndpoint.id).where(WebhookEndpoint.disabled_at.is_(None), WebhookEndpoint.cursor < head)
    with transaction() as session:
        return list(session.scalars(query.order_by(WebhookEndpoint.cursor)))


def advance(endpoint_id: UUID) -> int | None:
    """Move one endpoint's cursor by one window; returns how many deliveries that made, None where it may not move."""
    with transaction() as session:
        held = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.disabled_at.is_(None))
        endpoint = session.scalar(held.with_for_update(key_share=True, skip_locked=True))
        sight = endpoints.sight(session, endpoint) if endpoint is not None else None
        if endpoint is None or sight is None:
            return None
        # A number that the head shows is committed, and so are all before it: appenders hold the head until they commit.
        end = min(session.scalars(select(AuditHead.seq)).one(), endpoint.cursor + WINDOW)
        wanted = set(endpoint.events) if endpoint.events is not None else None
        rows = [row for row in between(session, sight, endpoint, end) if wanted is None or row["type"] in wanted]
        if rows:
            session.execute(insert(WebhookDelivery), rows)
        endpoint.cursor = end
        return len(rows)


def between(session: Session, sight: Sight, endpoint: WebhookEndpoint, end: int) -> list[dict[str, Any]]:
    """Deliveries for the log's events after the cursor, as far as the endpoint's owner may see them."""
    bodies = read(session, sight, endpoint.cursor, end)
    names = names_of(session, {body["model"] for _, body in bodies})
    found = [
        (seq, body["at"], part, each) for seq, body in bodies for part, each in enumerate(events.told(body, names))
    ]
    owners = owners_of(session, {each.ticket for *_, each in found})
    give_up = session.scalars(select(func.now() + endpoints.patience())).one()
    return [
        delivery(endpoint.id, seq, part, each, datetime.fromisoformat(at), give_up)
        for seq, at, part, each in found
        if concerns(each, endpoint, sight, owners)
    ]


def names_of(session: Session, model_ids: set[int | None]) -> dict[int, str]:
    query = select(Model.id, Model.name).where(Model.id.in_(model_ids - {None}))
    return {row.id: row.name for row in session.execute(query)}


def owners_of(session: Session, ticket_ids: set[UUID | None]) -> dict[UUID, str]:
    query = select(Ticket.id, Ticket.client).where(Ticket.id.in_(ticket_ids - {None}))
    return {row.id: row.client for row in session.execute(query)}


def concerns(each: Told, endpoint: WebhookEndpoint, sight: Sight, owners: dict[UUID, str]) -> bool:
    """Whether the endpoint is to be told. An endpoint's own end is told to its owner's others, never to itself."""
    if isinstance(each.data, WebhookData):
        return each.data.webhook != endpoint.id and sight.covers(each.client)
    return sight.covers(owners.get(each.ticket) if each.ticket is not None else None)


def read(session: Session, sight: Sight, after: int, end: int) -> list[tuple[int, dict[str, Any]]]:
    """The log's events that receivers may hear of: a range of its primary key, no more than a window long. For one client,
    those of others' tickets are left out here already."""
    query = select(AuditEvent.seq, AuditEvent.body).where(AuditEvent.seq > after, AuditEvent.seq <= end)
    query = query.where(AuditEvent.kind.in_(events.KINDS))
    if sight.client is not None:
        query = query.where(or_(AuditEvent.ticket_id.is_(None), owned_by(sight.client)))
    return [(seq, json.loads(body)) for seq, body in session.execute(query.order_by(AuditEvent.seq))]


def owned_by(client: str) -> ColumnElement[bool]:
    return select(Ticket.id).where(Ticket.id == AuditEvent.ticket_id, Ticket.client == client).exists()


def delivery(
    endpoint_id: UUID, seq: int | None, part: int, each: Told, at: datetime, give_up: datetime
) -> dict[str, Any]:
    """One delivery's row."""
    return {
        "endpoint_id": endpoint_id,
        "seq": seq,
        "part": part,
        "type": str(each.type),
        "body": events.body_of(each.type, each.data, at, seq),
        "state": DeliveryState.PENDING,
        "give_up_at": give_up,
    }
