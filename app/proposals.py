"""A policy that loosens what guards a model takes effect when somebody else than its author approves. Others do at once.

Otherwise whoever may write policies could raise the cap on mass deletion, or accept any update, and be asked by nobody.
"""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import audit, policy
from app.errors import Conflict, NotFound, SecondPerson
from app.policy import PolicyBody
from app.tables import Model, Policy, Proposal, ProposalState

RISING = (
    "window.max_share",
    "thresholds.mu",
    "thresholds.ue",
    "thresholds.worst_class",
    "thresholds.retrain_accuracy_drop",
    "thresholds.error",
    "drift.max_share",
    "drift.max_updates",
    "drift.max_days",
    "drift.false_publishes",
    "accept_undetectable",
)
"""Values that guard less when they rise."""
FALLING = ("window.days", "thresholds.seed_sd", "lone.min_batch")
"""Values that guard less when they fall."""
WAITING = {"lone.max_wait_seconds": -1, "batching.deadline_margin_seconds": 1}
"""What ends the wait of a lone subject's batch for others, where `lone.rule` is `merge`, by which way it comes sooner."""
FREE = (
    *("update", "calibrated", "ladder", "methods", "recorder", "bank", "inconclusive", "compute", "outliers"),
    *("batching.max_samples", "batching.max_wait_seconds"),
    *("release", "keep_weights_days"),
)
"""What guards nothing by its size: how an update is made is judged by its verdict, when a batch closes by the rest, and
which samples are named as outlying deletes none of them."""

RULES = ("allow", "withdraw", "merge")
"""Of `lone.rule`, from the one that guards least."""


def value(body: PolicyBody, path: str) -> Any:
    found: Any = body
    for name in path.split("."):
        found = getattr(found, name)
    return found


def loosened(old: PolicyBody, new: PolicyBody) -> list[str]:
    """What of the new policy guards the model less than the old one did, with both values."""
    found = [path for path in RISING if value(new, path) > value(old, path)]
    found += [path for path in FALLING if value(new, path) < value(old, path)]
    if new.lone.rule == "merge":
        found += [path for path, sign in WAITING.items() if sign * value(new, path) > sign * value(old, path)]
    if RULES.index(new.lone.rule) < RULES.index(old.lone.rule):
        found.append("lone.rule")
    changes = [f"{path}: {value(old, path)} -> {value(new, path)}" for path in found]
    dropped = sorted(set(old.retrain_tiers) - set(new.retrain_tiers))
    return [*changes, *(f"retrain_tiers: without {tier}" for tier in dropped)]


def put(session: Session, model: Model, body: PolicyBody, if_match: str, author: str) -> Policy | Proposal:
    """Put a policy in force, or propose it where it loosens the present one. Raises as `policy.replace` does.

    A PUT may be sent twice, where its answer was lost: the author's own proposal of the same policy, which nobody has
    decided yet, is the answer then. The model is locked, so it cannot come in between.
    """
    present = policy.to_replace(session, model, body, if_match)
    loosens = loosened(policy.stored(present.body), body)
    if not loosens:
        made = policy.replace(session, model, body, if_match, author)
        overtake(session, model)
        return made
    known = made_already(session, present, body, author)
    if known is not None:
        return known
    proposal = Proposal(
        model_id=model.id,
        state=ProposalState.PROPOSED,
        base=present.number,
        body=body.model_dump(mode="json"),
        loosens=loosens,
        author=author,
    )
    session.add(proposal)
    session.flush()
    tell(session, "policy.proposed", author, proposal, loosens=loosens, policy=proposal.body)
    return proposal


def made_already(session: Session, present: Policy, body: PolicyBody, author: str) -> Proposal | None:
    """The author's undecided proposal to put this very policy in the place of the present one."""
    query = select(Proposal).where(
        Proposal.model_id == present.model_id,
        Proposal.state == ProposalState.PROPOSED,
        Proposal.base == present.number,
        Proposal.author == author,
    )
    wanted = body.model_dump(mode="json")
    return next((each for each in session.scalars(query) if each.body == wanted), None)


def of_model(session: Session, model: Model, limit: int) -> list[Proposal]:
    """The model's proposals, newest first."""
    query = select(Proposal).where(Proposal.model_id == model.id).order_by(Proposal.id.desc()).limit(limit)
    return list(session.scalars(query))


def approve(session: Session, model: Model, proposal_id: int, why: str, by: str) -> Policy:
    """Put a proposal in force. Raises `NotFound`, `Conflict` (decided or overtaken), `SecondPerson`."""
    proposal = undecided(session, model, proposal_id)
    if proposal.author == by:
        raise SecondPerson("You wrote the proposal. Somebody else must approve it.")
    decide(proposal, ProposalState.APPROVED, why, by)
    tell(session, "policy.approved", by, proposal, why=why, author=proposal.author)
    present = policy.current(session, model.id)
    body = policy.stored(proposal.body)
    made = policy.replace(session, model, body, policy.etag(present), proposal.author, approved_by=by)
    overtake(session, model)
    return made


def refuse(session: Session, model: Model, proposal_id: int, why: str, by: str) -> Proposal:
    """Refuse a proposal; its author may so take it back. Raises `NotFound`, `Conflict`."""
    proposal = undecided(session, model, proposal_id)
    decide(proposal, ProposalState.REFUSED, why, by)
    tell(session, "policy.refused", by, proposal, why=why, author=proposal.author)
    session.refresh(proposal)
    return proposal


def undecided(session: Session, model: Model, proposal_id: int) -> Proposal:
    """The proposal, provided that nobody has decided it; its model is locked."""
    session.execute(select(Model.id).where(Model.id == model.id).with_for_update(key_share=True))
    query = select(Proposal).where(Proposal.id == proposal_id, Proposal.model_id == model.id)
    proposal = session.scalar(query.execution_options(populate_existing=True))
    if proposal is None:
        raise NotFound("No proposal of that number. `GET /policies/{model}/proposals` lists them.")
    if proposal.state is not ProposalState.PROPOSED:
        raise Conflict(f"The proposal is {proposal.state} already.")
    return proposal


def decide(proposal: Proposal, state: ProposalState, why: str, by: str) -> None:
    proposal.state, proposal.why, proposal.decided_by, proposal.decided_at = state, why, by, func.now()


def overtake(session: Session, model: Model) -> None:
    """Proposals were made against the policy that has just been replaced: what they would loosen is not what it was."""
    open_ones = (Proposal.model_id == model.id) & (Proposal.state == ProposalState.PROPOSED)
    ended = update(Proposal).where(open_ones).values(state=ProposalState.OVERTAKEN).returning(Proposal)
    for proposal in session.scalars(ended).all():
        tell(session, "policy.overtaken", "expunge", proposal)


def tell(session: Session, kind: str, by: str, proposal: Proposal, **data: Any) -> None:
    audit.append(session, kind, by, model_id=proposal.model_id, proposal=proposal.id, base=proposal.base, **data)
