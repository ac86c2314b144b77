"""The command line: `python -m benchmarks.verdict --mode full --jobs 2`; `make bench-verdict`."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.paper.__main__ import progress
from benchmarks.paper.cells import engine_digest
from benchmarks.results import Row, finish
from benchmarks.verdict import cost, report
from benchmarks.verdict.cases import SETTINGS, Setting, settings_named
from benchmarks.verdict.judged import MU, Judged, judged, lines
from benchmarks.verdict.run import COVER, DECIDE, cases, rows_folder, run
from benchmarks.verdict.zoo import CACHE, wanted

NAMES = {"quick": "verdict-quick", "full": "verdict"}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.verdict", description=__doc__)
    made.add_argument(
        "--mode", choices=list(SETTINGS), default="quick", help="quick: minutes; full: hours the first time"
    )
    made.add_argument("--setting", nargs="+", help="run these of the mode alone; the report is of all that are there")
    made.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that train and judge")
    made.add_argument("--cache", type=Path, default=CACHE, help="where models and finished cases are kept")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--only-run", action="store_true", help="fill the cache and write no results")
    which.add_argument(
        "--report", action="store_true", help="run nothing: report what this engine has left in the cache"
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    torch.set_num_threads(1)
    for setting in [] if options.report else settings_named(options.mode, options.setting):
        fill(setting, options.cache, options.jobs)
    if options.only_run:
        return 0
    every = SETTINGS[options.mode]
    found, there = gathered(every, options.cache)
    if not found:
        raise ValueError(f"no case of {options.mode} mode has been judged with this engine: run it without --report")
    measured = not options.report or cost.path_of(every[0], options.cache).exists()
    costs = cost.cost(every[0], options.cache) if measured else None
    rows, more = record(every, found, there, costs)
    facts = {"mode": options.mode, "mu": MU, "level": DECIDE, "coverage_level": COVER, "engine_sha256": engine_digest()}
    return finish(NAMES[options.mode], rows, facts, more)


def fill(setting: Setting, cache: Path, jobs: int) -> None:
    with progress() as bar:
        task = bar.add_task(setting.name, total=len(list(wanted(setting))) + len(cases(setting)))
        run(setting, lambda name: bar.update(task, advance=1, description=f"{setting.name}: {name}"), cache, jobs)


def gathered(settings: tuple[Setting, ...], cache: Path) -> tuple[dict[str, list[Judged]], dict[str, list[int]]]:
    """The verdicts of all cases that are there, by setting, and how many of how many are."""
    found: dict[str, list[Judged]] = {}
    there = {}
    for setting in settings:
        asked, folder = cases(setting), rows_folder(setting, cache)
        paths = [path for path in (folder / f"{case.name}.json" for case in asked) if path.exists()]
        there[setting.name] = [len(paths), len(asked)]
        if paths:
            found[setting.name] = [judged(row) for path in paths for row in json.loads(path.read_text())]
    return found, there


def record(
    settings: tuple[Setting, ...],
    found: dict[str, list[Judged]],
    there: dict[str, list[int]],
    costs: dict[str, Any] | None,
) -> tuple[list[Row], dict[str, Any]]:
    """The rows, and what else is kept: out of it page and plots are made."""
    tables = report.by_threshold(found)
    rows = [*report.rows(report.middle(tables)), *(cost.rows(costs) if costs else [])]
    return rows, {
        "order": [setting.name for setting in settings],
        "tables": tables,
        "cases": there,
        "says": {setting.name: setting.says for setting in settings},
        "retrains": {setting.name: setting.retrains for setting in settings},
        "cost": costs,
        "verdicts": {name: lines(each) for name, each in found.items()},
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        Console(stderr=True).print(str(error), markup=False)
        sys.exit(2)
