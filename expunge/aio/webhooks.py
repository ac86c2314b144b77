"""The compliance tool's seat, second half: being told instead of asking."""

from collections.abc import AsyncIterator, Iterable
from typing import TypedDict, Unpack
from uuid import UUID

from expunge.address import part
from expunge.aio.http import Http
from expunge.aio.paging import each
from expunge.answers import empty, parsed
from expunge.bodies import checked
from expunge.models import (
    DeliveryPage,
    DeliveryState,
    DeliveryView,
    EventType,
    WebhookChange,
    WebhookCreated,
    WebhookPage,
    WebhookRequest,
    WebhookRotate,
    WebhookSecret,
    WebhookView,
)


class Changes(TypedDict, total=False):
    """What may be changed of an endpoint. `events=None`: all that its owner may see."""

    url: str
    events: list[EventType] | list[str] | None
    description: str | None
    enabled: bool


class Webhooks:
    """Endpoints of yours that are called when something happens, and what they were told."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def add(
        self, url: str, *, events: Iterable[EventType | str] | None = None, description: str | None = None
    ) -> WebhookCreated:
        """Be told of what happens from now on. The secret is in this answer, and never again."""
        with checked():
            named = None if events is None else list(events)
            asked = WebhookRequest(url=url, events=named, description=description)
        return await self.http.post(WebhookCreated, "/webhooks", asked)

    async def get(self, webhook: UUID | str) -> WebhookView:
        """One endpoint."""
        return await self.http.get(WebhookView, f"/webhooks/{part(webhook)}")

    async def page(self, *, limit: int | None = None, cursor: str | None = None) -> WebhookPage:
        """One page of endpoints, newest first; `cursor` is the `next` of the page before."""
        return await self.http.get(WebhookPage, "/webhooks", limit=limit, cursor=cursor)

    def each(self, *, most: int | None = None) -> AsyncIterator[WebhookView]:
        """All endpoints, or `most` of them, newest first, page by page."""
        return each(self.http, WebhookPage, "/webhooks", {}, most)

    async def change(self, webhook: UUID | str, **changes: Unpack[Changes]) -> WebhookView:
        """Change an endpoint; what is left out stays."""
        with checked():
            asked = WebhookChange(**changes).model_dump(mode="json", exclude_unset=True)
        return parsed(await self.http.call("PATCH", f"/webhooks/{part(webhook)}", json=asked), WebhookView)

    async def remove(self, webhook: UUID | str) -> None:
        """Remove an endpoint with its deliveries."""
        empty(await self.http.call("DELETE", f"/webhooks/{part(webhook)}"))

    async def rotate(self, webhook: UUID | str, *, overlap_hours: float = 24) -> WebhookSecret:
        """A new secret, in this answer and never again. Until the overlap ends, calls carry the old signature as well."""
        with checked():
            asked = WebhookRotate(overlap_hours=overlap_hours)
        return await self.http.post(WebhookSecret, f"/webhooks/{part(webhook)}/rotate", asked)

    async def test(self, webhook: UUID | str) -> DeliveryView:
        """Send `webhook.test`; the deliveries show how it went."""
        return await self.http.post(DeliveryView, f"/webhooks/{part(webhook)}/test")

    async def page_of_deliveries(
        self,
        webhook: UUID | str,
        *,
        state: DeliveryState | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> DeliveryPage:
        """One page of what an endpoint was told; `cursor` is the `next` of the page before, under the same filter."""
        path = f"/webhooks/{part(webhook)}/deliveries"
        return await self.http.get(DeliveryPage, path, state=state, limit=limit, cursor=cursor)

    def deliveries(
        self, webhook: UUID | str, *, state: DeliveryState | str | None = None, most: int | None = None
    ) -> AsyncIterator[DeliveryView]:
        """What an endpoint was told, newest first, with every attempt, page by page."""
        return each(self.http, DeliveryPage, f"/webhooks/{part(webhook)}/deliveries", {"state": state}, most)

    async def redeliver(self, webhook: UUID | str, delivery: UUID | str) -> DeliveryView:
        """Send a delivery again, under the same `webhook-id`."""
        path = f"/webhooks/{part(webhook)}/deliveries/{part(delivery)}/redeliver"
        return await self.http.post(DeliveryView, path)
