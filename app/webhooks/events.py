"""What receivers are told: a small vocabulary of its own, so that the audit log may change its words, and thin payloads.

A payload names tickets, batches, models and versions, and where to read on. It never holds a sample's or a subject's id,
nor a statistic, nor the client's own reference.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field


class EventType(StrEnum):
    """The names that a receiver may rely on. One is added here, never renamed."""

    TICKET_ACCEPTED = "ticket.accepted"
    TICKET_FULFILLED = "ticket.fulfilled"
    TICKET_DATA_RELEASABLE = "ticket.data_releasable"
    TICKET_CANCELLED = "ticket.cancelled"
    TICKET_QUARANTINED = "ticket.quarantined"
    BATCH_DEFERRED = "batch.deferred"
    BATCH_ESCALATED = "batch.escalated"
    BATCH_QUARANTINED = "batch.quarantined"
    VERSION_PUBLISHED = "version.published"
    VERSION_WEIGHTS_PURGED = "version.weights_purged"
    VERSION_WEIGHTS_WITHDRAWN = "version.weights_withdrawn"
    APPROVAL_REQUESTED = "approval.requested"
    MODEL_STOPPED = "model.stopped"
    MODEL_RESUMED = "model.resumed"
    AUDIT_CHECKPOINTED = "audit.checkpointed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"

    @property
    def of_ticket(self) -> bool:
        """Whether it is told to the ticket's own client; all others but `webhook.test` are told to admins."""
        return self.startswith("ticket.")


class TicketData(BaseModel):
    ticket: UUID
    href: str = Field(description="Where to read on")


class BatchData(BaseModel):
    batch: UUID
    model: str
    href: str


class EscalationData(BatchData):
    rung: str = Field(description="What did not suffice")
    to: str = Field(description="What is tried next")


class VersionData(BaseModel):
    version: str
    model: str
    href: str


class ModelData(BaseModel):
    model: str
    href: str


class CheckpointData(BaseModel):
    size: int = Field(description="Events of the log that it covers")
    note: str = Field(description="The signed head, to be kept: C2SP tlog-checkpoint")
    href: str


class WebhookData(BaseModel):
    webhook: UUID
    href: str


Data = TicketData | EscalationData | BatchData | VersionData | ModelData | CheckpointData | WebhookData


class Message(BaseModel):
    """The body of every call."""

    type: EventType
    timestamp: datetime = Field(description="When it happened")
    sequence: int | None = Field(
        description="Its number in the audit log: later events have higher ones. Null for a test"
    )
    data: Data


@dataclass(frozen=True)
class Told:
    """One thing to tell, before it is known to whom. `client` is whose webhook it is about, of `webhook.disabled`."""

    type: EventType
    data: Data
    ticket: UUID | None = None
    client: str | None = None


# What becomes of an event of the log. `batch.quarantined` also tells of each ticket that it holds up.
WEIGHTS = {
    "weights.purged": EventType.VERSION_WEIGHTS_PURGED,
    "weights.withdrawn": EventType.VERSION_WEIGHTS_WITHDRAWN,
}
ELSEWHERE = {EventType.TICKET_QUARANTINED, EventType.WEBHOOK_TEST, *WEIGHTS.values()}
KINDS = {kind.value for kind in EventType if kind not in ELSEWHERE} | WEIGHTS.keys()


def told(body: dict[str, Any], models: dict[int, str]) -> Iterator[Told]:
    """What one event of the audit log means to receivers; `models` are names by id."""
    kind, data, batch = body["kind"], body["data"], body["batch"]
    model = models.get(body["model"], "")
    if kind in WEIGHTS:
        yield Told(WEIGHTS[kind], of_version(data["version"], model))
        return
    match EventType(kind):
        case EventType.VERSION_PUBLISHED as named:
            yield Told(named, of_version(data["version"], model))
        case EventType.BATCH_ESCALATED as named:
            known = {"batch": batch, "model": model, "href": f"/batches/{batch}"}
            yield Told(named, EscalationData(**known, rung=data["rung"], to=data["to"]))
        case EventType.BATCH_DEFERRED | EventType.BATCH_QUARANTINED as named:
            yield Told(named, BatchData(batch=batch, model=model, href=f"/batches/{batch}"))
            if named is EventType.BATCH_QUARANTINED:
                for ticket in data.get("tickets", []):
                    yield of_ticket(EventType.TICKET_QUARANTINED, UUID(ticket))
        case EventType.MODEL_STOPPED | EventType.MODEL_RESUMED as named:
            yield Told(named, ModelData(model=model, href=f"/models/{model}/versions"))
        case EventType.APPROVAL_REQUESTED as named:
            yield Told(named, ModelData(model=model, href=f"/models/{model}/approvals"))
        case EventType.AUDIT_CHECKPOINTED as named:
            yield Told(named, CheckpointData(size=data["size"], note=data["note"], href="/audit/checkpoint"))
        case EventType.WEBHOOK_DISABLED as named:
            yield Told(named, of_webhook(UUID(data["webhook"])), client=data["client"])
        case named:
            yield of_ticket(named, UUID(body["ticket"]))


def of_ticket(named: EventType, ticket: UUID) -> Told:
    return Told(named, TicketData(ticket=ticket, href=f"/deletions/{ticket}"), ticket=ticket)


def of_version(version: str, model: str) -> VersionData:
    return VersionData(version=version, model=model, href=f"/models/{version}/audit")


def of_webhook(webhook: UUID) -> WebhookData:
    return WebhookData(webhook=webhook, href=f"/webhooks/{webhook}")


def body_of(named: EventType, data: Data, at: datetime, sequence: int | None) -> str:
    """The bytes that are sent and signed, as text."""
    message = Message(type=named, timestamp=at, sequence=sequence, data=data)
    return json.dumps(message.model_dump(mode="json"), separators=(",", ":"))
