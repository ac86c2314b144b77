"""What is going on, summed up for people: what waits for somebody, and all open work by model. Reads rows and decides nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, joinedload

from app import batches, lockdown, presence
from app.auth import Principal
from app.consent import UNDECIDED
from app.due import Deferral
from app.scopes import Scope
from app.tables import (
    Approval,
    ApprovalState,
    Batch,
    BatchState,
    Model,
    Obligation,
    ObligationState,
    Proposal,
    ProposalState,
    Ticket,
    TicketState,
    Version,
)

SOON = timedelta(days=3)


@dataclass(frozen=True)
class Waits:
    """Something that waits for whoever looks, and where it is done."""

    says: str
    path: str
    urgent: bool


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def counted(session: Session, table: type[Batch] | type[Ticket] | type[Proposal], *meant: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(table).where(*meant)) or 0


def waiting_for(session: Session, who: Principal) -> list[Waits]:
    """What waits for this person, most pressing first."""
    found = [each for scope, look in LOOKS if who.may(scope) for each in look(session, who)]
    return sorted(found, key=lambda each: not each.urgent)


def for_client(session: Session, who: Principal) -> Iterator[Waits]:
    """Tickets that are late, will be, or are held."""
    mine = [] if who.sees is None else [Ticket.client == who.sees]
    is_open = Ticket.closed_at.is_(None)
    late = counted(session, Ticket, is_open, Ticket.deadline_at < func.now(), *mine)
    if late:
        yield Waits(f"{plural(late, 'ticket is', 'tickets are')} past the deadline", "/ui/tickets?overdue=true", True)
    near = Ticket.deadline_at.between(func.now(), func.now() + SOON)
    soon = counted(session, Ticket, is_open, near, *mine)
    if soon:
        yield Waits(f"{plural(soon, 'ticket is', 'tickets are')} due within three days", "/ui/tickets", False)
    held = counted(session, Ticket, Ticket.state == TicketState.QUARANTINED, *mine)
    if held:
        says = f"{plural(held, 'ticket is', 'tickets are')} held for an operator"
        yield Waits(says, "/ui/tickets?state=quarantined", False)


def for_operator(session: Session, _: Principal) -> Iterator[Waits]:
    """An installation that is locked, and batches that nobody works on until somebody has looked."""
    if lockdown.unresolved(session) is not None:
        yield Waits(lockdown.SAYS, "/ui/queue", True)
    held = session.scalars(
        select(Batch).where(Batch.state == BatchState.QUARANTINED).options(joinedload(Batch.model)).limit(5)
    )
    for batch in held:
        yield Waits(f"A batch of {batch.model.name} is quarantined", f"/ui/batches/{batch.id}", True)


def for_approver(session: Session, _: Principal) -> Iterator[Waits]:
    """What takes effect once a second person has decided, and models whose updates were stopped."""
    asked = (
        session.scalar(select(func.count()).select_from(Approval).where(Approval.state == ApprovalState.REQUESTED)) or 0
    )
    if asked:
        says = f"{plural(asked, 'request passes', 'requests pass')} a cap and {'waits' if asked == 1 else 'wait'}"
        yield Waits(f"{says} for approval", "/ui/decisions", True)
    proposed = counted(session, Proposal, Proposal.state == ProposalState.PROPOSED)
    if proposed:
        says = f"{plural(proposed, 'policy is', 'policies are')} proposed"
        yield Waits(f"{says} and {'waits' if proposed == 1 else 'wait'} for approval", "/ui/decisions", False)
    for name in session.scalars(select(Model.name).where(Model.stopped.is_not(None)).order_by(Model.name)):
        yield Waits(f"Updates of {name} are stopped", f"/ui/models/{name}", True)


def for_watcher(session: Session, _: Principal) -> Iterator[Waits]:
    """Processes that are not there."""
    missing = [
        each
        for each in presence.everyone(session)
        if each.condition in (presence.Condition.LOST, presence.Condition.STALLED)
    ]
    for each in missing:
        yield Waits(f"The {each.role} {each.name} is {each.condition}", "/ui/system", True)


LOOKS = (
    (Scope.DELETIONS_READ, for_client),
    (Scope.RETRAINS_WRITE, for_operator),
    (Scope.POLICIES_APPROVE, for_approver),
    (Scope.METRICS_READ, for_watcher),
)


@dataclass(frozen=True)
class Line:
    """One model's open work."""

    model: str
    current: str | None
    tickets: int
    samples: int
    oldest: datetime | None
    deadline: datetime | None
    open_batches: list[Batch]
    quarantined: list[Batch]
    held: str | None
    stopped: str | None
    deferral: Deferral | None
    flushed: bool

    @property
    def running(self) -> Batch | None:
        return next((batch for batch in self.open_batches if batch.state is BatchState.RUNNING), None)

    @property
    def idle(self) -> bool:
        return not (self.tickets or self.open_batches or self.quarantined or self.held or self.stopped)


def queue(session: Session) -> list[Line]:
    """All models' open work: whoever has waited longest first, then those that have none."""
    owed = owing(session)
    shown = (*batches.OPEN, BatchState.QUARANTINED)
    by_model: dict[int, list[Batch]] = {}
    for batch in session.scalars(select(Batch).where(Batch.state.in_(shown)).order_by(Batch.created_at)):
        by_model.setdefault(batch.model_id, []).append(batch)
    models = select(Model, Version.number).outerjoin(Version, Version.id == Model.current_version_id)
    found = session.execute(models.order_by(Model.name))
    lines = [line(row, number, owed, by_model.get(row.id, [])) for row, number in found]
    return sorted(lines, key=lambda each: (each.idle, each.oldest or LAST))


LAST = datetime.max.replace(tzinfo=UTC)
Owed = tuple[int, int, datetime | None, datetime | None]


def owing(session: Session) -> dict[int, Owed]:
    """What each model owes, one look for all: tickets, samples, since when, and the first deadline."""
    still = (ObligationState.PENDING, ObligationState.BATCHED, ObligationState.QUARANTINED)
    query = select(
        Obligation.model_id,
        func.count(),
        func.coalesce(func.sum(Obligation.samples), 0),
        func.min(Obligation.created_at),
        func.min(Obligation.deadline_at),
    )
    rows = session.execute(query.where(Obligation.state.in_(still)).group_by(Obligation.model_id))
    return {model: (count, int(samples), oldest, deadline) for model, count, samples, oldest, deadline in rows}


def line(row: Model, number: int | None, owed: dict[int, Owed], mine: list[Batch]) -> Line:
    tickets, samples, oldest, deadline = owed.get(row.id, (0, 0, None, None))
    return Line(
        model=row.name,
        current=f"{row.name}-v{number}" if number else None,
        tickets=tickets,
        samples=samples,
        oldest=oldest,
        deadline=deadline,
        open_batches=[batch for batch in mine if batch.state in batches.OPEN],
        quarantined=[batch for batch in mine if batch.state is BatchState.QUARANTINED],
        held=row.held,
        stopped=row.stopped,
        deferral=Deferral.of(row),
        flushed=row.flush_requested_at is not None,
    )


def model_names(session: Session) -> list[str]:
    """For a filter to choose from."""
    return list(session.scalars(select(Model.name).order_by(Model.name)))


def undecided(session: Session) -> tuple[list[tuple[Approval, str]], list[tuple[Proposal, str]]]:
    """All requests and proposals that wait for a decision, with their models' names, oldest first."""
    asked = select(Approval, Model.name).join(Model, Model.id == Approval.model_id).where(UNDECIDED)
    proposed = select(Proposal, Model.name).join(Model, Model.id == Proposal.model_id)
    proposed = proposed.where(Proposal.state == ProposalState.PROPOSED).order_by(Proposal.id)
    return (
        [(row, name) for row, name in session.execute(asked.order_by(Approval.id))],
        [(row, name) for row, name in session.execute(proposed)],
    )
