"""The operator's seat, first half: thresholds and limits, versioned, with ETag and If-Match."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from sqlalchemy import select

from app import policy, versions, views
from app.auth import MayFollow, MaySetPolicy
from app.db import transaction
from app.errors import PreconditionRequired
from app.policy import PolicyBody
from app.schemas import PolicyView
from app.tables import Policy

router = APIRouter(prefix="/policies", tags=["policies"])


@router.get("/{model}")
def show(model: str, response: Response, who: MayFollow) -> PolicyView:
    """The policy in force; its ETag is what a PUT must send back."""
    with transaction() as session:
        present = policy.current(session, versions.find_model(session, model).id)
        response.headers["ETag"] = policy.etag(present)
        return views.policy(present, model)


@router.put("/{model}")
def replace(
    model: str,
    asked: PolicyBody,
    response: Response,
    who: MaySetPolicy,
    if_match: Annotated[str | None, Header()] = None,
) -> PolicyView:
    """Put a whole new policy in force. Batches that closed before keep the one they closed under."""
    if if_match is None:
        raise PreconditionRequired("Read the policy first and send its ETag as If-Match, so that no change is lost.")
    with transaction() as session:
        found = versions.find_model(session, model)
        new = policy.replace(session, found, asked, if_match, who.client)
        session.refresh(new)
        response.headers["ETag"] = policy.etag(new)
        return views.policy(new, model)


@router.get("/{model}/history")
def history(model: str, who: MayFollow) -> list[PolicyView]:
    """Every policy the model ever had, newest first."""
    with transaction() as session:
        found = versions.find_model(session, model)
        query = select(Policy).where(Policy.model_id == found.id).order_by(Policy.number.desc())
        return [views.policy(row, model) for row in session.scalars(query)]
