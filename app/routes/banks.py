"""The operator's seat, third part: a model's reference bank, what it costs, and the order for it."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Response
from sqlalchemy.orm import Session

from app import banks, policy, references, versions, views
from app.auth import MayFollow, MayRetrain
from app.db import transaction
from app.errors import Conflict, may_answer
from app.policy import PolicyBody
from app.queue import ring_references
from app.schemas import BankRequest, BankView
from app.tables import Model

router = APIRouter(prefix="/models", tags=["models"])


def usual(session: Session, model: Model) -> int:
    """How many references the model's bank has, or would have by its policy."""
    made = banks.in_use(session, model.id)
    if made is not None:
        return made.wanted
    return PolicyBody.model_validate(policy.current(session, model.id).body).bank.references


@router.get("/{name}/bank")
def show(
    name: str,
    who: MayFollow,
    wanted: Annotated[
        int | None,
        Query(alias="references", ge=4, le=64, multiple_of=4, description="Say what a bank of so many still costs"),
    ] = None,
) -> BankView:
    """A model's reference bank and what is still to be spent on it; without one, what the policy's would cost."""
    with transaction() as session:
        model = versions.find_model(session, name)
        return views.bank(session, model, wanted or usual(session, model))


@router.post("/{name}/bank", status_code=202, responses=may_answer(Conflict))
def order(name: str, asked: BankRequest, response: Response, bell: BackgroundTasks, who: MayRetrain) -> BankView:
    """Order a reference bank, or let the one there is grow; references that failed are tried again."""
    with transaction() as session:
        model = versions.find_model(session, name)
        wanted = asked.references or usual(session, model)
        made = banks.order(
            session, model, banks.anchor(session, model.id), wanted, f"asked for by {who.client}", who.client
        )
        answer, waiting = views.bank(session, model, made.wanted), references.due(session)
    bell.add_task(ring_references, waiting)
    response.headers["Location"] = f"/models/{name}/bank"
    return answer
