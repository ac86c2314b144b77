"""The operator's pages, last part: schedules, and whether everything is there."""

from fastapi import APIRouter, Response

from app import audit, overview, presence, schedules
from app.db import check_schema, revisions, transaction
from app.errors import NotFound, ServiceError
from app.routes.pages.shell import Ask, MayFollow, MayRetrain, MayWatch, Visit, confirm, faults, parsed
from app.schemas import DecisionRequest, ScheduleRequest
from app.tables import AuditHead, Schedule

router = APIRouter(include_in_schema=False)


@router.get("/ui/schedules")
def listing(visit: MayFollow) -> Response:
    """Schedules in force, when each was last due and will be."""
    return schedules_page(visit)


def schedules_page(visit: Visit, error: ServiceError | None = None) -> Response:
    with transaction() as session:
        rows = schedules.all_of(session)
        found = [(row, schedules.occurrences(session, row.id, 3)) for row in rows]
        models = overview.model_names(session)
    context = {"schedules": found, "models": models, "error": error, "faults": faults(error), "typed": visit.fields()}
    return visit.show("system/schedules.html", error.status if error else 200, **context)


@router.post("/ui/schedules")
def create(visit: MayRetrain) -> Response:
    try:
        asked = parsed(ScheduleRequest, {"model": visit.text("model"), "cron": visit.text("cron")})
        with transaction() as session:
            made = schedules.create(session, asked.model, asked.cron, visit.who.client)
            said = f"{asked.model} is retrained on {asked.cron}, next at {made.next_at:%Y-%m-%d %H:%M} UTC."
            return visit.go(session, "/ui/schedules", said)
    except ServiceError as error:
        return schedules_page(visit, error)


def remove_ask(schedule: Schedule) -> Ask:
    says = ["No further retrain is opened by it. What it has opened goes on."]
    facts = {"model": schedule.model.name, "cron": schedule.cron, "next": f"{schedule.next_at:%Y-%m-%d %H:%M} UTC"}
    return Ask("Stop the schedule", says, "Stop it", "/ui/schedules", facts=facts, danger=True)


def found(number: int) -> Schedule:
    with transaction() as session:
        for row in schedules.all_of(session):
            if row.id == number:
                return row
    raise NotFound("No schedule of that number.")


@router.get("/ui/schedules/{number}/remove")
def ask_remove(number: int, visit: MayRetrain) -> Response:
    return confirm(visit, remove_ask(found(number)))


@router.post("/ui/schedules/{number}/remove")
def remove(number: int, visit: MayRetrain) -> Response:
    schedule = found(number)
    try:
        asked = parsed(DecisionRequest, {"why": visit.text("why")})
        with transaction() as session:
            schedules.remove(session, number, visit.who.client, asked.why)
            return visit.go(session, "/ui/schedules", "The schedule is stopped.")
    except ServiceError as error:
        return confirm(visit, remove_ask(schedule), error)


@router.get("/ui/schedules/{number}")
def occurrences(number: int, visit: MayFollow) -> Response:
    """Past due times with what each opened."""
    with transaction() as session:
        rows = schedules.occurrences(session, number, 200)
        schedule = session.get_one(Schedule, number)
        name = schedule.model.name
    ahead = schedules.upcoming(schedule, 5)
    return visit.show("system/occurrences.html", schedule=schedule, name=name, occurrences=rows, ahead=ahead)


@router.get("/ui/system")
def health(visit: MayWatch) -> Response:
    """Who is there, and whether the database is the one that this code needs."""
    check_schema(begun=True)
    revision, expected = revisions()
    with transaction() as session:
        workers = presence.everyone(session)
        head = session.get_one(AuditHead, 1)
        restored = audit.restorations(session)
    context = {"workers": workers, "revision": revision, "expected": expected, "head": head, "restored": restored}
    return visit.show("system/system.html", **context)
