"""Shapes of requests and responses, and how rows become them."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from app.schemas import Name, Request, no_control
from app.tables import DeliveryState, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from app.webhooks.addresses import LONGEST_URL
from app.webhooks.events import EventType
from app.webhooks.sending import Word

Url = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_URL), AfterValidator(no_control)]
Events = Annotated[
    list[EventType] | None,
    Field(min_length=1, description="What it is to be told of; null or left out: all that its owner may see"),
]


class WebhookRequest(Request):
    """A new endpoint."""

    url: Url
    events: Events = None
    description: Name | None = None


class WebhookChange(Request):
    """What is to change; what is left out stays."""

    url: Url = ""
    events: Events = None
    description: Name | None = None
    enabled: bool = True

    def asked(self) -> dict[str, Any]:
        """The fields that the request named."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class WebhookRotate(Request):
    """For how long calls are signed with the old secret as well."""

    overlap_hours: float = Field(default=24, ge=0, le=168)

    @property
    def overlap(self) -> timedelta:
        return timedelta(hours=self.overlap_hours)


class WebhookView(BaseModel):
    id: UUID
    client: str
    url: str
    description: str | None
    events: list[EventType] | None = Field(description="Null: all that its owner may see")
    every_client: bool = Field(description="Whether it hears of all clients' tickets, and of models and batches")
    enabled: bool
    disabled_at: datetime | None
    disabled_why: str | None
    last_success_at: datetime | None = Field(description="To the minute")
    old_secret_until: datetime | None = Field(description="Until when calls carry the old secret's signature as well")
    created_at: datetime
    href: str


class WebhookCreated(WebhookView):
    secret: str = Field(description="Shown this once: what calls are signed with")


class WebhookSecret(BaseModel):
    secret: str = Field(description="Shown this once: what calls are signed with")
    old_secret_until: datetime | None


class WebhookPage(BaseModel):
    items: list[WebhookView]
    next: str | None


class AttemptView(BaseModel):
    number: int
    started_at: datetime
    seconds: float | None
    status: int | None
    outcome: Word | None = Field(description="Null while it is under way, and where its sender died")


class DeliveryView(BaseModel):
    id: UUID = Field(description="The `webhook-id` of every attempt")
    type: EventType
    sequence: int | None
    state: DeliveryState
    next_attempt_at: datetime | None
    attempts: list[AttemptView]
    created_at: datetime
    ended_at: datetime | None


class DeliveryPage(BaseModel):
    items: list[DeliveryView]
    next: str | None


def endpoint(row: WebhookEndpoint) -> WebhookView:
    return WebhookView(
        id=row.id,
        client=row.client,
        url=row.url,
        description=row.description,
        events=[EventType(event) for event in row.events] if row.events is not None else None,
        every_client=row.every_client,
        enabled=row.disabled_at is None,
        disabled_at=row.disabled_at,
        disabled_why=row.disabled_why,
        last_success_at=row.succeeded_at,
        old_secret_until=row.previous_until,
        created_at=row.created_at,
        href=f"/webhooks/{row.id}",
    )


def delivery(row: WebhookDelivery) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        type=EventType(row.type),
        sequence=row.seq,
        state=row.state,
        next_attempt_at=row.due_at if row.state is DeliveryState.PENDING else None,
        attempts=[attempt(each) for each in row.attempts],
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def attempt(row: WebhookAttempt) -> AttemptView:
    return AttemptView(
        number=row.number,
        started_at=row.started_at,
        seconds=row.seconds,
        status=row.status,
        outcome=Word(row.outcome) if row.outcome else None,
    )
