"""What a replay does again besides tickets: what somebody had forbidden or tightened must not come back to life.

Keys revoked, approximate updates stopped or resumed, policies changed, weights withdrawn, purged or handed out. Everything
else that the journal tells of was done by hand and is listed for whoever does it again: it names data that the log does not
hold.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import audit, versions
from app.db import changed
from app.tables import ApiKey, Model, Policy, Version

COLUMNS = {
    "weights.handed_out": "weights_fetched_at",
    "weights.withdrawn": "weights_withdrawn_at",
    "weights.purged": "weights_purged_at",
}
DONE = frozenset({"key.revoked", "policy.changed", "model.stopped", "model.resumed", *COLUMNS})
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
    kind, data = event["kind"], event["data"]
    if kind == "key.revoked":
        ended = update(ApiKey).where(ApiKey.prefix == data["prefix"], ApiKey.revoked_at.is_(None))
        done = changed(session, ended.values(revoked_at=func.now())) == 1
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
