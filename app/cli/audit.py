"""`expunge audit`: a version's report over HTTP, and the log's integrity straight from the database."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app import audit
from app.cli.console import Api, api, console, interval, part
from app.db import transaction
from app.errors import ServiceError
from app.recovery import journal
from app.recovery.archive import open_archive

app = typer.Typer(no_args_is_help=True)
STYLESHEET = re.compile(r'<link rel="stylesheet" href="[^"]*/static/(?P<name>[\w.-]+)">')


@app.command("show")
def report(
    version: Annotated[str, typer.Argument(help="<model>-v<number>, <model>@current or <model>@<time>")],
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON")] = False,
    html: Annotated[Path | None, typer.Option(help="Write it as a page for a browser, whole in this one file")] = None,
) -> None:
    """Why a version may be trusted, and what the report does not promise."""
    service = api()
    if html is not None:
        write(html, page(service, version))
        console.print(f"{html} holds the report; open it in a browser.", highlight=False, markup=False)
        return
    found = service.get(f"/models/{part(version)}/audit")
    if as_json:
        console.print_json(data=found)
        return
    console.print(found["summary"], style="bold")
    for attempt in found["attempts_at_a_verdict"]:
        table = Table(
            "statistic", "estimate and interval", "n", "estimator", title=f"{attempt['rung']}: {attempt['decision']}"
        )
        for name, statistic in attempt["statistics"].items():
            threshold = attempt["thresholds"].get(name)
            table.add_row(name, interval(statistic, threshold), str(statistic["n"]), statistic["estimator"])
        console.print(table)
        for reason in attempt["reasons"]:
            console.print(f"  {reason}", highlight=False, markup=False)
    console.print("Not promised:", style="bold")
    for sentence in found["not_promised"]:
        console.print(f"  {sentence}", highlight=False, markup=False)


def page(service: Api, version: str) -> str:
    """The report's page with its style in it: a browser that opens it sends no key, and finds no other file."""
    found = service.call("GET", f"/models/{part(version)}/audit", headers={"Accept": "text/html"}).text
    names = list(dict.fromkeys(link["name"] for link in STYLESHEET.finditer(found)))
    assert names, "a page has a stylesheet"
    styles = "".join(f"<style>\n{service.call('GET', f'/static/{name}').text}</style>" for name in names)
    whole = STYLESHEET.sub(lambda _: styles, found, count=1)  # all of them in the head, in their order
    return STYLESHEET.sub("", whole)


def write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
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
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


@app.command()
def export(to: Annotated[str, typer.Argument(help="Folder, or an address such as s3://bucket/prefix")]) -> None:
    """Write what the log holds since the last export, with what a replay needs, to a place of its own."""
    made = journal.export(open_archive(to))
    if made is None:
        console.print("Nothing is new.")
        return
    told = f"Segment {made.number}: events {made.begins.seq + 1} to {made.ends.seq}. SHA-256 {made.sha256}"
    console.print(told, highlight=False, soft_wrap=True)
