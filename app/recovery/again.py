"""What a replay does again besides tickets: what somebody had forbidden or tightened must not come back to life.

Keys revoked, approximate updates stopped or resumed, policies changed. Everything else that the journal tells of was
done by hand and is listed for whoever does it again: it names data that the log does not hold.
"""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import audit
from app.db import changed
from app.tables import ApiKey, Model, Policy

DONE = frozenset({"key.revoked", "policy.changed", "model.stopped", "model.resumed"})
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
    }
)


def do(session: Session, event: dict[str, Any], new_models: set[int]) -> bool:
    """Do again what the event says; whether there was anything to do. Models that were registered after the back-up are not
    there, and their numbers may be others' by now."""
    model = session.get(Model, event["model"]) if event["model"] not in {None, *new_models} else None
    data = event["data"]
    if event["kind"] == "key.revoked":
        ended = update(ApiKey).where(ApiKey.prefix == data["prefix"], ApiKey.revoked_at.is_(None))
        done = changed(session, ended.values(revoked_at=func.now())) == 1
    elif model is None:
        return False
    elif event["kind"] == "policy.changed":
        done = put(session, model, data, event["actor"])
    elif event["kind"] in ("model.stopped", "model.resumed"):
        stopped = data["why"] if event["kind"] == "model.stopped" else None
        done, model.stopped = model.stopped != stopped, stopped
    else:
        return False
    if done:
        audit.append(session, event["kind"], event["actor"], model_id=event["model"], replayed=event["at"], **data)
    return done


def put(session: Session, model: Model, data: dict[str, Any], author: str) -> bool:
    """The model's next policy, unless it has one of that number."""
    newest = session.scalar(select(func.max(Policy.number)).where(Policy.model_id == model.id)) or 0
    if data["number"] != newest + 1:
        return False
    made = Policy(model_id=model.id, number=data["number"], body=data["policy"], author=author)
    made.approved_by = data["approved_by"]
    session.add(made)
    return True
