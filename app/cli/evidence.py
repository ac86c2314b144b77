"""`expunge verify`: check an evidence bundle, without the service."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import console
from app.errors import ServiceError
from expunge.evidence.verify import options_of, run


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle, as `expunge audit bundle` wrote it")],
    key: Annotated[
        str | None, typer.Option(help="The key that must have signed: its fingerprint, or a PEM file")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The weights, to be held against the signature")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint of the log that you kept")] = None,
) -> None:
    """Check an evidence bundle offline; names the first thing that does not hold and exits 1."""
    try:
        options = options_of(key, weights, checkpoint)
    except OSError as error:
        raise ServiceError(f"{error.filename} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ServiceError(f"{key}: {error}.") from None
    if not run(bundle, options, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)):
        sys.exit(1)
