"""The compliance tool's seat, second half: being told instead of asking."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Response

from app import cursors
from app.auth import MayBeTold
from app.db import transaction
from app.errors import Conflict, may_answer
from app.queue import DELIVER, ring
from app.tables import DeliveryState
from app.webhooks import deliveries, endpoints, shapes

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
Limit = Annotated[int, Query(ge=1, le=200)]


@router.post("", status_code=201, responses=may_answer(Conflict))
def create(asked: shapes.WebhookRequest, response: Response, who: MayBeTold) -> shapes.WebhookCreated:
    """Be told of what happens from now on. The secret is shown this once."""
    with transaction() as session:
        made, secret = endpoints.create(session, who, asked.url, asked.events, asked.description)
        view = shapes.endpoint(made)
    response.headers["Location"] = view.href
    response.headers["Cache-Control"] = "no-store"
    return shapes.WebhookCreated(**view.model_dump(), secret=secret)


@router.get("")
def page(who: MayBeTold, limit: Limit = 50, cursor: str | None = None) -> shapes.WebhookPage:
    """Your endpoints, newest first."""
    query = f"webhooks|{who.sees!r}"
    after = cursors.decode(cursor, query) if cursor else None
    with transaction() as session:
        found = endpoints.page(session, who.sees, limit + 1, after)
        items = [shapes.endpoint(row) for row in found[:limit]]
    more = len(found) > limit
    following = cursors.encode((found[limit - 1].created_at, found[limit - 1].id), query) if more else None
    return shapes.WebhookPage(items=items, next=following)


@router.get("/{webhook_id}")
def show(webhook_id: UUID, who: MayBeTold) -> shapes.WebhookView:
    """One endpoint."""
    with transaction() as session:
        return shapes.endpoint(endpoints.get(session, who.sees, webhook_id))


@router.patch("/{webhook_id}")
def change(webhook_id: UUID, asked: shapes.WebhookChange, who: MayBeTold) -> shapes.WebhookView:
    """Change an endpoint. One that is enabled again goes on where it stood: what happened meanwhile is delivered."""
    with transaction() as session:
        found = endpoints.get(session, who.sees, webhook_id, lock=True)
        endpoints.change(session, found, asked.asked(), who)
        session.refresh(found)
        return shapes.endpoint(found)


@router.delete("/{webhook_id}", status_code=204)
def remove(webhook_id: UUID, who: MayBeTold) -> None:
    """Remove an endpoint with its deliveries."""
    with transaction() as session:
        endpoints.remove(session, endpoints.get(session, who.sees, webhook_id, lock=True), who.client)


@router.post("/{webhook_id}/rotate")
def rotate(
    webhook_id: UUID, response: Response, who: MayBeTold, asked: shapes.WebhookRotate | None = None
) -> shapes.WebhookSecret:
    """A new secret, shown this once. Until the overlap ends, calls carry the old one's signature as well."""
    overlap = (asked or shapes.WebhookRotate()).overlap
    with transaction() as session:
        found = endpoints.get(session, who.sees, webhook_id, lock=True)
        secret = endpoints.rotate(session, found, overlap, who.client)
        session.refresh(found)
        until = found.previous_until
    response.headers["Cache-Control"] = "no-store"
    return shapes.WebhookSecret(secret=secret, old_secret_until=until)


@router.post("/{webhook_id}/test", status_code=202, responses=may_answer(Conflict))
def test(webhook_id: UUID, bell: BackgroundTasks, who: MayBeTold) -> shapes.DeliveryView:
    """Send `webhook.test`; the deliveries show how it went."""
    with transaction() as session:
        made = deliveries.test(session, endpoints.get(session, who.sees, webhook_id, lock=True))
        view = shapes.delivery(made)
    bell.add_task(ring, DELIVER)
    return view


@router.get("/{webhook_id}/deliveries")
def sent(
    webhook_id: UUID, who: MayBeTold, state: DeliveryState | None = None, limit: Limit = 50, cursor: str | None = None
) -> shapes.DeliveryPage:
    """What an endpoint was told, newest first, with every attempt."""
    query = f"deliveries|{webhook_id}|{state}"
    after = cursors.decode(cursor, query) if cursor else None
    with transaction() as session:
        endpoint = endpoints.get(session, who.sees, webhook_id)
        found = deliveries.page(session, endpoint, state, limit + 1, after)
        items = [shapes.delivery(row) for row in found[:limit]]
    more = len(found) > limit
    following = cursors.encode((found[limit - 1].created_at, found[limit - 1].id), query) if more else None
    return shapes.DeliveryPage(items=items, next=following)


@router.post("/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202, responses=may_answer(Conflict))
def redeliver(webhook_id: UUID, delivery_id: UUID, bell: BackgroundTasks, who: MayBeTold) -> shapes.DeliveryView:
    """Send a delivery again, under the same `webhook-id`."""
    with transaction() as session:
        endpoint = endpoints.get(session, who.sees, webhook_id, lock=True)
        view = shapes.delivery(deliveries.redeliver(session, endpoint, delivery_id))
    bell.add_task(ring, DELIVER)
    return view
