"""The compliance tool's seat, second half: being told instead of asking."""

from collections.abc import Iterable, Iterator
from typing import TypedDict, Unpack
from uuid import UUID

from expunge.address import part
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
from expunge.sync.http import Http
from expunge.sync.paging import each


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

    def add(
        self, url: str, *, events: Iterable[EventType | str] | None = None, description: str | None = None
    ) -> WebhookCreated:
        """Be told of what happens from now on. The secret is in this answer, and never again."""
        with checked():
            named = None if events is None else list(events)
            asked = WebhookRequest(url=url, events=named, description=description)
        return self.http.post(WebhookCreated, "/webhooks", asked)

    def get(self, webhook: UUID | str) -> WebhookView:
        """One endpoint."""
        return self.http.get(WebhookView, f"/webhooks/{part(webhook)}")

    def page(self, *, limit: int | None = None, cursor: str | None = None) -> WebhookPage:
        """One page of endpoints, newest first; `cursor` is the `next` of the page before."""
        return self.http.get(WebhookPage, "/webhooks", limit=limit, cursor=cursor)

    def each(self, *, most: int | None = None) -> Iterator[WebhookView]:
        """All endpoints, or `most` of them, newest first, page by page."""
        return each(self.http, WebhookPage, "/webhooks", {}, most)

    def change(self, webhook: UUID | str, **changes: Unpack[Changes]) -> WebhookView:
        """Change an endpoint; what is left out stays."""
        with checked():
            asked = WebhookChange(**changes).model_dump(mode="json", exclude_unset=True)
        return parsed(self.http.call("PATCH", f"/webhooks/{part(webhook)}", json=asked), WebhookView)

    def remove(self, webhook: UUID | str) -> None:
        """Remove an endpoint with its deliveries."""
        empty(self.http.call("DELETE", f"/webhooks/{part(webhook)}"))

    def rotate(self, webhook: UUID | str, *, overlap_hours: float = 24) -> WebhookSecret:
        """A new secret, in this answer and never again. Until the overlap ends, calls carry the old signature as well."""
        with checked():
            asked = WebhookRotate(overlap_hours=overlap_hours)
        return self.http.post(WebhookSecret, f"/webhooks/{part(webhook)}/rotate", asked)

    def test(self, webhook: UUID | str) -> DeliveryView:
        """Send `webhook.test`; the deliveries show how it went."""
        return self.http.post(DeliveryView, f"/webhooks/{part(webhook)}/test")

    def page_of_deliveries(
        self,
        webhook: UUID | str,
        *,
        state: DeliveryState | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> DeliveryPage:
        """One page of what an endpoint was told; `cursor` is the `next` of the page before, under the same filter."""
        path = f"/webhooks/{part(webhook)}/deliveries"
        return self.http.get(DeliveryPage, path, state=state, limit=limit, cursor=cursor)

    def deliveries(
        self, webhook: UUID | str, *, state: DeliveryState | str | None = None, most: int | None = None
    ) -> Iterator[DeliveryView]:
        """What an endpoint was told, newest first, with every attempt, page by page."""
        return each(self.http, DeliveryPage, f"/webhooks/{part(webhook)}/deliveries", {"state": state}, most)

    def redeliver(self, webhook: UUID | str, delivery: UUID | str) -> DeliveryView:
        """Send a delivery again, under the same `webhook-id`."""
        path = f"/webhooks/{part(webhook)}/deliveries/{part(delivery)}/redeliver"
        return self.http.post(DeliveryView, path)
