"""`expunge webhooks`: be told instead of asking."""

import time
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from app.cli.console import Api, api, console, moment, part
from app.errors import ServiceError
from app.tables import DeliveryState
from app.webhooks.events import EventType

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
    body = {"url": url, "events": [e.value for e in event] if event else None, "description": description}
    made = api().post("/webhooks", body)
    console.print(f"webhook {made['id']}", highlight=False)
    tell_secret(made["secret"])


def tell_secret(secret: str) -> None:
    console.print(KEEP)
    print(secret)  # noqa: T201 - whole, on a line of its own, so that it can be copied


@app.command("list")
def listing(limit: Annotated[int, typer.Option(help="At most so many, newest first")] = 50) -> None:
    """Your endpoints."""
    whole = Column("webhook", overflow="fold")  # an id that is cut short is no use to the other commands
    table = Table(whole, "client", "url", "events", "state", "last success")
    for row in api().get("/webhooks", limit=limit)["items"]:
        state = "enabled" if row["enabled"] else f"disabled: {row['disabled_why']}"
        told = " ".join(row["events"]) if row["events"] else "all"
        table.add_row(row["id"], row["client"], row["url"], told, state, moment(row["last_success_at"]))
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
    asked: dict[str, Any] = {"url": url, "description": description}
    body = {name: value for name, value in asked.items() if value is not None}
    if event or all_events:
        body["events"] = None if all_events else [each.value for each in event or ()]
    patch(webhook, body)
    console.print("Changed.")


def patch(webhook: str, body: dict[str, Any]) -> None:
    api().call("PATCH", f"/webhooks/{part(webhook)}", json=body)


@app.command()
def enable(webhook: str) -> None:
    """Call it again: what happened since it was disabled is delivered."""
    patch(webhook, {"enabled": True})
    console.print("Enabled.")


@app.command()
def disable(webhook: str) -> None:
    """Stop calling it until it is enabled again."""
    patch(webhook, {"enabled": False})
    console.print("Disabled.")


@app.command()
def remove(webhook: str) -> None:
    """Remove an endpoint with its deliveries."""
    api().call("DELETE", f"/webhooks/{part(webhook)}")
    console.print("Removed.")


@app.command()
def rotate(
    webhook: str,
    overlap_hours: Annotated[float, typer.Option(help="How long calls carry the old signature as well")] = 24,
) -> None:
    """Make a new secret and print it, this one time."""
    made = api().post(f"/webhooks/{part(webhook)}/rotate", {"overlap_hours": overlap_hours})
    console.print(f"old secret until {moment(made['old_secret_until'])}", highlight=False)
    tell_secret(made["secret"])


@app.command()
def test(webhook: str) -> None:
    """Call it once, and say how that went."""
    service = api()
    made = service.post(f"/webhooks/{part(webhook)}/test", {})
    deadline = time.monotonic() + TEST_SECONDS
    while time.monotonic() < deadline:
        found = find(service, webhook, made["id"])
        tried = [each for each in found["attempts"] if each["outcome"]]
        if tried:
            last = tried[-1]
            if found["state"] != DeliveryState.DELIVERED:
                raise ServiceError(f"The call failed: {last['outcome']} {last['status'] or ''}".rstrip() + ".")
            console.print(f"Delivered: {last['status']} after {last['seconds']:.2f} s.", highlight=False)
            return
        time.sleep(POLL_SECONDS)
    raise ServiceError("No call was made yet. Does the light worker run?")


def find(service: Api, webhook: str, delivery: str) -> Any:
    """The delivery among the newest."""
    newest = service.get(f"/webhooks/{part(webhook)}/deliveries", limit=200)["items"]
    return next((row for row in newest if row["id"] == delivery), {"attempts": [], "state": "pending"})


@app.command()
def deliveries(
    webhook: str,
    state: Annotated[DeliveryState | None, typer.Option(help="Only those in this state")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first")] = 50,
) -> None:
    """What an endpoint was told, and how the attempts went."""
    table = Table(Column("delivery", overflow="fold"), "event", "state", "created", "attempts", "last", "next")
    parameters = {"state": state.value if state else None, "limit": limit}
    for row in api().get(f"/webhooks/{part(webhook)}/deliveries", **parameters)["items"]:
        last = row["attempts"][-1] if row["attempts"] else {"outcome": None, "status": None}
        how = f"{last['outcome'] or '–'} {last['status'] or ''}".rstrip()
        times = moment(row["created_at"]), str(len(row["attempts"])), how, moment(row["next_attempt_at"])
        table.add_row(row["id"], row["type"], row["state"], *times)
    console.print(table)


@app.command()
def redeliver(webhook: str, delivery: str) -> None:
    """Send a delivery again, under the same webhook-id."""
    api().post(f"/webhooks/{part(webhook)}/deliveries/{part(delivery)}/redeliver", {})
    console.print("It is on its way.")
