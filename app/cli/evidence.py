"""`expunge verify` and `expunge audit compare`: check evidence without the service."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import console
from app.errors import ServiceError
from expunge.evidence import heads
from expunge.evidence.given import WHICH_KEY, WHICH_PROOF
from expunge.evidence.verify import options_of, run


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle, as `expunge audit bundle` wrote it")],
    key: Annotated[list[str] | None, typer.Option(help=WHICH_KEY)] = None,
    weights: Annotated[Path | None, typer.Option(help="The weights, to be held against the signature")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint of the log that you kept")] = None,
    proof: Annotated[Path | None, typer.Option(help=WHICH_PROOF)] = None,
) -> None:
    """Check an evidence bundle offline; names the first thing that does not hold and exits 1."""
    with usable():
        options = options_of(key or [], weights, checkpoint, proof)
    if not run(bundle, options, say):
        sys.exit(1)


def compare(
    old: Annotated[Path, typer.Argument(help="A checkpoint of the log that you kept")],
    new: Annotated[Path, typer.Argument(help="Another one")],
    key: Annotated[list[str], typer.Option(help="PEM file of the key that signed; again where they are two")],
    proof: Annotated[Path | None, typer.Option(help=WHICH_PROOF)] = None,
) -> None:
    """Hold two checkpoints of the log against each other offline; exits 1 unless they are of one history."""
    with usable():
        held = heads.compare(old, new, key, proof, say)
    if not held:
        sys.exit(1)


def say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


@contextmanager
def usable() -> Iterator[None]:
    """What was given and cannot be used ends in a sentence that names it."""
    try:
        yield
    except OSError as error:
        raise ServiceError(f"{error.filename} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ServiceError(f"{error}.") from None
