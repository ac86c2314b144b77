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
    table = Table("model", "dataset", "problem", "current", "pending", "held or stopped")
    for row in api().get("/models"):
        held = "; ".join(text for text in (row["held"], row["stopped"]) if text) or "–"
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
    if model["bank"]:
        console.print(f"reference bank: {model['bank']}")
    if model["running"]:
        console.print(f"working: {model['running']['why']}; {model['running']['step'] or 'waits for a worker'}")


@app.command()
def bank(
    name: str,
    references: Annotated[
        int | None, typer.Option(help="Models to train, by groups of four; the policy's otherwise")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start without asking")] = False,
    wait: Annotated[bool, typer.Option(help="Follow it to its end")] = True,
) -> None:
    """Build a model's reference bank, or let it grow, after saying what that costs."""
    service = api()
    found = service.get(f"/models/{part(name)}/bank", references=references)
    if found["state"] is not None:
        console.print(f"{name} has a bank: {in_short(found)}")
    cost = found["cost"]
    if found["state"] is None or found["failed"] or cost["references"] > found["wanted"]:
        console.print(price(cost))
        if not yes:
            typer.confirm("Go on?", abort=True)
        found = service.post(f"/models/{part(name)}/bank", {"references": cost["references"]})
    if wait:
        console.print(f"{name}: {in_short(follow_bank(service, name))}")


def price(cost: dict[str, Any]) -> str:
    """What is about to be spent, before it is."""
    each = f"{cost['trainings']} trainings on three quarters of the data, for a bank of {cost['references']} references"
    time_taken = "time unknown: the last training's was not recorded"
    if cost["seconds"] is not None:
        time_taken = f"about {cost['seconds']:,.0f} s on one worker; n workers take an n-th of it"
    return f"This takes {each}: {time_taken}. Its table keeps {cost['bytes']:,} bytes and more."


def in_short(found: dict[str, Any]) -> str:
    """A bank's state on one line."""
    in_table = found["facts"]["references"] if found["facts"] else 0
    shown = f"{found['state']}, {found['done']} of {found['wanted']} references, {in_table} of them in the table"
    if found["failed"]:
        numbers = ", ".join(str(each["number"]) for each in found["failed"])
        shown += f"; failed: {numbers} ({found['failed'][0]['failure']}); order again to give them another chance"
    return shown


def follow_bank(service: Api, name: str) -> dict[str, Any]:
    """Show how its references are trained until none is. Raises `ServiceError` when a training has ended the bank."""
    with progress() as bars:
        bar = bars.add_task(f"{name}: bank", total=1.0, step="waits for a worker")
        while True:
            found: dict[str, Any] = service.get(f"/models/{part(name)}/bank")
            if found["state"] is None:
                raise ServiceError(
                    f"{name} has no bank any more: a training or a fault has ended it, and the log says which."
                )
            if finished(found):
                return found
            share = (found["done"] + sum(each["progress"] for each in found["running"])) / found["wanted"]
            show(bars, bar, share, f"{found['done']} of {found['wanted']} done, {len(found['running'])} in training")
            time.sleep(POLL_SECONDS)


def finished(found: dict[str, Any]) -> bool:
    """Nothing of the bank is to come: every reference is done or has failed, and whole groups are in the table."""
    if found["done"] + len(found["failed"]) < found["wanted"]:
        return False
    return bool(found["failed"]) or (found["facts"] or {}).get("references") == found["wanted"]


@app.command()
def flush(name: str) -> None:
    """Close the model's next batch now instead of waiting for more tickets."""
    api().post(f"/models/{part(name)}/flush", {})
    console.print("The next batch closes at once.")


@app.command()
def resume(
    name: str,
    why: Annotated[str, typer.Option(help="What was looked into and mended, for the audit")],
) -> None:
    """Let a stopped model's approximate updates be published again."""
    api().post(f"/models/{part(name)}/resume", {"why": why})
    console.print(f"Approximate updates of {name} are published again, where their verdicts say so.")


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
