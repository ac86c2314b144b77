"""The ML engineer's pages: models, their versions, what each was trained with, and what of that is on record."""

from fastapi import APIRouter, Response
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app import banks, due, policy, versions, views
from app.db import transaction
from app.evidence.origin import training_of
from app.routes.banks import usual
from app.routes.pages.shell import MayFollow
from app.tables import Model, Verdict

router = APIRouter(include_in_schema=False)


@router.get("/ui/models")
def all_of_them(visit: MayFollow) -> Response:
    """Models by name, with the version that is published of each."""
    with transaction() as session:
        rows = session.scalars(select(Model).order_by(Model.name).options(joinedload(Model.dataset)))
        found = [views.model(session, row) for row in rows]
    return visit.show("models/models.html", models=found)


@router.get("/ui/models/{name}")
def show(name: str, visit: MayFollow) -> Response:
    """One model: its versions, newest first, its bank, and how much of the drift budget is used."""
    with transaction() as session:
        model = versions.find_model(session, name)
        detail = views.model_detail(session, model)
        body = policy.stored(policy.current(session, model.id).body)
        drift = due.Drift.now(session, model) if model.current_version_id else None
        bank = views.bank(session, model, usual(session, model)) if banks.in_use(session, model.id) else None
        dataset = views.dataset(model.dataset)
    context = {"model": detail, "body": body, "drift": drift, "bank": bank, "dataset": dataset}
    return visit.show("models/model.html", **context)


@router.get("/ui/versions/{reference}")
def version(reference: str, visit: MayFollow) -> Response:
    """One version: what its bytes depend on, what its training cost, and what is kept of it."""
    with transaction() as session:
        row = versions.resolve(session, reference)
        shown = views.version(row, row.model.current_version_id)
        verdict = session.get_one(Verdict, row.verdict_id)
        trained = versions.anchor(session, row.model_id, row.number)
        curve = training_of(session, row)
        training, anchor = session.get_one(Verdict, trained.verdict_id), versions.name_of(trained)
    context = {
        "version": shown,
        "row": row,
        "verdict": verdict,
        "training": training,
        "trained": anchor,
        "curve": curve,
    }
    return visit.show("models/version.html", **context)
