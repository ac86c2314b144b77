"""`expunge audit`: a version's report over HTTP, and the log's integrity straight from the database."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from app import audit
from app.cli.console import api, console, interval, moment
from app.db import transaction
from app.errors import ServiceError
from app.recovery import journal
from app.recovery.archive import open_archive

app = typer.Typer(no_args_is_help=True)


@app.command("show")
def report(
    version: Annotated[str, typer.Argument(help="<model>-v<number>, <model>@current or <model>@<time>")],
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON")] = False,
    html: Annotated[Path | None, typer.Option(help="Write it as a page for a browser, whole in this one file")] = None,
) -> None:
    """Why a version may be trusted, and what the report does not promise."""
    service = api()
    if html is not None:
        write(html, service.audit.page(version))
        console.print(f"{html} holds the report; open it in a browser.", highlight=False)
        return
    if as_json:
        console.print_json(service.audit.json(version))
        return
    found = service.audit.report(version)
    console.print(found.summary, style="bold")
    for attempt in found.attempts_at_a_verdict:
        table = Table(
            "statistic", "estimate and interval", "n", "estimator", title=f"{attempt.rung}: {attempt.decision}"
        )
        for name, statistic in attempt.statistics.items():
            threshold = attempt.thresholds.get(name)
            table.add_row(name, interval(statistic, threshold), str(statistic["n"]), statistic["estimator"])
        console.print(table)
        for reason in attempt.reasons:
            console.print(f"  {reason}", highlight=False)
    console.print("Not promised:", style="bold")
    for sentence in found.not_promised:
        console.print(f"  {sentence}", highlight=False)


@app.command()
def bundle(
    version: Annotated[str, typer.Argument(help="<model>-v<number>, <model>@current or <model>@<time>")],
    to: Annotated[Path | None, typer.Option(help="Where to write it; by the version's name otherwise")] = None,
) -> None:
    """The version's evidence in one file that anyone checks without the service: `expunge verify`."""
    service = api()
    file = to or Path(f"{service.models.version(version).version}-evidence.zip")
    write(file, service.audit.bundle(version))
    console.print(f"{file} holds the evidence. Check it: expunge verify {file}", highlight=False, soft_wrap=True)


@app.command()
def checkpoint(to: Annotated[Path | None, typer.Option(help="Keep it in this file")] = None) -> None:
    """The newest signed head of the log: keep it, and hold later ones against it."""
    note = api().audit.checkpoint()
    if to is not None:
        write(to, note)
    else:
        console.print(note, highlight=False, soft_wrap=True, end="")


@app.command("keys")
def signing_keys() -> None:
    """Fingerprints of the keys that evidence is or was signed with, the present one first."""
    for key in api().audit.signing_keys():
        what = "signs now" if key.current else "was used"
        console.print(f"{key.fingerprint}  {what}, since {moment(key.since)}", highlight=False, soft_wrap=True)


@app.command()
def serving(
    model: str,
    at: Annotated[str | None, typer.Option(help="ISO 8601 with its zone; now otherwise")] = None,
) -> None:
    """Which version was served at a time, and which deleted samples it still held."""
    found = api().audit.serving(model, parsed(at))
    until = f"until {moment(found.served_until)}" if found.served_until else "and still is"
    console.print(f"{found.version} was served from {moment(found.served_from)} {until}", highlight=False)
    if found.unsure is not None:
        console.print(found.unsure, highlight=False)
    if not found.held:
        console.print("It held nothing that was to be forgotten by then.")
        return
    table = Table(Column("ticket", overflow="fold"), "samples", "received", "forgotten by", "at")
    for held in found.held:
        by = held.forgotten_by or "–", moment(held.forgotten_at)
        table.add_row(str(held.ticket), str(held.samples), moment(held.received_at), *by)
    console.print(table)


def parsed(at: str | None) -> datetime | None:
    try:
        when = datetime.fromisoformat(at) if at is not None else None
    except ValueError:
        raise ServiceError("--at takes an ISO 8601 time such as 2026-01-31T12:00:00Z.") from None
    if when is not None and when.tzinfo is None:
        raise ServiceError("--at needs a zone, such as the Z in 2026-01-31T12:00:00Z.")
    return when


def write(file: Path, content: str | bytes) -> None:
    try:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ServiceError(f"{file} cannot be written: {error.strerror}.") from None


@app.command()
def verify() -> None:
    """Recompute the audit log's hash chain; names the first event that does not hold and exits 1."""
    with transaction() as session:
        found = audit.verify(session)
    if found.fault:
        console.print(f"The log does not hold: {found.fault}. {found.events} events before it do.", style="red")
        sys.exit(1)
    console.print(f"{found.events} events, unbroken. Head {found.head}", highlight=False, soft_wrap=True)
    for sentence in found.restored:
        console.print(sentence, highlight=False, soft_wrap=True)


@app.command()
def export(to: Annotated[str, typer.Argument(help="Folder, or an address such as s3://bucket/prefix")]) -> None:
    """Write what the log holds since the last export, with what a replay needs, to a place of its own."""
    made = journal.export(open_archive(to))
    if made is None:
        console.print("Nothing is new.")
        return
    told = f"Segment {made.number}: events {made.begins.seq + 1} to {made.ends.seq}. SHA-256 {made.sha256}"
    console.print(told, highlight=False, soft_wrap=True)
