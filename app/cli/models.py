"""`expunge models` and `expunge retrain`."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from app.cli.console import api, console, moment, progress, show
from app.cli.tickets import ids_in
from app.errors import ServiceError
from expunge import Client, TooMany, Unavailable
from expunge.models import BankCost, BankView, BatchDetail, BatchKind, BatchState, BatchView, ExposureLook

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
    body: Any = None
    if policy is not None:
        try:
            body = json.loads(policy.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
            raise ServiceError(f"{policy} is no JSON file that can be read: {error}") from None
        if not isinstance(body, dict):
            raise ServiceError(f"{policy} holds no JSON object: write a policy as `expunge policy show` prints one.")
    service = api()
    service.models.register(name, dataset, problem, body)
    console.print(f"{name} is registered.")
    if wait:
        console.print(f"{name} has its first version: {follow(service, first_training(service, name)).version}")


def first_training(service: Client, name: str) -> BatchView:
    """The batch that a registration orders."""
    for ordered in service.batches.each(model=name, kind=BatchKind.TRAIN, most=1):
        return ordered
    raise ServiceError(f"{name} has no first training. `expunge models show {name}` says what is done for it.")


def follow(service: Client, batch: BatchView) -> BatchDetail:
    """Show what is done for a batch until it is published; returns it. Raises `Quarantined` when it is held for an operator,
    `ServiceError` when it ends in any other way."""
    with progress() as bars:
        bar = bars.add_task(batch.model, total=1.0, step="waits for a worker")

        def draw(found: BatchDetail) -> None:
            show(bars, bar, found.progress, found.step or "waits for a worker")

        found = service.batches.wait(batch.id, timeout=None, longest=POLL_SECONDS, progress=draw)
    if found.state != BatchState.PUBLISHED:
        raise ServiceError(f"Batch {found.id} is {found.state}: {found.failure or 'no version was made'}.")
    return found


@app.command("list")
def listing() -> None:
    """All models with their current versions."""
    table = Table("model", "dataset", "problem", "current", "pending", "held or stopped")
    for row in api().models.all():
        held = "; ".join(text for text in (row.held, row.stopped) if text) or "–"
        pending = str(row.pending_obligations)
        table.add_row(row.name, row.dataset, row.problem, row.current_version or "–", pending, held)
    console.print(table)


@app.command("show")
def versions(name: str) -> None:
    """One model's versions and the batch being worked on."""
    model = api().models.get(name)
    table = Table("version", "kind", "published", "superseded", "weights (SHA-256)", "records")
    for row in model.versions:
        times = moment(row.published_at), moment(row.superseded_at)
        kept = f"{row.records_bytes:,} bytes" if row.records_bytes is not None else "–"
        table.add_row(row.version, row.kind, *times, row.weights_sha256[:16], kept)
    console.print(table)
    if model.bank:
        console.print(f"reference bank: {model.bank}")
    if model.running:
        console.print(f"working: {model.running.why}; {model.running.step or 'waits for a worker'}")


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
    found = service.banks.get(name, references)
    if found.state is not None:
        console.print(f"{name} has a bank: {in_short(found)}")
    if found.state is None or found.failed or found.cost.references > found.wanted:
        console.print(price(found.cost))
        if not yes:
            typer.confirm("Go on?", abort=True)
        service.banks.order(name, found.cost.references)
    if wait:
        console.print(f"{name}: {in_short(follow_bank(service, name))}")


def price(cost: BankCost) -> str:
    """What is about to be spent, before it is."""
    each = f"{cost.trainings} trainings on three quarters of the data, for a bank of {cost.references} references"
    time_taken = "time unknown: the last training's was not recorded"
    if cost.seconds is not None:
        time_taken = f"about {cost.seconds:,.0f} s on one worker; n workers take an n-th of it"
    return f"This takes {each}: {time_taken}. Its table keeps {cost.bytes:,} bytes and more."


def in_short(found: BankView) -> str:
    """A bank's state on one line."""
    in_table = found.facts["references"] if found.facts else 0
    shown = f"{found.state}, {found.done} of {found.wanted} references, {in_table} of them in the table"
    if found.failed:
        numbers = ", ".join(str(each.number) for each in found.failed)
        shown += f"; failed: {numbers} ({found.failed[0].failure}); order again to give them another chance"
    return shown


def follow_bank(service: Client, name: str) -> BankView:
    """Show how its references are trained until none is. Raises `ServiceError` when a training has ended the bank."""
    found: BankView | None = None
    with progress() as bars:
        bar = bars.add_task(f"{name}: bank", total=1.0, step="waits for a worker")
        while True:
            try:
                found = service.banks.get(name)
            except (Unavailable, TooMany):
                if found is None:  # once it was seen, a service that is away for a while ends no wait
                    raise
            if found.state is None:
                raise ServiceError(
                    f"{name} has no bank any more: a training or a fault has ended it, and the log says which."
                )
            if finished(found):
                return found
            share = (found.done + sum(each.progress for each in found.running)) / found.wanted
            show(bars, bar, share, f"{found.done} of {found.wanted} done, {len(found.running)} in training")
            time.sleep(POLL_SECONDS)


def finished(found: BankView) -> bool:
    """Nothing of the bank is to come: every reference is done or has failed, and whole groups are in the table."""
    if found.done + len(found.failed) < found.wanted:
        return False
    return bool(found.failed) or (found.facts or {}).get("references") == found.wanted


@app.command()
def flush(name: str) -> None:
    """Close the model's next batch now instead of waiting for more tickets."""
    api().models.flush(name)
    console.print("The next batch closes at once.")


@app.command()
def resume(
    name: str,
    why: Annotated[str, typer.Option(help="What was looked into and mended, for the audit")],
) -> None:
    """Let a stopped model's approximate updates be published again."""
    api().models.resume(name, why)
    console.print(f"Approximate updates of {name} are published again, where their verdicts say so.")


def retrain(
    model: str,
    why: Annotated[str, typer.Option(help="The reason, for the audit")],
    wait: Annotated[bool, typer.Option(help="Follow it to its end")] = True,
) -> None:
    """Retrain a model without its tombstoned samples."""
    service = api()
    batch = service.batches.retrain(model, why)
    console.print(f"batch {batch.id}")
    if wait:
        console.print(f"published: {follow(service, batch).version}")


@app.command()
def rollback(
    model: str,
    to: Annotated[str, typer.Option(help="A version that was trained: <model>-v<number>")],
    why: Annotated[str, typer.Option(help="For the audit")],
) -> None:
    """Serve an earlier training again, as a new version; refused where it holds what was forgotten since."""
    made = api().models.rollback(model, to, why)
    console.print(f"{made.version} serves the weights of {to}.", highlight=False)


@app.command()
def exposure(
    model: str,
    as_json: Annotated[bool, typer.Option("--json", help="As the API answers it")] = False,
) -> None:
    """Training samples of the current version whose gradients are outlying, by id. Needs an admin's key."""
    found = api().models.exposure(model)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    if found.look is None:
        console.print(f"{found.version}: {found.why}", highlight=False)
        return
    console.print(seen(found.version, found.look), highlight=False)
    if found.look.outliers:
        table = Table(Column("sample", overflow="fold"), "gradient norm", "z")
        for each in found.look.outliers:
            table.add_row(each.sample_id, f"{each.norm:.4g}", f"{each.z:.1f}")
        console.print(table)


def seen(version: str, look: ExposureLook) -> str:
    """What was looked at and what stands out, in sentences."""
    said = f"{version}: the gradients of {look.n:,} of {look.of:,} training samples"
    if look.unjudged is not None:
        return f"{said}; {look.unjudged}."
    said += f"; {look.found:,} above z = {look.z:g}."
    if look.found > look.most:
        said += f" The {look.most:,} most outlying are kept."
    if look.tombstoned:
        said += f" Named by a ticket since: {look.tombstoned:,}."
    return said


@app.command()
def confirm(
    model: str,
    why: Annotated[str, typer.Option(help="For the audit log, where it stays; without the id of a sample")],
    sample: Annotated[list[str] | None, typer.Option(help="A sample that `exposure` names; repeat for several")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of their ids, one a line; - for standard input")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency-Key; a random one otherwise")] = None,
) -> None:
    """Say yes to the deletion of outlying samples: a ticket like any other. Needs an admin's key."""
    samples = list(dict.fromkeys([*(sample or []), *ids_in(file)]))
    made = api().models.delete_outliers(model, samples, why, idempotency_key=key or None)
    console.print(f"ticket {made.id}: {made.counts.accepted} accepted; {made.models} model(s) owe it", highlight=False)
