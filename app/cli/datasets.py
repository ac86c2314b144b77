"""`expunge datasets`: manifests, from a file or from an installed problem, streamed to the service."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import pyarrow.csv
import typer
from rich.table import Column, Table
from rich.text import Text

from app import manifests
from app.cli.console import api, console
from app.errors import ServiceError
from expunge.models import DatasetView

app = typer.Typer(no_args_is_help=True)
CHUNK = 2**20


@app.command()
def load(
    name: Annotated[str, typer.Argument(help="What the dataset is to be called")],
    file: Annotated[
        Path | None, typer.Option(help="A .csv or .parquet file with a column id and, where known, subject")
    ] = None,
    problem: Annotated[
        str | None, typer.Option(help="Or an installed problem: its training samples, in its own order")
    ] = None,
) -> None:
    """Load a manifest: which samples there are and whose they are. The samples themselves stay where they are."""
    if (file is None) == (problem is None):
        raise typer.BadParameter("give either --file or --problem")
    with console.status(Text(f"loading {name} ...")):
        made = api().datasets.load(name, from_problem(problem) if problem else from_file(file or Path()))
    told = f"{made.name}: {made.samples} samples of {subjects(made)} subjects, manifest {made.manifest_sha256}"
    console.print(told, soft_wrap=True)


def from_file(path: Path) -> Path | Iterator[bytes]:
    """A CSV file as it is; a Parquet file a block at a time as CSV. Both are looked at before anything is sent."""
    if not path.is_file():
        raise ServiceError(f"There is no file {path}.")
    try:
        opened = path.open("rb")
    except OSError as error:
        raise ServiceError(f"{path} cannot be read: {error.strerror}.") from None
    if path.suffix.lower() == ".parquet":
        return parquet_as_csv(opened)
    opened.close()
    return path


def parquet_as_csv(opened: IO[bytes]) -> Iterator[bytes]:
    """Parquet blocks rendered as CSV, the header once."""
    with opened as source:
        yield b"id,subject\n"
        for block in manifests.blocks_from_parquet(source):
            sink = pyarrow.BufferOutputStream()
            pyarrow.csv.write_csv(block, sink, pyarrow.csv.WriteOptions(include_header=False))
            yield sink.getvalue().to_pybytes()


def from_problem(problem: str) -> Iterator[bytes]:
    """The training samples of an installed problem, from a process of its own: this one stays without torch."""
    command = [sys.executable, "-m", "workers.problems", "manifest", problem]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        while chunk := child.stdout.read(CHUNK):
            yield chunk
        complaint = child.stderr.read().decode().strip()
    if child.returncode:
        raise ServiceError(complaint.splitlines()[-1] if complaint else f"Problem {problem!r} gave no manifest.")


def subjects(dataset: DatasetView) -> str:
    """How many there are; an estimate says that it is one."""
    return f"about {dataset.subjects}" if dataset.subjects_estimated else str(dataset.subjects)


@app.command("list")
def listing() -> None:
    """The manifests that are loaded."""
    table = Table("name", "samples", "subjects", Column("manifest (SHA-256)", overflow="fold"))
    for row in api().datasets.all():
        table.add_row(row.name, str(row.samples), subjects(row), row.manifest_sha256)
    console.print(table)
