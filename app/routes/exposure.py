"""The ML engineer's look at single samples: whose gradients are outlying, and a person's yes before any is deleted for it."""

from fastapi import APIRouter, Response

from app import exposure
from app.auth import Admin
from app.config import settings
from app.db import transaction
from app.errors import Conflict, InFlight, NotFound, Unprocessable, may_answer
from app.exposure import ExposureView
from app.routes.deletions import Key, answer
from app.schemas import DeletionAccepted, OutlierDeletionRequest
from app.tracing import span

router = APIRouter(prefix="/models", tags=["models"])


@router.get("/{name}/exposure", responses=may_answer(Conflict, NotFound))
def show(name: str, who: Admin) -> ExposureView:
    """Samples of the current version's training set whose gradients are outlying, where the policy asks. It names them."""
    with transaction() as session:
        return exposure.view(session, name)


@router.post(
    "/{name}/exposure/deletions",
    status_code=202,
    response_model=DeletionAccepted,
    responses=may_answer(Conflict, InFlight, NotFound),
)
def confirm(name: str, asked: OutlierDeletionRequest, who: Admin, key: Key = None) -> Response:
    """A person's yes: an ordinary ticket over samples that are shown as outlying at present."""
    if key is not None and not key.isprintable():
        raise Unprocessable("An Idempotency-Key is 1 to 255 printable characters.")
    most = settings().ids_per_day if who.ids_per_day is None else who.ids_per_day
    body = asked.model_dump_json().encode()
    with span("intake"), transaction() as session:
        made = exposure.confirm(session, name, asked.sample_ids, asked.why, who.client, key, body, most)
    return answer(made)
