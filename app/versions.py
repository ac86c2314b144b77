"""Versions and how they are named: `<model>-v<number>`, `<model>@current`, `<model>@<time>` for what was current then."""

import re
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased, joinedload

from app import audit, lockdown, manifests
from app.errors import Conflict, Gone, NotFound, Unprocessable
from app.policy import PolicyBody, stored
from app.tables import EXACT, Dataset, Model, Policy, Version

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
NUMBERED = re.compile(r"(?P<model>.+)-v(?P<number>[1-9][0-9]{0,8})")


def register(session: Session, name: str, dataset: str, problem: str, body: PolicyBody, by: str) -> Model:
    """A new line of versions over a dataset, with its first policy. It has no version until its first training ends.

    The dataset's row is locked for a moment, so that every ticket either comes before, and its samples are left out of
    the first training, or after, and the model owes it.
    """
    if not MODEL_NAME.fullmatch(name) or NUMBERED.fullmatch(name):
        raise Unprocessable(
            "A model's name is 1-63 of a-z, 0-9, '.', '_', '-', starts with a letter or digit and does not end in -v<number>."
        )
    found = manifests.find(session, dataset)
    session.execute(select(Dataset.id).where(Dataset.id == found.id).with_for_update())
    made = insert(Model).values(name=name, dataset_id=found.id, problem=problem)
    model: Model | None = session.scalar(made.on_conflict_do_nothing(index_elements=["name"]).returning(Model))
    if model is None:
        raise Conflict(f"A model named {name!r} exists.")
    session.add(Policy(model_id=model.id, number=1, body=body.model_dump(mode="json"), author=by))
    audit.append(session, "model.registered", by, model_id=model.id, name=name, dataset=dataset, problem=problem)
    return model


def find_model(session: Session, name: str) -> Model:
    """The model called `name`, or `NotFound`."""
    model = session.scalar(select(Model).where(Model.name == name).options(joinedload(Model.dataset)))
    if model is None:
        raise NotFound("No model of that name. `GET /models` lists them.")
    return model


def resolve(session: Session, reference: str) -> Version:
    """The version a reference names. Raises `NotFound`, or `Unprocessable` for a time that does not parse."""
    query = select(Version).options(
        joinedload(Version.model).joinedload(Model.dataset), joinedload(Version.batch), joinedload(Version.parent)
    )
    numbered = NUMBERED.fullmatch(reference)
    if numbered:
        named = query.join(Version.model).where(Model.name == numbered["model"])
        version = session.scalar(named.where(Version.number == int(numbered["number"])))
    else:
        name, _, when = reference.partition("@")
        model = find_model(session, name)
        if when in ("", "current"):
            version = session.scalar(query.where(Version.id == model.current_version_id))
        else:
            version = at(session, model, moment(when))
    if version is None:
        raise NotFound("No such version. A model's first version exists once its first training has ended.")
    return version


def moment(text: str) -> datetime:
    """An ISO 8601 time with a zone."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Unprocessable("After '@' comes 'current' or an ISO 8601 time such as 2026-01-31T12:00:00Z.") from None
    if when.tzinfo is None:
        raise Unprocessable("The time needs a zone, such as the Z in 2026-01-31T12:00:00Z.")
    return when


def at(session: Session, model: Model, when: datetime) -> Version | None:
    """The version that was current at `when`: the newest published by then."""
    query = select(Version).where(Version.model_id == model.id, Version.published_at <= when)
    newest = query.order_by(Version.published_at.desc(), Version.number.desc()).limit(1)
    return session.scalar(newest.options(joinedload(Version.model).joinedload(Model.dataset)))


def name_of(version: Version) -> str:
    return f"{version.model.name}-v{version.number}"


def line(session: Session, model: Model) -> list[Version]:
    """All versions of a model, oldest first."""
    query = select(Version).where(Version.model_id == model.id).order_by(Version.number)
    return list(session.scalars(query.options(joinedload(Version.model))))


def chain(session: Session, version: Version) -> list[Version]:
    """The version and its parents back to the first, newest first."""
    return [v for v in reversed(line(session, version.model)) if v.number <= version.number]


def anchor(session: Session, model_id: int, number: int) -> Version:
    """The newest version up to `number` that was trained, not unlearned."""
    earlier = select(Version).where(Version.model_id == model_id, Version.number <= number, Version.kind.in_(EXACT))
    return session.scalars(earlier.order_by(Version.number.desc()).limit(1)).one()


def original(session: Session, trained: Version) -> Version:
    """The version that a training was first published as: one that was rolled back to is no younger for it."""
    while name := trained.verdict.method.get("rolled_back_to"):
        trained = resolve(session, name)
    return trained


def expire_weights(session: Session) -> None:
    """Mark as purged superseded versions whose days are over, and those withdrawn that no check of a later one may need.
    The bytes go when artifacts are collected, after the commit."""
    query = select(Version, Policy.body).join(Policy, Policy.model_id == Version.model_id)
    any_policy = aliased(Policy)
    newest = select(func.max(any_policy.number)).where(any_policy.model_id == Version.model_id).scalar_subquery()
    query = query.where(
        Policy.number == newest, Version.superseded_at.is_not(None), Version.weights_purged_at.is_(None)
    )
    now = session.scalars(select(func.now())).one()
    purged = []
    for version, body in session.execute(query.options(joinedload(Version.model))).all():
        keep = timedelta(days=stored(body).keep_weights_days)
        assert version.superseded_at is not None
        if version.superseded_at + keep <= now or (version.weights_withdrawn_at and not is_anchor(session, version)):
            version.weights_purged_at = now
            purged.append(version)
    session.flush()  # all rows before the first event: a publication locks in the same order
    for version in purged:
        audit.append(
            session,
            "weights.purged",
            "expunge",
            model_id=version.model_id,
            version=name_of(version),
            weights=version.weights_digest,
        )


def is_anchor(session: Session, version: Version) -> bool:
    """Whether the current version descends from it by updates alone: then their sum is held against it."""
    current = session.scalar(select(Version.number).where(Version.id == version.model.current_version_id))
    return current is not None and anchor(session, version.model_id, current).id == version.id


def hand_out(session: Session, version: Version, by: str) -> None:
    """Somebody is about to be given the weights. Raises `Gone` when nobody is any more, and `Conflict` while nobody can
    say so, because the installation is restored and locked.

    The row is locked, so that a publication which withdraws them either comes before or knows that they were given away.
    """
    lockdown.refuse_weights(session)
    query = select(Version).where(Version.id == version.id).with_for_update(key_share=True)
    version = session.scalars(query.execution_options(populate_existing=True)).one()
    if version.weights_withdrawn_at is not None:
        raise Gone(
            f"The weights were withdrawn on {version.weights_withdrawn_at:%Y-%m-%d}: beside a later version's they would give"
            " away who was forgotten between the two. The audit stays."
        )
    if version.weights_purged_at is not None:
        raise Gone(
            f"The weights were purged on {version.weights_purged_at:%Y-%m-%d}, as the policy says. The audit stays."
        )
    if version.weights_fetched_at is None:
        version.weights_fetched_at = func.now()
        audit.append(session, "weights.handed_out", by, model_id=version.model_id, version=name_of(version))
