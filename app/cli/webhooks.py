"""`expunge webhooks`: be told instead of asking."""

import time
from typing import Annotated

import typer
from rich.table import Column, Table

from app.cli.console import api, console, moment
from app.errors import ServiceError
from app.tables import DeliveryState
from app.webhooks.events import EventType
from expunge import Client
from expunge.models import DeliveryView
from expunge.sync.webhooks import Changes

app = typer.Typer(no_args_is_help=True)
POLL_SECONDS = 0.3
TEST_SECONDS = 60.0
KEEP = "Keep the secret safe: it is not shown again. Receivers check calls with it."


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="Where to call")],
    event: Annotated[list[EventType] | None, typer.Option(help="Be told of this; repeat for several")] = None,
    description: Annotated[str | None, typer.Option(help="A note for people")] = None,
) -> None:
    """Be told of what happens from now on; without --event of all that the key may see."""
    made = api().webhooks.add(url, events=event or None, description=description)
    console.print(f"webhook {made.id}", highlight=False)
    tell_secret(made.secret)


def tell_secret(secret: str) -> None:
    console.print(KEEP)
    print(secret)  # noqa: T201 - whole, on a line of its own, so that it can be copied


@app.command("list")
def listing(limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first")] = 50) -> None:
    """Your endpoints."""
    whole = Column("webhook", overflow="fold")  # an id that is cut short is no use to the other commands
    table = Table(whole, "client", "url", "events", "state", "last success")
    for row in api().webhooks.each(most=limit):
        state = "enabled" if row.enabled else f"disabled: {row.disabled_why}"
        told = " ".join(row.events) if row.events else "all"
        table.add_row(str(row.id), row.client, row.url, told, state, moment(row.last_success_at))
    console.print(table)


@app.command()
def change(
    webhook: str,
    url: Annotated[str | None, typer.Option(help="Call this from now on")] = None,
    event: Annotated[list[EventType] | None, typer.Option(help="Be told of this; repeat for several")] = None,
    all_events: Annotated[bool, typer.Option("--all-events", help="Be told of all that the owner may see")] = False,
    description: Annotated[str | None, typer.Option(help="A note for people")] = None,
) -> None:
    """Change where an endpoint is and what it is told."""
    changes: Changes = {}
    if url is not None:
        changes["url"] = url
    if description is not None:
        changes["description"] = description
    if event or all_events:
        changes["events"] = None if all_events else [each.value for each in event or ()]
    api().webhooks.change(webhook, **changes)
    console.print("Changed.")


@app.command()
def enable(webhook: str) -> None:
    """Call it again: what happened since it was disabled is delivered."""
    api().webhooks.change(webhook, enabled=True)
    console.print("Enabled.")


@app.command()
def disable(webhook: str) -> None:
    """Stop calling it until it is enabled again."""
    api().webhooks.change(webhook, enabled=False)
    console.print("Disabled.")


@app.command()
def remove(webhook: str) -> None:
    """Remove an endpoint with its deliveries."""
    api().webhooks.remove(webhook)
    console.print("Removed.")


@app.command()
def rotate(
    webhook: str,
    overlap_hours: Annotated[float, typer.Option(help="How long calls carry the old signature as well")] = 24,
) -> None:
    """Make a new secret and print it, this one time."""
    made = api().webhooks.rotate(webhook, overlap_hours=overlap_hours)
    console.print(f"old secret until {moment(made.old_secret_until)}", highlight=False)
    tell_secret(made.secret)


@app.command()
def test(webhook: str) -> None:
    """Call it once, and say how that went."""
    service = api()
    made = service.webhooks.test(webhook)
    deadline = time.monotonic() + TEST_SECONDS
    while time.monotonic() < deadline:
        found = find(service, webhook, made)
        tried = [each for each in found.attempts if each.outcome]
        if tried:
            last = tried[-1]
            if found.state != "delivered":
                raise ServiceError(f"The call failed: {last.outcome} {last.status or ''}".rstrip() + ".")
            console.print(f"Delivered: {last.status} after {last.seconds:.2f} s.", highlight=False)
            return
        time.sleep(POLL_SECONDS)
    raise ServiceError("No call was made yet. Does the light worker run?")


def find(service: Client, webhook: str, delivery: DeliveryView) -> DeliveryView:
    """The delivery as it stands now; it is among the newest."""
    newest = service.webhooks.deliveries(webhook, most=200)
    return next((row for row in newest if row.id == delivery.id), delivery)


@app.command()
def deliveries(
    webhook: str,
    state: Annotated[DeliveryState | None, typer.Option(help="Only those in this state")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first")] = 50,
) -> None:
    """What an endpoint was told, and how the attempts went."""
    table = Table(Column("delivery", overflow="fold"), "event", "state", "created", "attempts", "last", "next")
    for row in api().webhooks.deliveries(webhook, state=state, most=limit):
        last = row.attempts[-1] if row.attempts else None
        how = f"{last.outcome or '–'} {last.status or ''}".rstrip() if last else "–"
        times = moment(row.created_at), str(len(row.attempts)), how, moment(row.next_attempt_at)
        table.add_row(str(row.id), row.type, row.state, *times)
    console.print(table)


@app.command()
def redeliver(webhook: str, delivery: str) -> None:
    """Send a delivery again, under the same webhook-id."""
    api().webhooks.redeliver(webhook, delivery)
    console.print("It is on its way.")
