"""The ML engineer's second half: models, versions, weights."""

import base64
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app import batches, runs, store, versions, views
from app.auth import Admin, MayApprove, MayAudit, MayFollow, MayRetrain
from app.db import transaction
from app.errors import Conflict, Gone, NotFound, may_answer
from app.queue import nudge
from app.rollback import may_serve_again, roll_back
from app.schemas import FlushRequest, ModelDetail, ModelRequest, ModelView, ResumeRequest, RollbackRequest, VersionView
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


@router.post("/{name}/rollback", status_code=201, responses=may_answer(Conflict, Gone))
def rollback(
    name: str, asked: RollbackRequest, response: Response, bell: BackgroundTasks, who: MayRetrain
) -> VersionView:
    """Serve an earlier training's weights again, as a new version; refused where they hold what was forgotten since."""
    with transaction() as session:
        target = versions.resolve(session, asked.to)
        if target.model.name != name:
            raise NotFound(f"{name} has no version of that name.")
        may_serve_again(session, target)
    store.verify(target.weights_digest)
    with transaction() as session:
        model = versions.find_model(session, name)
        made = roll_back(session, model, target, asked.why, who.client)
        answer, model_id = views.version(made, made.id), model.id
    bell.add_task(nudge, model_id)
    response.headers["Location"] = answer.audit
    return answer


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
