"""The approver's pages: what takes effect only once a second person has decided."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Response
from sqlalchemy.orm import Session

from app import approvals, dryrun, overview, policy, proposals, versions, views
from app.db import transaction
from app.differences import differences
from app.errors import NotFound, ServiceError
from app.queue import nudge
from app.routes.pages.shell import Ask, Entry, MayApprove, MayFollow, Visit, confirm, parsed
from app.routes.policies import Number
from app.schemas import ApprovalView, ApproveRequest, DecisionRequest, RefuseRequest
from app.tables import Instead, Model, Proposal

router = APIRouter(include_in_schema=False)


@router.get("/ui/decisions")
def decisions(visit: MayApprove) -> Response:
    """Everything that waits for a decision, of all models."""
    with transaction() as session:
        asked, proposed = overview.undecided(session)
        requests = [views.approval(session, row, name) for row, name in asked]
        changes = [views.proposal(row, name) for row, name in proposed]
    return visit.show("queue/decisions.html", requests=requests, proposals=changes, me=visit.who.client)


def found_approval(session: Session, name: str, number: int) -> ApprovalView:
    for row in approvals.of_model(session, versions.find_model(session, name), 200):
        if row.id == number:
            return views.approval(session, row, name)
    raise NotFound("No request for approval of that number.")


def approval_ask(seen: ApprovalView, *, refuse: bool) -> Ask:
    facts: dict[str, Any] = {
        "model": seen.model,
        "samples": f"{seen.samples:,}",
        "tickets": f"{seen.tickets:,}",
        "submitted by": ", ".join(seen.clients),
        "share of the training set": f"{seen.share:.1%}, the cap is {seen.cap:.1%}",
    }
    if refuse:
        says = [
            "No update is made of these tickets. The samples stay out of every training, and deadlines count on.",
            "Their clients read the reason where they go on waiting.",
        ]
        entry = Entry("instead", "Instead", "", Instead.WAIT, INSTEAD)
        return Ask(
            f"Refuse request {seen.id}", says, "Refuse", "/ui/decisions", facts=facts, entries=[entry], danger=True
        )
    says = [
        "The model forgets what the request names, once. An approval that nothing has used by its end is void.",
        "If by now more wait, or others, than you see here, it is refused and you look again.",
    ]
    hidden = {"samples": str(seen.samples), "tickets_sha256": seen.tickets_sha256}
    entry = Entry("hours", "Good for so many hours", "At most 720.", "168")
    return Ask(
        f"Approve request {seen.id}", says, "Approve", "/ui/decisions", facts=facts, hidden=hidden, entries=[entry]
    )


INSTEAD = {
    Instead.WAIT.value: "The tickets wait, and their clients are told why",
    Instead.RETRAIN.value: "The model is retrained without the samples",
}


def ask_about(visit: Visit, name: str, number: int, *, refuse: bool, error: ServiceError | None = None) -> Response:
    with transaction() as session:
        seen = found_approval(session, name, number)
    return confirm(visit, approval_ask(seen, refuse=refuse), error)


@router.get("/ui/models/{name}/approvals/{number}/approve")
def ask_approve(name: str, number: Number, visit: MayApprove) -> Response:
    return ask_about(visit, name, number, refuse=False)


@router.get("/ui/models/{name}/approvals/{number}/refuse")
def ask_refuse(name: str, number: Number, visit: MayApprove) -> Response:
    return ask_about(visit, name, number, refuse=True)


@router.post("/ui/models/{name}/approvals/{number}/approve")
def approve(name: str, number: Number, visit: MayApprove, bell: BackgroundTasks) -> Response:
    def do(session: Session, model: Model) -> str:
        typed = {each: visit.text(each) or None for each in ("samples", "tickets_sha256", "hours", "why")}
        asked = parsed(ApproveRequest, typed)
        approvals.approve(
            session,
            model,
            number,
            samples=asked.samples,
            tickets=asked.tickets_sha256,
            hours=asked.hours,
            why=asked.why,
            by=visit.who.client,
        )
        return f"Request {number} is approved."

    return decide(visit, name, number, do, bell, refuse=False)


@router.post("/ui/models/{name}/approvals/{number}/refuse")
def refuse(name: str, number: Number, visit: MayApprove, bell: BackgroundTasks) -> Response:
    def do(session: Session, model: Model) -> str:
        asked = parsed(RefuseRequest, {"instead": visit.text("instead"), "why": visit.text("why")})
        approvals.refuse(session, model, number, instead=asked.instead, why=asked.why, by=visit.who.client)
        return f"Request {number} is refused."

    return decide(visit, name, number, do, bell, refuse=True)


def decide(
    visit: Visit,
    name: str,
    number: int,
    do: Callable[[Session, Model], str],
    bell: BackgroundTasks,
    *,
    refuse: bool,
) -> Response:
    try:
        with transaction() as session:
            model = versions.find_model(session, name)
            answer = visit.go(session, "/ui/decisions", do(session, model))
    except ServiceError as error:
        return ask_about(visit, name, number, refuse=refuse, error=error)
    bell.add_task(nudge, model.id)
    return answer


def found_proposal(session: Session, model: Model, number: int) -> Proposal:
    for row in proposals.of_model(session, model, 200):
        if row.id == number:
            return row
    raise NotFound("No proposal of that number. The policy's page lists them.")


@router.get("/ui/policies/{name}/proposals/{number}")
def proposal(name: str, number: Number, visit: MayFollow) -> Response:
    """One proposed policy: what it loosens, all that it changes, and what it would have made of past batches."""
    with transaction() as session:
        model = versions.find_model(session, name)
        row = found_proposal(session, model, number)
        present = policy.current(session, model.id)
        changes = differences(present.body, row.body)
        tried = dryrun.replay(session, model, policy.stored(row.body))
        shown = views.proposal(row, name)
    context = {"proposal": shown, "present": present.number, "changes": changes, "tried": tried}
    return visit.show("policies/proposal.html", me=visit.who.client, **context)


def proposal_ask(name: str, row: Proposal, *, refuse: bool) -> Ask:
    back = f"/ui/policies/{name}/proposals/{row.id}"
    facts = {"model": name, "proposed by": row.author, "loosens": "; ".join(row.loosens)}
    if refuse:
        says = ["The policy in force stays. Who wrote the proposal may so take it back."]
        return Ask(f"Refuse proposal {row.id}", says, "Refuse", back, facts=facts, danger=True)
    says = ["The proposed policy is put in force. Batches that closed before keep the one they closed under."]
    return Ask(f"Approve proposal {row.id}", says, "Approve", back, facts=facts)


def ask_about_proposal(
    visit: Visit, name: str, number: int, *, refuse: bool, error: ServiceError | None = None
) -> Response:
    with transaction() as session:
        row = found_proposal(session, versions.find_model(session, name), number)
    return confirm(visit, proposal_ask(name, row, refuse=refuse), error)


@router.get("/ui/policies/{name}/proposals/{number}/approve")
def ask_approve_proposal(name: str, number: Number, visit: MayApprove) -> Response:
    return ask_about_proposal(visit, name, number, refuse=False)


@router.get("/ui/policies/{name}/proposals/{number}/refuse")
def ask_refuse_proposal(name: str, number: Number, visit: MayApprove) -> Response:
    return ask_about_proposal(visit, name, number, refuse=True)


@router.post("/ui/policies/{name}/proposals/{number}/approve")
def approve_proposal(name: str, number: Number, visit: MayApprove) -> Response:
    try:
        asked = parsed(DecisionRequest, {"why": visit.text("why")})
        with transaction() as session:
            model = versions.find_model(session, name)
            made = proposals.approve(session, model, number, asked.why, visit.who.client)
            return visit.go(session, f"/ui/policies/{name}", f"Policy {made.number} is in force.")
    except ServiceError as error:
        return ask_about_proposal(visit, name, number, refuse=False, error=error)


@router.post("/ui/policies/{name}/proposals/{number}/refuse")
def refuse_proposal(name: str, number: Number, visit: MayApprove) -> Response:
    try:
        asked = parsed(DecisionRequest, {"why": visit.text("why")})
        with transaction() as session:
            model = versions.find_model(session, name)
            proposals.refuse(session, model, number, asked.why, visit.who.client)
            return visit.go(session, f"/ui/policies/{name}", f"Proposal {number} is refused.")
    except ServiceError as error:
        return ask_about_proposal(visit, name, number, refuse=True, error=error)
