"""The command line `expunge`. Commands for people at a service speak HTTP; those for its keeper speak to its database."""

import shlex
import sys

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import OperationalError

from app.cli import (
    approvals,
    audit,
    datasets,
    demo,
    evidence,
    exports,
    health,
    keys,
    models,
    policies,
    recovery,
    schedules,
    service,
    tickets,
    webhooks,
)
from app.cli.console import errors
from app.errors import ServiceError
from expunge import ExpungeError, InFlight, NotUnderstood, Unavailable

app = typer.Typer(
    name="expunge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Answers deletion requests against trained models: unlearn, validate, publish or retrain, keep the evidence.\n\n"
    "Start with `expunge demo`, or with `expunge up` and, in a second terminal, `expunge keys create`.",
)
app.command()(service.up)
app.command()(demo.demo)
app.command()(service.migrate)
app.command()(models.retrain)
app.command()(recovery.backup)
app.command()(recovery.restore)
app.command()(recovery.replay)
app.command()(evidence.verify)
app.command()(health.health)
app.command()(exports.export)
app.add_typer(keys.app, name="keys", help="Make, list and revoke API keys (on the service's own machine).")
app.add_typer(datasets.app, name="datasets", help="Load and list manifests: which samples there are, and whose.")
models.app.command()(approvals.approvals)
models.app.command()(approvals.approve)
models.app.command()(approvals.refuse)
app.add_typer(models.app, name="models", help="Register models and look at their versions.")
app.add_typer(tickets.app, name="tickets", help="Submit deletion tickets and follow them.")
app.add_typer(policies.app, name="policy", help="Read and change a model's thresholds, ladder and limits.")
app.add_typer(schedules.app, name="schedules", help="Retrain on a cron schedule.")
app.add_typer(webhooks.app, name="webhooks", help="Be told of what happens, and see how the calls went.")
audit.app.command()(evidence.compare)
app.add_typer(audit.app, name="audit", help="Why a version may be trusted, and whether the log was tampered with.")


def main() -> None:
    """Entry point: a fault that has a sentence ends in that sentence and exit code 1, never in a traceback."""
    try:
        app()
    except ExpungeError as error:
        if error.idempotency_key and isinstance(error, Unavailable | InFlight | NotUnderstood):
            key = shlex.quote(error.idempotency_key)
            fail(f"{error.detail} Send it again with --key {key}: it will not be made twice.")
        fail(error.detail)
    except ServiceError as error:
        fail(error.detail)
    except OperationalError:
        fail(
            "The database does not answer. Is the service up (`expunge up`), and does EXPUNGE_DATA_DIR or DATABASE_URL fit?"
        )
    except SettingsError as error:
        fail(f"Settings: {error}")
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        fail(f"Settings: {faults}")


def fail(message: str) -> None:
    errors.print(message, style="red", highlight=False, soft_wrap=True)
    sys.exit(1)
