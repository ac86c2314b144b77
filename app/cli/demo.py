"""`expunge demo`: the main job on real data, start to end, in a data folder of its own that is gone afterwards.

Everything after the keys goes over HTTP, as it would from a compliance tool: register, train (and build the reference
bank, where there are subjects enough), a ticket by sample ids, one by subject, one after a threshold was tightened, and
the evidence. On so small a set which rung suffices depends on the draw of samples; its seed is fixed.
"""

import csv
import io
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from app import keys
from app.auth import Scope
from app.cli import datasets, models, policies, service, tickets
from app.cli.console import Plain, console
from app.config import settings
from app.db import engine, transaction
from app.errors import ServiceError
from app.policy import PolicyBody
from expunge import Client
from expunge.evidence import verify
from expunge.models import Decision, Report, TicketDetail, VerdictView, VersionKind

MODEL = "lenet"
SEED = 6
TABLE_WIDTH = 132


class Data(StrEnum):
    DIGITS = "digits"
    FASHION_MNIST = "fashion-mnist"


@dataclass(frozen=True)
class Script:
    """What the demo asks of a data set: sizes of its tickets, and thresholds that fit what so many samples can show."""

    by_id: int
    subjects: int
    policy: PolicyBody
    tightened: dict[str, Any]
    bank: bool


# A few hundred unseen samples cannot show MU to the third decimal, so the digits' thresholds are wide.
SMALL = PolicyBody.model_validate(
    {"thresholds": {"mu": 0.05, "ue": 0.15, "worst_class": 0.3}, "drift": {"max_share": 0.5}}
)
SCRIPTS = {
    Data.DIGITS: Script(
        by_id=60, subjects=1, policy=SMALL, tightened={"thresholds.ue": 0.02}, bank=False
    ),  # of ten subjects no quarter can be left out
    Data.FASHION_MNIST: Script(
        by_id=500, subjects=20, policy=PolicyBody(), tightened={"thresholds.ue": 0.04}, bank=True
    ),
}


def demo(
    data: Annotated[Data, typer.Option(help="Which real data to use")] = Data.DIGITS,
    keep: Annotated[bool, typer.Option(help="Leave the service up at the end, until Ctrl-C")] = False,
    evidence: Annotated[Path | None, typer.Option(help="Keep the evidence bundle of an update in this file")] = None,
) -> None:
    """Show the whole service on real data: about two minutes, then nothing is left behind."""
    begun = time.monotonic()
    with private_folder() as folder:
        service.configure(folder, "127.0.0.1", free_port())
        engine.cache_clear()
        with service.running(console.print) as supervisor:
            step(begun, "Postgres, Redis, API, workers and beat are up")
            seats = play(data, begun)
            check_evidence(seats, evidence or folder / "evidence.zip")
            if keep:
                invite(seats)
                supervisor.watch()
        engine().dispose()
    step(begun, "stopped; nothing is left behind")


@contextmanager
def private_folder() -> Iterator[Path]:
    """A data folder for this run alone; kept, and named, when the run fails."""
    folder = Path(tempfile.mkdtemp(prefix="expunge-"))
    try:
        yield folder
    except BaseException:
        console.print(f"The demo's data and logs are kept in {folder}", style="red", highlight=False)
        raise
    shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def step(begun: float, text: str) -> None:
    since = Text(f"{time.monotonic() - begun:6.1f} s", style="dim")
    console.print(Text.assemble(since, f"  {text}"), soft_wrap=True)


def play(data: Data, begun: float) -> "Seats":
    """The story, in order."""
    script = SCRIPTS[data]
    keys = make_keys()
    admin, operator, compliance, reviewer = (Client(settings().url, key) for key in keys)
    manifest = b"".join(datasets.from_problem(data))
    rows = list(csv.DictReader(io.StringIO(manifest.decode())))
    made = admin.datasets.load(data, manifest)
    step(begun, f"manifest of {data}: {made.samples} samples of {made.subjects} subjects")
    admin.models.register(MODEL, data, data, script.policy.model_dump(mode="json"))
    models.follow(admin, models.first_training(admin, MODEL))
    first = reviewer.audit.report(f"{MODEL}@current")
    step(begun, f"{first.version.version}: {first.summary}")
    if script.bank:
        operator.banks.order(MODEL)
        step(begun, f"reference bank: {models.in_short(models.follow_bank(operator, MODEL))}")

    draw = random.Random(SEED)  # noqa: S311 - a repeatable choice of samples, no secret
    subjects = draw.sample(sorted({row["subject"] for row in rows}), script.subjects + 1)
    ids = draw.sample([row["id"] for row in rows], script.by_id)
    seats = Seats(compliance, operator, reviewer, keys[-1], data, begun)
    done = [
        answer(seats, "by sample ids", samples=ids, reason="consent_withdrawn"),
        answer(seats, "by subject", subjects=subjects[: script.subjects]),
    ]
    policies.assign(operator, MODEL, script.tightened)
    step(begun, "an operator tightened " + ", ".join(f"{path} to {value}" for path, value in script.tightened.items()))
    done.append(answer(seats, "tightened", subjects=subjects[script.subjects :]))
    report(reviewer, done)
    return seats


def make_keys() -> list[str]:
    """One key a seat, made where the first key is made: on the service's machine."""
    seats = {
        "admin": [Scope.ADMIN],
        "operator": [Scope.POLICIES_WRITE, Scope.RETRAINS_WRITE, Scope.DELETIONS_READ],
        "compliance": [Scope.DELETIONS_WRITE, Scope.DELETIONS_READ],
        "reviewer": [Scope.AUDIT_READ, Scope.DELETIONS_READ],
    }
    with transaction() as session:
        return [keys.create(session, client, scopes, None, "demo").secret for client, scopes in seats.items()]


@dataclass(frozen=True)
class Done:
    """One ticket's end, as its owner saw it."""

    name: str
    ticket: TicketDetail
    seconds: float


@dataclass(frozen=True)
class Seats:
    """Who acts in the demo, on what, since when."""

    compliance: Client
    operator: Client
    reviewer: Client
    reviewers_key: str
    data: Data
    begun: float


def check_evidence(seats: Seats, file: Path) -> None:
    """Take the evidence of the newest update, or of what there is, and check it as somebody without the service would."""
    line = seats.reviewer.models.get(MODEL).versions
    chosen = next((each for each in reversed(line) if each.kind == VersionKind.UNLEARNED), line[-1]).version
    (key,) = [each.fingerprint for each in seats.reviewer.audit.signing_keys() if each.current]
    file.write_bytes(seats.reviewer.audit.bundle(chosen))
    step(seats.begun, f"evidence of {chosen}: expunge verify {file} --key {key}")
    if not verify.run(file, verify.Options(fingerprint=key), lambda line: console.print(f"  {line}", highlight=False)):
        raise ServiceError("The evidence does not hold.")


def invite(seats: Seats) -> None:
    """Where to look, now that everything is there to be looked at."""
    service.announce()
    url = settings().url
    console.print(f"Look       {url}/models/{MODEL}@current/audit   (sign in with the reviewer's key)", highlight=False)
    console.print(f"Key        {seats.reviewers_key}", highlight=False, soft_wrap=True)


def answer(seats: Seats, name: str, **asked: Any) -> Done:
    """Post a ticket, close its batch at once, follow it to its end."""
    start = time.monotonic()
    made = seats.compliance.tickets.submit(seats.data, idempotency_key=f"demo-{name}", **asked)
    step(seats.begun, f"ticket {name}: 202, {made.counts.accepted} samples tombstoned")
    seats.operator.models.flush(MODEL)
    found = tickets.follow(seats.compliance, made.id)
    clean = found.obligations[0].clean_version
    if clean is None:
        raise ServiceError(f"The ticket ended as {found.state}.")
    step(seats.begun, f"ticket {name}: {found.state} by {clean}")
    return Done(name, found, time.monotonic() - start)


def report(reviewer: Client, done: list[Done]) -> None:
    """The table of all tickets: a line for every verdict, the retrain's truth beneath."""
    audits = [reviewer.audit.report(str(one.ticket.obligations[0].clean_version)) for one in done]
    trained = audits[-1].verdict.seconds.get("train")
    table = Table(title="Tickets and what answered them", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (
        "ticket",
        "samples",
        "method",
        "MU",
        "UE",
        "verdict",
        "version",
        "s",
        "retrain s",
        "ratio",
    ):
        table.add_column(heading, no_wrap=True)
    for one, audit in zip(done, audits, strict=True):
        for attempt in audit.attempts_at_a_verdict:
            samples = str(one.ticket.counts.accepted)
            table.add_row(one.name, samples, attempt.rung, *figures(attempt, audit, one, trained))
    wide = Plain(width=max(console.width, TABLE_WIDTH))
    wide.print(table)
    for one, audit in zip(done, audits, strict=True):
        for attempt in audit.attempts_at_a_verdict:
            truth = attempt.truth
            if truth and truth["ue"] is not None:
                console.print(
                    f"{one.name}, {attempt.rung}: measured against the retrain, MU {truth['mu']:+.3f} "
                    f"(estimated {truth['estimated_mu']:+.3f}), UE {truth['ue']:+.3f} (estimated {truth['estimated_ue']:+.3f})",
                    highlight=False,
                    soft_wrap=True,
                )
    for audit in audits:
        if audit.version.kind == VersionKind.UNLEARNED:
            explain(audit)
            break
    console.print(
        f"Why each version may be trusted: GET {settings().url}{done[-1].ticket.obligations[0].audit}", highlight=False
    )


def explain(audit: Report) -> None:
    """What a reviewer reads first of an update: the audit's own words."""
    console.print(f"\nWhat the audit of {audit.version.version} says", style="bold", highlight=False)
    for said in audit.answers:
        console.print(Text.assemble((said.question, "bold"), f" {' '.join(said.answer)}"), soft_wrap=True)
    console.print()


def figures(attempt: VerdictView, audit: Report, one: Done, trained: float | None) -> list[str]:
    """One verdict's cells: estimates with interval and threshold, or what a retrain needs no estimate for."""
    statistics, thresholds = attempt.statistics, attempt.thresholds
    published = attempt.decision == Decision.PUBLISH
    exact = "exact" if attempt.rung == "retrain" else "–"
    own: float = sum(attempt.seconds.values())
    return [
        *(two_lines(statistics[name], thresholds[name]) if name in statistics else exact for name in ("mu", "ue")),
        attempt.decision,
        audit.version.version if published else "–",
        f"{one.seconds:.1f}" if published else f"{own:.1f}",
        f"{trained:.1f}" if trained else "–",
        f"{trained / own:.1f}" if trained else "–",
    ]


def two_lines(statistic: dict[str, Any], threshold: float) -> str:
    """An estimate with its threshold, and beneath it the interval."""
    return f"{statistic['estimate']:+.3f} ±{threshold:g}\n[{statistic['low']:+.3f}, {statistic['high']:+.3f}]"
