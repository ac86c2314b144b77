"""`expunge policy`: read and change what judges a model's updates."""

import json
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from app.cli.console import api, console
from app.errors import ServiceError
from expunge import Client
from expunge.models import ProposalView
from expunge.policies import Policy, written

app = typer.Typer(no_args_is_help=True)


@app.command("show")
def detail(model: str) -> None:
    """The policy in force, as JSON."""
    found = api().policies.get(model)
    console.print(f"policy {found.number} of {model}, by {found.author}")
    console.print_json(data=written(found.policy))


@app.command("set")
def change(
    model: str,
    assignments: Annotated[list[str], typer.Argument(help="For example thresholds.ue=0.1 or ladder='[\"retrain\"]'")],
) -> None:
    """Change single values of a policy; the rest stays as it is."""
    changed = assign(api(), model, dict(split(text) for text in assignments))
    if isinstance(changed, ProposalView):
        console.print(f"Proposal {changed.id} waits for somebody else's approval: it loosens what guards the model.")
        for change in changed.loosens:
            console.print(f"  {change}")
    else:
        console.print(f"Policy {changed.number} of {model} is in force.")


@app.command()
def proposals(model: str) -> None:
    """Policies that wait, or waited, for somebody else's approval, newest first."""
    table = Table("proposal", Column("state", no_wrap=True), "author", "loosens", "decided by", "why")
    for row in api().policies.proposals(model):
        loosens = "\n".join(row.loosens)
        table.add_row(str(row.id), row.state, row.author, loosens, row.decided_by or "–", row.why or "–")
    console.print(table)


@app.command()
def approve(
    model: str, proposal: int, why: Annotated[str, typer.Option(help="What was looked into, for the audit")]
) -> None:
    """Put a proposed policy in force. Its author cannot."""
    made = api().policies.approve(model, proposal, why)
    console.print(f"Policy {made.number} of {model} is in force.")


@app.command()
def refuse(model: str, proposal: int, why: Annotated[str, typer.Option(help="For the audit")]) -> None:
    """Refuse a proposed policy, or take your own back."""
    api().policies.refuse(model, proposal, why)
    console.print(f"Proposal {proposal} of {model} is refused.")


def split(text: str) -> tuple[str, Any]:
    """`path=value`, the value as JSON, or as text where it is none."""
    path, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not of the form path=value")
    try:
        return path, json.loads(value)
    except json.JSONDecodeError:
        return path, value


def assign(service: Client, model: str, values: dict[str, Any]) -> Policy | ProposalView:
    """Read the policy, change the named values, put it back with the ETag it was read under."""
    found = service.policies.get(model)
    policy = written(found.policy)
    for path, value in values.items():
        *parents, last = path.split(".")
        inner: Any = policy
        for name in parents:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            raise ServiceError(f"A policy has no {path}. `expunge policy show {model}` lists what there is.")
        inner[last] = value
    return service.policies.replace(model, policy, found.etag)
