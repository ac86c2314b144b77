"""What a replay does again besides tickets: what somebody had forbidden or tightened must not come back to life.

Keys revoked, approximate updates stopped or resumed, policies changed, weights withdrawn, purged or handed out, webhooks
disabled or removed. What else was done by hand is listed for whoever does it again: it names data that the log does not
hold. What the service did by itself it does again by itself.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import audit, versions
from app.db import changed
from app.tables import ApiKey, Model, Policy, Version, WebhookEndpoint

COLUMNS = {
    "weights.handed_out": "weights_fetched_at",
    "weights.withdrawn": "weights_withdrawn_at",
    "weights.purged": "weights_purged_at",
}
TICKETS = frozenset({"ticket.accepted", "ticket.cancelled"})
"""What the replay of tickets is made of."""
DONE = frozenset(
    {
        "key.revoked",
        "policy.changed",
        "model.stopped",
        "model.resumed",
        "webhook.disabled",
        "webhook.removed",
        *COLUMNS,
    }
)
BY_HAND = frozenset(
    {
        "dataset.loaded",
        "model.registered",
        "schedule.created",
        "schedule.removed",
        "key.created",
        "key.rotated",
        "key.expiry_set",
        "batch.flush",
        "batch.retried",
        "batch.withdrawn",
        "bank.ordered",
        "bank.grown",
        "approval.requested",
        "approval.granted",
        "approval.refused",
        "policy.proposed",
        "policy.refused",
        "webhook.created",
        "webhook.changed",
        "webhook.rotated",
    }
)
REDONE = "the tickets are pending again, and batches are made for them anew"
LOST = "its version, and what was measured of it, is lost with the database"
REFERENCES = "a bank that is there goes on with its references by itself"
FOLLOWS = "it follows from another event, or from time, and will again"
ITSELF = "it tells of the log and of back-ups themselves"
IGNORED = {
    "ticket.fulfilled": REDONE,
    "ticket.data_releasable": REDONE,
    "batch.closed": REDONE,
    "batch.absorbed": REDONE,
    "batch.cancelled": REDONE,
    "batch.deferred": REDONE,
    "batch.escalated": REDONE,
    "batch.quarantined": REDONE,
    "batch.split": REDONE,
    "run.claimed": REDONE,
    "run.failed": REDONE,
    "run.given_back": REDONE,
    "version.published": LOST,
    "verdict.recorded": LOST,
    "truth.measured": LOST,
    "records.quoted": LOST,
    "records.refused": LOST,
    "records.abandoned": LOST,
    "records.unusable": LOST,
    "records.purged": LOST,
    "bank.ready": REFERENCES,
    "bank.retired": REFERENCES,
    "bank.purged": "its rows leave again with the publication that forgets their samples",
    "reference.finished": REFERENCES,
    "reference.failed": REFERENCES,
    "reference.given_back": REFERENCES,
    "reference.lost": REFERENCES,
    "model.held": FOLLOWS,
    "model.released": FOLLOWS,
    "policy.approved": "policy.changed, which is done again, stands beside it",
    "policy.overtaken": "the policy that overtook it is in force again, and no proposal against another one can be approved",
    "exposure.confirmed": "the ticket that it tells of is replayed; who confirmed it and why stays in the journal",
    "approval.used": "its batch is lost; the tickets wait for consent again",
    "approval.expired": FOLLOWS,
    "approval.lapsed": FOLLOWS,
    "approval.deadline_near": FOLLOWS,
    "audit.exported": ITSELF,
    "audit.checkpointed": ITSELF,
    "signing.key_used": ITSELF,
    "ticket.salt_destroyed": "once its days are over, the purge destroys it again",
    "installation.restored": ITSELF,
    "installation.replayed": ITSELF,
    "installation.declared": ITSELF,
}
"""What a replay passes over, and why. What stands nowhere here, since a later release wrote it, is listed for the operator."""


def by_hand(event: dict[str, Any]) -> bool:
    """Whether a person has to do it again. A bank that the service ordered after a training, it orders again."""
    if event["kind"] in ("bank.ordered", "bank.grown") and event["actor"] == "expunge":
        return False
    return event["kind"] not in IGNORED.keys() | TICKETS | DONE


def do(session: Session, event: dict[str, Any], new_models: set[int]) -> bool:
    """Do again what the event says; whether there was anything to do. Models that were registered after the back-up are not
    there, and their numbers may be others' by now."""
    model = session.get(Model, event["model"]) if event["model"] not in {None, *new_models} else None
    kind, data = event["kind"], event["data"]
    if kind == "key.revoked":
        ended = update(ApiKey).where(ApiKey.prefix == data["prefix"], ApiKey.revoked_at.is_(None))
        done = changed(session, ended.values(revoked_at=func.now())) == 1
    elif kind in ("webhook.disabled", "webhook.removed"):
        done = silence(session, event)
    elif model is None:
        return False
    elif kind == "policy.changed":
        done = put(session, model, data, event["actor"])
    elif kind in COLUMNS:
        kind = close(session, model, event)
        done = kind is not None
    elif kind in ("model.stopped", "model.resumed"):
        stopped = data["why"] if kind == "model.stopped" else None
        done, model.stopped = model.stopped != stopped, stopped
    else:
        return False
    if done:
        told = data | {"replayed": event["at"]}  # it may be a replay's own event, which says so already
        audit.append(session, kind, event["actor"], model_id=event["model"], **told)
    return done


def silence(session: Session, event: dict[str, Any]) -> bool:
    """Stop calling a webhook again, or remove it with its deliveries. Its id is no number: it is nobody else's."""
    endpoint = session.get(WebhookEndpoint, UUID(event["data"]["webhook"]))
    if endpoint is None:
        return False
    if event["kind"] == "webhook.removed":
        session.delete(endpoint)
        return True
    why = event["data"]["why"]
    if endpoint.disabled_why == why:
        return False
    endpoint.disabled_at, endpoint.disabled_why = func.now(), why
    return True


def close(session: Session, model: Model, event: dict[str, Any]) -> str | None:
    """Write down again what became of a version's weights, with its time; returns which kind was done, if any. A version
    that was published after the back-up is lost, and its number may be another's by and by: while the installation is
    locked nothing is published, so what is found by its number is the one that was meant.

    What was purged may be what the restored model goes on from. Then nobody is given the bytes, but they stay until the
    purge finds that they are needed no more.
    """
    kind: str = event["kind"]
    named = versions.NUMBERED.fullmatch(event["data"]["version"])
    number = int(named["number"]) if named else None
    version = session.scalar(select(Version).where(Version.model_id == model.id, Version.number == number))
    if version is None:
        return None
    if kind == "weights.purged" and (version.superseded_at is None or versions.is_anchor(session, version)):
        kind = "weights.withdrawn"
    if getattr(version, COLUMNS[kind]) is not None:
        return None
    setattr(version, COLUMNS[kind], datetime.fromisoformat(event["at"]))
    return kind


def put(session: Session, model: Model, data: dict[str, Any], author: str) -> bool:
    """The model's next policy, unless it has one of that number."""
    newest = session.scalar(select(func.max(Policy.number)).where(Policy.model_id == model.id)) or 0
    if data["number"] != newest + 1:
        return False
    made = Policy(model_id=model.id, number=data["number"], body=data["policy"], author=author)
    made.approved_by = data["approved_by"]
    session.add(made)
    return True
