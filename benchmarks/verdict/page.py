"""Writes docs/qualification.md and its plots from the results that runs have left. `python -m benchmarks.verdict.page`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS
from benchmarks.verdict import cost, plot, tables
from benchmarks.verdict.judged import FEW, MIDDLE, MU, UES, parsed
from benchmarks.verdict.report import SOURCES, ordered

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE, PLOTS = DOCS / "qualification.md", DOCS / "results"
COMMANDS = {"verdict": "make bench-verdict FULL=1", "verdict-quick": "make bench-verdict"}
TITLES = {"verdict": "All settings", "verdict-quick": "The quick run"}
PICTURES = {"ue": "UE as estimated against its truth", "published": "the share published by number of samples"}
INTRODUCTION = f"""# Qualification of the verdict

The test of the test: verdicts on updates whose truth is known. Every forget set has retrains that never saw it, so the
true MU and UE of any update can be measured and held against what was estimated without them; and each of these retrains
is an update that ought to be published. This page is written from `benchmarks/results/verdict*.json`.

## What is judged

- *nothing* is the original itself; *another* is an original of another seed, which has learnt D_f as well. Neither
  should ever be published.
- *retrain* never saw D_f, and should be published.
- *iau* and *iau-calibrated* are the service's rungs as it runs them; *ten times* is the step of `iau`, ten times as long.

**Should not be published**: *nothing*, *another*, and each update but a retrain whose true UE or MU, a mean over retrains,
lies beyond the threshold. A verdict is told by unseen data alone, and by the bank of eight references. MU has the threshold
{MU:g} throughout, UE {MIDDLE:g} unless a table says another.

## How it is counted

A verdict is one update of one forget set of one original. Rates are claimed from {FEW} samples on. In brackets: the share,
and its Clopper-Pearson interval of 95 %. Verdicts on one set share its luck and those on one block share its retrains,
so these intervals are somewhat too narrow. Verdicts decide on intervals of 90 %, which leave 5 % on either side; coverage is
told of intervals of 95 %. All updates of a set are held against the same forecast, so for coverage *nothing* alone
counts: UE once for each set, original and retrain, MU once for each block, original and retrain. Of UE both are told: where
the verdict found no assumption of its estimator broken (elsewhere it does not publish), and everywhere. An aim that was
missed says so.
"""
FEWER = (
    f"Of fewer than {FEW} samples no rate of UE is claimed. Should not be published: *nothing*, *another*, and what costs"
    " accuracy beyond the threshold."
)


def page() -> str:
    """The whole page, from the results that are there."""
    return "\n".join([INTRODUCTION, *(_sections(record) for record in records().values())])


def plots() -> dict[str, str]:
    """The plots by file name, from the results that are there."""
    return {file: drawing for record in records().values() for file, drawing in _drawn(record).items()}


def records() -> dict[str, dict[str, Any]]:
    paths = {name: RESULTS / f"{name}.json" for name in COMMANDS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def _sections(record: Mapping[str, Any]) -> str:
    name, machine = record["name"], record["machine"]
    command = f"`{COMMANDS[name]}`"
    at = {ue: ordered(record["tables"][f"{ue:g}"], record["order"]) for ue in UES}
    found = at[MIDDLE]
    where = (
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['packages']['torch']}"
    )
    parts = [
        f"## {TITLES[name]}\n\n{command}, on {where}.\n\n{_settings(record)}",
        f"### What is published\n\n{command}\n\n{tables.published(found)}",
        _pictures(record),
        f"### Intervals\n\n{command}\n\n{tables.coverage(found)}",
        f"### Retrains by number of samples\n\n{command}. How many true retrains are published.\n\n{tables.retrains(found)}",
        f"### Ten times the step\n\n{command}\n\n{tables.ten_times(found)}{_diverged(record)}",
        f"### The service's own rungs\n\n{command}. From {FEW} samples on.\n\n{tables.rungs(found)}",
        f"### Few samples\n\n{command}. {FEWER}\n\n{tables.few(found)}",
        f"### Thresholds\n\n{command}. MU {MU:g}; from {FEW} samples on.\n\n{tables.thresholds(at)}",
        _curves(name),
        f"### Cost\n\n{command}. {_cost(record['cost'])}",
    ]
    return "\n".join(parts)


def _settings(record: Mapping[str, Any]) -> str:
    """What was run, and whether all of it was."""
    lines = []
    for setting in record["order"]:
        done, asked = record["cases"][setting]
        cases = f"{asked} cases" if done == asked else f"{done} of {asked} cases, **incomplete**"
        lines.append([setting, record["says"][setting], str(record["retrains"][setting]), cases])
    return tables.table(["setting", "what it is", "retrains of a block", "cases"], lines)


def _diverged(record: Mapping[str, Any]) -> str:
    count = sum(one.diverged for kept in record["verdicts"].values() for one in parsed(kept))
    if not count:
        return ""
    return f"\n{count} more lost all finite losses on the way: the service refuses these before any verdict.\n"


def _pictures(record: Mapping[str, Any]) -> str:
    drawn, name = _drawn(record), record["name"]
    said = {
        f"{name}-{kind}-{setting}.svg": f"{setting}: {words}"
        for setting in record["order"]
        for kind, words in PICTURES.items()
    }
    return "\n".join(f"![{words}](results/{file})\n" for file, words in said.items() if file in drawn)


def _drawn(record: Mapping[str, Any]) -> dict[str, str]:
    kept = record["verdicts"]
    return plot.plots(record["name"], {name: parsed(kept[name]) for name in record["order"] if name in kept})


def _curves(name: str) -> str:
    return "\n".join(
        f"![Retrains published against the threshold, {plot.HEADINGS[source]}](results/{name}-thresholds-{source}.svg)\n"
        for source in SOURCES
    )


def _cost(found: dict[str, Any] | None) -> str:
    if found is None:
        return "Not measured in this run.\n"
    seconds, attack = cost.rows(found)
    missed = "" if seconds.met else ", **missed**"
    return (
        f"On {found['setting']}, {found['n']} samples, a verdict with the bank takes {seconds.figure}; bare forward passes of"
        f" the updated model over D_f, holdout and test and of the parent over D_f, in turns with it, {seconds.floor}:"
        f" {seconds.ratio:.2f} times ({seconds.spread}; aim at most {cost.AIM:g}{missed}). An attack that calls every sample a"
        f" member is called {attack.figure}{'' if attack.met else ', **missed**'}.\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
    for file, drawing in plots().items():
        (PLOTS / file).write_text(drawing)
