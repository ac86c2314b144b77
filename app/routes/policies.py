"""The operator's seat, first half: thresholds and limits, versioned, with ETag and If-Match."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from sqlalchemy import select

from app import dryrun, policy, proposals, versions, views
from app.auth import MayApprove, MayFollow, MaySetPolicy
from app.db import transaction
from app.errors import Conflict, PreconditionFailed, PreconditionRequired, may_answer
from app.policy import PolicyBody
from app.schemas import DecisionRequest, DryRunView, PolicyView, ProposalView
from app.tables import Policy, Proposal

router = APIRouter(prefix="/policies", tags=["policies"])
Number = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("/{model}")
def show(model: str, response: Response, who: MayFollow) -> PolicyView:
    """The policy in force; its ETag is what a PUT must send back."""
    with transaction() as session:
        present = policy.current(session, versions.find_model(session, model).id)
        response.headers["ETag"] = policy.etag(present)
        return views.policy(present, model)


@router.put(
    "/{model}",
    response_model=PolicyView | ProposalView,
    responses=may_answer(Conflict, PreconditionFailed, PreconditionRequired)
    | {202: {"model": ProposalView, "description": "It loosens what guards the model, and waits for approval"}},
)
def replace(
    model: str,
    asked: PolicyBody,
    response: Response,
    who: MaySetPolicy,
    if_match: Annotated[str | None, Header()] = None,
) -> PolicyView | ProposalView:
    """Put a whole new policy in force; one that loosens what guards the model is proposed, and waits for somebody else's
    approval. Batches that closed before keep the one they closed under."""
    if if_match is None:
        raise PreconditionRequired("Read the policy first and send its ETag as If-Match, so that no change is lost.")
    with transaction() as session:
        found = versions.find_model(session, model)
        new = proposals.put(session, found, asked, if_match, who.client)
        session.refresh(new)
        if isinstance(new, Proposal):
            response.status_code = 202
            response.headers["Location"] = f"/policies/{model}/proposals"
            return views.proposal(new, model)
        response.headers["ETag"] = policy.etag(new)
        return views.policy(new, model)


@router.post("/{model}/dry-run")
def dry_run(
    model: str, asked: PolicyBody, who: MayFollow, limit: Annotated[int, Query(ge=1, le=dryrun.MOST)] = dryrun.MOST
) -> DryRunView:
    """What this policy would have made of the model's last batches, by their verdicts' own statistics. Writes nothing."""
    with transaction() as session:
        found = versions.find_model(session, model)
        return views.dry_run(dryrun.replay(session, found, asked, limit), model)


@router.get("/{model}/proposals")
def proposed(model: str, who: MayFollow, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> list[ProposalView]:
    """Policies that wait, or waited, for somebody else's approval, newest first."""
    with transaction() as session:
        found = versions.find_model(session, model)
        return [views.proposal(row, model) for row in proposals.of_model(session, found, limit)]


@router.post("/{model}/proposals/{proposal_id}/approve", responses=may_answer(Conflict, PreconditionFailed))
def approve(model: str, proposal_id: Number, asked: DecisionRequest, response: Response, who: MayApprove) -> PolicyView:
    """Put a proposed policy in force. Its author cannot."""
    with transaction() as session:
        new = proposals.approve(session, versions.find_model(session, model), proposal_id, asked.why, who.client)
        session.refresh(new)
        response.headers["ETag"] = policy.etag(new)
        return views.policy(new, model)


@router.post("/{model}/proposals/{proposal_id}/refuse", responses=may_answer(Conflict))
def refuse(model: str, proposal_id: Number, asked: DecisionRequest, who: MayApprove) -> ProposalView:
    """Refuse a proposed policy, or take one's own back."""
    with transaction() as session:
        found = versions.find_model(session, model)
        return views.proposal(proposals.refuse(session, found, proposal_id, asked.why, who.client), model)


@router.get("/{model}/history")
def history(model: str, who: MayFollow) -> list[PolicyView]:
    """Every policy the model ever had, newest first."""
    with transaction() as session:
        found = versions.find_model(session, model)
        query = select(Policy).where(Policy.model_id == found.id).order_by(Policy.number.desc())
        return [views.policy(row, model) for row in session.scalars(query)]
