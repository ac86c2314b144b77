"""`expunge models` and `expunge retrain`."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.console import Api, api, console, moment, part, progress, show
from app.errors import ServiceError

app = typer.Typer(no_args_is_help=True)
POLL_SECONDS = 0.5


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="What the model is to be called")],
    dataset: Annotated[str, typer.Option(help="The manifest it is trained on")],
    problem: Annotated[str, typer.Option(help="The installed problem that trains it")],
    policy: Annotated[Path | None, typer.Option(help="A JSON file with a policy; the default otherwise")] = None,
    wait: Annotated[bool, typer.Option(help="Follow the first training to its end")] = True,
) -> None:
    """Register a model and train its first version."""
    body: dict[str, Any] = {"name": name, "dataset": dataset, "problem": problem}
    if policy is not None:
        try:
            body["policy"] = json.loads(policy.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
            raise ServiceError(f"{policy} is no JSON file that can be read: {error}") from None
    service = api()
    service.post("/models", body)
    console.print(f"{name} is registered.")
    if wait:
        follow(service, name)
        console.print(f"{name} has its first version: {service.get(f'/models/{part(name)}@current')['version']}")


def follow(service: Api, name: str) -> None:
    """Show what is being done for a model until nothing is. Raises `ServiceError` when its batch was quarantined."""
    with progress() as bars:
        bar = bars.add_task(name, total=1.0, step="waits for a worker")
        while (running := service.get(f"/models/{part(name)}/versions")["running"]) is not None:
            show(bars, bar, running["progress"], running["step"])
            time.sleep(POLL_SECONDS)
    newest = service.get("/batches", model=name, limit=1)["items"]
    if newest and newest[0]["state"] == "quarantined":
        raise ServiceError(f"The batch is held for an operator: {newest[0]['failure']}")


@app.command("list")
def listing() -> None:
    """All models with their current versions."""
    table = Table("model", "dataset", "problem", "current", "pending", "held")
    for row in api().get("/models"):
        held = row["held"] or "–"
        pending = str(row["pending_obligations"])
        table.add_row(row["name"], row["dataset"], row["problem"], row["current_version"] or "–", pending, held)
    console.print(table)


@app.command("show")
def versions(name: str) -> None:
    """One model's versions and the batch being worked on."""
    model = api().get(f"/models/{part(name)}/versions")
    table = Table("version", "kind", "published", "superseded", "weights (SHA-256)", "records")
    for row in model["versions"]:
        times = moment(row["published_at"]), moment(row["superseded_at"])
        kept = f"{row['records_bytes']:,} bytes" if row["records_bytes"] is not None else "–"
        table.add_row(row["version"], row["kind"], *times, row["weights_sha256"][:16], kept)
    console.print(table)
    if model["running"]:
        console.print(f"working: {model['running']['why']}; {model['running']['step'] or 'waits for a worker'}")


@app.command()
def flush(
    name: str,
    approve_cap: Annotated[bool, typer.Option(help="Let the batch pass the cap on the share forgotten")] = False,
) -> None:
    """Close the model's next batch now instead of waiting for more tickets."""
    api().post(f"/models/{part(name)}/flush", {"approve_cap": approve_cap})
    console.print("The next batch closes at once.")


def retrain(
    model: str,
    why: Annotated[str, typer.Option(help="The reason, for the audit")],
    wait: Annotated[bool, typer.Option(help="Follow it to its end")] = True,
) -> None:
    """Retrain a model without its tombstoned samples."""
    service = api()
    batch = service.post("/retrains", {"model": model, "why": why})
    console.print(f"batch {batch['id']}")
    if wait:
        follow(service, model)
        console.print(f"current: {service.get(f'/models/{part(model)}@current')['version']}")
