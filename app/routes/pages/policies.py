"""The operator's pages, second half: policies, their history, and what others would have made of past verdicts."""

import json
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import dryrun, due, plots, policy, proposals, versions, views
from app.db import transaction
from app.differences import differences
from app.errors import PreconditionFailed, ServiceError
from app.policy import PolicyBody
from app.routes.pages import policy_form
from app.routes.pages.shell import MayFollow, MaySetPolicy, Visit, faults, parsed
from app.tables import Model, Policy, Proposal

router = APIRouter(include_in_schema=False)
DRAWN = {"mu": "MU", "ue": "UE"}
MOST_DRAWN = 60


@router.get("/ui/policies")
def all_of_them(visit: MayFollow) -> Response:
    """Every model's policy in force, with what of it decides most."""
    with transaction() as session:
        found = [
            (model.name, policy.current(session, model.id), body_of(session, model))
            for model in session.scalars(select(Model).order_by(Model.name))
        ]
    return visit.show("policies/policies.html", policies=found)


def body_of(session: Session, model: Model) -> PolicyBody:
    return policy.stored(policy.current(session, model.id).body)


@router.get("/ui/policies/{name}")
def show(name: str, visit: MayFollow) -> Response:
    """The policy in force, what has been used of its drift budget, and the proposals that wait."""
    with transaction() as session:
        model = versions.find_model(session, name)
        present = policy.current(session, model.id)
        body = policy.stored(present.body)
        drift = due.Drift.now(session, model) if model.current_version_id else None
        waiting = [views.proposal(row, name) for row in proposals.of_model(session, model, 50)]
    context = {"present": present, "body": body, "groups": policy_form.groups(), "values": policy_form.shown(body)}
    return visit.show("policies/policy.html", name=name, drift=drift, proposals=waiting, **context)


@router.get("/ui/policies/{name}/history")
def history(name: str, visit: MayFollow) -> Response:
    """All policies that the model has had, newest first, each with what it changed."""
    with transaction() as session:
        model = versions.find_model(session, name)
        rows = session.scalars(select(Policy).where(Policy.model_id == model.id).order_by(Policy.number.desc())).all()
    earlier = [*rows[1:], None]
    steps = [
        (row, differences(before.body, row.body) if before else []) for row, before in zip(rows, earlier, strict=True)
    ]
    return visit.show("policies/history.html", name=name, steps=steps)


@router.get("/ui/policies/{name}/past")
def past(name: str, visit: MayFollow, mu: str = "", ue: str = "", worst_class: str = "") -> Response:
    """The thresholds drawn over past verdicts, and what others would have made of them."""
    with transaction() as session:
        model = versions.find_model(session, name)
        body = body_of(session, model)
        typed = {"mu": mu, "ue": ue, "worst_class": worst_class}
        given = {each: sent for each, sent in typed.items() if sent}
        error: ServiceError | None = None
        try:
            changed = parsed(PolicyBody, {"thresholds": body.thresholds.model_dump() | given})
            other = body.model_copy(update={"thresholds": changed.thresholds})
        except ServiceError as wrong:
            error, other = wrong, body
        tried = dryrun.replay(session, model, other)
    shown = {each: sent or f"{getattr(body.thresholds, each):g}" for each, sent in typed.items()}
    context = {"tried": tried, "typed": shown, "error": error, "strips": strips(tried, body, other)}
    status = error.status if error else 200
    return visit.show("policies/past.html", status, name=name, faults=faults(error), given=bool(given), **context)


def strips(found: dryrun.DryRun, body: PolicyBody, other: PolicyBody) -> list[tuple[str, str, plots.Strip]]:
    """A drawing for each threshold, oldest verdict on the left."""
    attempts = [
        (each, attempt) for each in reversed(found.batches) for attempt in each.attempts if attempt.rung != "retrain"
    ]
    drawn = []
    for name, label in DRAWN.items():
        intervals = [
            plots.Interval(
                attempt.statistics[name]["estimate"],
                attempt.statistics[name]["low"],
                attempt.statistics[name]["high"],
                attempt.replayed,
                f"{attempt.at:%Y-%m-%d %H:%M} UTC, {attempt.rung}: {attempt.statistics[name]['estimate']:+.3f} "
                f"[{attempt.statistics[name]['low']:+.3f}, {attempt.statistics[name]['high']:+.3f}], {attempt.replayed}",
            )
            for _, attempt in attempts[-MOST_DRAWN:]
            if name in attempt.statistics
        ]
        if intervals:
            now, then = getattr(body.thresholds, name), getattr(other.thresholds, name)
            drawn.append((name, label, plots.strip(intervals, now, then)))
    return drawn


@router.get("/ui/policies/{name}/edit")
def edit(name: str, visit: MaySetPolicy, how: str = "form") -> Response:
    """The policy as a form, or as JSON."""
    with transaction() as session:
        present = policy.current(session, versions.find_model(session, name).id)
    body = policy.stored(present.body)
    return editor(visit, name, present, how, policy_form.texts(body) | {"body": as_json(body)})


def as_json(body: PolicyBody) -> str:
    return json.dumps(body.model_dump(mode="json"), indent=2)


def editor(visit: Visit, name: str, present: Policy, how: str, typed: dict[str, str], **more: Any) -> Response:
    error: ServiceError | None = more.get("error")
    context: dict[str, Any] = {
        "name": name,
        "number": present.number,
        "if_match": policy.etag(present),
        "how": "json" if how == "json" else "form",
        "groups": policy_form.groups(),
        "typed": typed,
        "faults": faults(error),
    }
    return visit.show("policies/edit.html", error.status if error else 200, **context | more)


@router.post("/ui/policies/{name}/edit")
def save(name: str, visit: MaySetPolicy) -> Response:
    """Put the policy in force, propose it where it loosens, or only try it on past batches."""
    how, typed = visit.text("how"), visit.fields()
    with transaction() as session:
        model = versions.find_model(session, name)
        present = policy.current(session, model.id)
    try:
        body = policy_form.read_json(visit.text("body")) if how == "json" else policy_form.read(typed)
        if visit.text("do") == "try":
            return try_it(visit, name, present, how, typed, body)
        with transaction() as session:
            made = proposals.put(session, model, body, visit.text("if_match"), visit.who.client)
            session.flush()
            return visit.go(session, *landed(made, name))
    except ServiceError as error:
        if isinstance(error, PreconditionFailed):
            since = changed_since(name, visit.text("if_match"))
            return editor(visit, name, present, how, typed, error=error, since=since)
        # What somebody else has changed meanwhile is still to be shown before it is overwritten.
        return editor(visit, name, present, how, typed, error=error, if_match=visit.text("if_match"))


def landed(made: Policy | Proposal, name: str) -> tuple[str, str]:
    """Where what was put leads to, and the sentence for it."""
    if isinstance(made, Proposal):
        return (
            f"/ui/policies/{name}/proposals/{made.id}",
            "It loosens what guards the model: somebody else must approve.",
        )
    return f"/ui/policies/{name}", f"Policy {made.number} is in force."


def try_it(visit: Visit, name: str, present: Policy, how: str, typed: dict[str, str], body: PolicyBody) -> Response:
    """The form again, with what the policy would have made of past batches, and what it changes."""
    with transaction() as session:
        model = versions.find_model(session, name)
        tried = dryrun.replay(session, model, body)
    changes = differences(present.body, body.model_dump(mode="json"))
    loosens = proposals.loosened(policy.stored(present.body), body)
    more = {"tried": tried, "changes": changes, "loosens": loosens, "if_match": visit.text("if_match")}
    return editor(visit, name, present, how, typed, **more)


def changed_since(name: str, seen: str) -> Any:
    """What somebody else has changed since the form was opened."""
    with transaction() as session:
        model = versions.find_model(session, name)
        rows = session.scalars(select(Policy).where(Policy.model_id == model.id)).all()
    before = next((row for row in rows if policy.etag(row) == seen), None)
    latest = max(rows, key=lambda row: row.number)
    return differences(before.body, latest.body) if before else []
