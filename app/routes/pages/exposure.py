"""The ML engineer's page of samples whose gradients are outlying, and a person's yes before any is deleted for it."""

from uuid import uuid4

from fastapi import APIRouter, BackgroundTasks, Response

from app import exposure
from app.config import settings
from app.db import transaction
from app.errors import KeyReused, ServiceError
from app.queue import due, nudge
from app.routes.pages.shell import MayAll, Visit, faults, parsed
from app.schemas import OutlierDeletionRequest

router = APIRouter(include_in_schema=False)


def shown(visit: Visit, name: str, error: ServiceError | None = None) -> Response:
    """What stands out, with the form; beside an error what was chosen and typed is still there."""
    with transaction() as session:
        found = exposure.view(session, name)
    chosen = {each for each in visit.form.getlist("sample") if isinstance(each, str)}
    key = visit.text("key")
    again = key if key and not isinstance(error, KeyReused) else str(uuid4())
    typed = visit.fields() | {"key": again}
    context = {"found": found, "chosen": chosen, "typed": typed, "error": error, "faults": faults(error)}
    return visit.show("models/exposure.html", error.status if error else 200, **context)


@router.get("/ui/models/{name}/exposure")
def show(name: str, visit: MayAll) -> Response:
    return shown(visit, name)


@router.post("/ui/models/{name}/exposure")
def confirm(name: str, visit: MayAll, bell: BackgroundTasks) -> Response:
    """The yes: an ordinary ticket over the samples that were ticked."""
    ids = [each for each in visit.form.getlist("sample") if isinstance(each, str)]
    try:
        asked = parsed(OutlierDeletionRequest, {"sample_ids": ids, "why": visit.text("why")})
        body, most = asked.model_dump_json().encode(), settings().ids_per_day
        key = visit.text("key")[:64] or None
        with transaction() as session:
            made = exposure.confirm(session, name, asked.sample_ids, asked.why, visit.who.client, key, body, most)
            answer = visit.go(session, f"/ui/tickets/{made.ticket_id}", "The samples are tombstoned.")
    except ServiceError as error:
        return shown(visit, name, error)
    ring = due(made.model_ids)
    if ring:
        bell.add_task(nudge, *ring)
    return answer
