"""The reviewer's seat, and the ML engineer's second half: models, versions, weights, and why a version may be trusted."""

import base64
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Header, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app import batches, evidence, pages, runs, store, versions, views
from app.auth import Admin, MayApprove, MayAudit, MayFollow, MayRetrain
from app.db import transaction
from app.errors import Conflict, Gone, NotFound, may_answer
from app.queue import nudge
from app.routes.pages import shell
from app.schemas import FlushRequest, ModelDetail, ModelRequest, ModelView, ResumeRequest, VersionView
from app.tables import Model, Trigger

router = APIRouter(prefix="/models", tags=["models"])
Reference = Annotated[
    str, Path(max_length=160, description="`<model>-v<number>`, `<model>@current`, or `<model>@<ISO time>`")
]


@router.post("", status_code=201, responses=may_answer(Conflict, NotFound))
def register(asked: ModelRequest, response: Response, bell: BackgroundTasks, who: Admin) -> ModelView:
    """Register a model on a dataset and order its first training."""
    with transaction() as session:
        model = versions.register(session, asked.name, asked.dataset, asked.problem, asked.policy, who.client)
        batches.request_retrain(session, model, Trigger.REGISTRATION, "the model was registered", who.client)
        answer, model_id = views.model(session, model), model.id
    bell.add_task(nudge, model_id)
    response.headers["Location"] = f"/models/{asked.name}/versions"
    return answer


@router.get("")
def page(who: MayFollow) -> list[ModelView]:
    """All models, by name."""
    with transaction() as session:
        found = session.scalars(select(Model).order_by(Model.name).options(joinedload(Model.dataset)))
        return [views.model(session, model) for model in found]


@router.get("/{name}/versions")
def line(name: str, who: MayFollow) -> ModelDetail:
    """One model with all its versions and the batch being worked on."""
    with transaction() as session:
        return views.model_detail(session, versions.find_model(session, name))


@router.post("/{name}/flush", status_code=202, responses=may_answer(Conflict))
def flush(name: str, asked: FlushRequest, bell: BackgroundTasks, who: MayRetrain) -> ModelView:
    """Let the model's next batch close at once. What passes the policy's cap waits for approval all the same."""
    with transaction() as session:
        model = versions.find_model(session, name)
        batches.flush(session, model, who.client)
        answer, model_id = views.model(session, model), model.id
    bell.add_task(nudge, model_id)
    return answer


@router.post("/{name}/resume", responses=may_answer(Conflict))
def resume(name: str, asked: ResumeRequest, who: MayApprove) -> ModelView:
    """Let approximate updates of a model that was stopped be published again."""
    with transaction() as session:
        model = versions.find_model(session, name)
        runs.resume_publishing(session, model, asked.why, who.client)
        return views.model(session, model)


@router.get("/{reference}")
def show(reference: Reference, who: MayFollow) -> VersionView:
    """One version."""
    with transaction() as session:
        version = versions.resolve(session, reference)
        return views.version(version, version.model.current_version_id)


@router.get(
    "/{reference}/weights",
    response_class=StreamingResponse,
    responses=may_answer(Gone, Conflict)
    | {200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
def weights(reference: Reference, who: MayAudit) -> StreamingResponse:
    """The weights as safetensors, verified against their digest before the first byte leaves."""
    with transaction() as session:
        version = versions.resolve(session, reference)
        name, digest, size = versions.name_of(version), version.weights_digest, version.weights_bytes
        versions.hand_out(session, version, who.client)
    store.verify(digest)
    encoded = base64.b64encode(bytes.fromhex(digest)).decode()
    headers = {
        "Content-Length": str(size),
        "Repr-Digest": f"sha-256=:{encoded}:",
        "ETag": f'"{digest}"',
        "Content-Disposition": f'attachment; filename="{name}.safetensors"',
    }
    return StreamingResponse(store.chunks(digest), media_type="application/octet-stream", headers=headers)


@router.get(
    "/{reference}/audit",
    response_model=evidence.Report,
    responses={
        200: {
            "content": {"text/html": {"schema": {"type": "string"}}},
            "description": "JSON, or HTML when the client prefers it",
        }
    },
)
def audit(
    reference: Reference, request: Request, who: MayAudit, accept: Annotated[str, Header()] = "application/json"
) -> Response:
    """Why this version may be trusted, and what the report does not promise."""
    with transaction() as session:
        report = evidence.report(session, versions.resolve(session, reference))
    vary = {"Vary": "Accept", "Cache-Control": "no-store"}
    if pages.prefers_html(accept):
        return as_page(request, report, vary)
    return JSONResponse(report.model_dump(mode="json"), headers=vary)


def as_page(request: Request, report: evidence.Report, headers: dict[str, str]) -> Response:
    """In its frame for somebody who is signed in. For who sends a key it stands alone, to be kept as a file."""
    if hasattr(request.state, "visitor"):
        return shell.page(request, "audit.html", {"report": report}, headers)
    return pages.render(request, "audit.html", {"report": report}, headers)
