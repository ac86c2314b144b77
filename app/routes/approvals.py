"""The approver's seat: whether a model may forget more than its policy's cap within a window."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Query

from app import approvals, versions, views
from app.auth import MayApprove
from app.db import transaction
from app.errors import Conflict, may_answer
from app.queue import nudge
from app.schemas import ApprovalView, ApproveRequest, RefuseRequest

router = APIRouter(prefix="/models/{name}/approvals", tags=["approvals"])
Number = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("")
def page(name: str, who: MayApprove, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> list[ApprovalView]:
    """What waits for approval, or did, newest first."""
    with transaction() as session:
        model = versions.find_model(session, name)
        return [views.approval(session, row, name) for row in approvals.of_model(session, model, limit)]


@router.post("/{approval_id}/approve", responses=may_answer(Conflict))
def approve(
    name: str, approval_id: Number, asked: ApproveRequest, bell: BackgroundTasks, who: MayApprove
) -> ApprovalView:
    """Let what the request names be forgotten: once, and until the approval expires. No submitter can."""
    with transaction() as session:
        model = versions.find_model(session, name)
        made = approvals.approve(
            session,
            model,
            approval_id,
            samples=asked.samples,
            tickets=asked.tickets_sha256,
            hours=asked.hours,
            why=asked.why,
            by=who.client,
        )
        answer, model_id = views.approval(session, made, name), model.id
    bell.add_task(nudge, model_id)
    return answer


@router.post("/{approval_id}/refuse", responses=may_answer(Conflict))
def refuse(
    name: str, approval_id: Number, asked: RefuseRequest, bell: BackgroundTasks, who: MayApprove
) -> ApprovalView:
    """Refuse an update. The data stay removed and deadlines count on: a retrain answers the tickets, or they wait."""
    with transaction() as session:
        model = versions.find_model(session, name)
        made = approvals.refuse(session, model, approval_id, instead=asked.instead, why=asked.why, by=who.client)
        answer, model_id = views.approval(session, made, name), model.id
    bell.add_task(nudge, model_id)
    return answer
