"""What the command `hyper` found, as tables and plots."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.paper import svg
from benchmarks.paper.hyper import DRAWN, OVER, SEARCHED, Over
from benchmarks.paper.report import HEADINGS, figure

HEADS: dict[Over, str] = {
    "eta": "step, times its own",
    "alpha": "alpha of GR",
    "ratio": "samples to forget",
}
TEXTS: dict[Over, str] = {
    "eta": (
        "`iau` takes a fixed eta: the one its search on tuning data finds, times the factor (found: {searched}); ×1 is that"
        " very step without what the search costs. `iau-released` takes its authors' learning rate {released:g}, times the"
        " factor. The other rows have no such step and hold for all factors."
    ),
    "alpha": "Trained with GR per sample, each weight against retrains that were trained in the same way.",
    "ratio": (
        "The larger forget sets hold the smaller ones; each size against retrains of its own. Figures about one sample or ten"
        " are coarse: read them beside their own noise floor."
    ),
}
PANELS = ("mu", "ue_threshold", "ks")


def lines(part: Mapping[str, Any]) -> list[list[str]]:
    """One line a row and value: flat rows first, then the curves, value by value."""
    found = [[_name(name), "all", *_shown(row)] for name, row in sorted(part["flat"].items(), key=_order)]
    for name, row in sorted(part["curves"].items(), key=_order):
        for number, value in enumerate(part["x"]):
            found.append([_name(name), value, *_shown({key: row[key][number] for key in DRAWN})])
    return found


def show(console: Console, record: Mapping[str, Any], title: str) -> None:
    """Print a table for each thing that was varied."""
    for over, part in _parts(record):
        table = Table("method", HEADS[over], *(HEADINGS[key] for key in DRAWN), title=title)
        for line in lines(part):
            table.add_row(*line)
        console.print(table)


def section(record: Mapping[str, Any], place: str, command: str) -> str:
    """The page's section; `place` names the setting, `command` says how it was run."""
    text = f"### Settings of the update on {place}\n\n{command}\n"
    for over, part in _parts(record):
        said = TEXTS[over]
        if over == "eta":
            found = ", ".join("diverged" if eta is None else f"{eta:.3g}" for eta in part["searched"])
            said = said.format(searched=found, released=part["released"])
        heads = ["method", HEADS[over], *(HEADINGS[key] for key in DRAWN)]
        rows = ["| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines(part)]]
        text += f"\n**Over {over}.** {said}\n\n![MU, UE and KS over {over}](results/{record['name']}-{over}.svg)\n\n"
        text += "\n".join(rows) + "\n"
    return text


def plots(record: Mapping[str, Any], place: str) -> dict[str, str]:
    """A drawing for each thing that was varied, by file name."""
    return {f"{record['name']}-{over}.svg": _drawn(over, part, place) for over, part in _parts(record)}


def _drawn(over: Over, part: Mapping[str, Any], place: str) -> str:
    def panel(key: str) -> svg.Lines:
        level = {name: row for name, row in part["flat"].items() if name != SEARCHED}  # the curve of iau has it at ×1
        flat = {name: [_mean(row[key])] * len(part["x"]) for name, row in level.items()}
        curves = {name: [_mean(value) for value in row[key]] for name, row in part["curves"].items()}
        chains = {_short(name): values for name, values in sorted((flat | curves).items(), key=_order)}
        return svg.Lines(HEADINGS[key], chains, part["x"])

    note = "Distance to the retrains, mean over seeds; lower is better. A gap: the method diverged."
    return svg.lines(f"{place}, by {HEADS[over]}", note, [panel(key) for key in PANELS])


def _parts(record: Mapping[str, Any]) -> list[tuple[Over, Mapping[str, Any]]]:
    return [(over, record["over"][over]) for over in OVER if over in record["over"]]


def _order(named: tuple[str, Any]) -> int:
    """The colours go by place: nothing, retrains, iau, iau-calibrated, and the rows that a table of eta adds."""
    order = ("nothing", "retrain", "iau", "iau-calibrated", "iau-released", SEARCHED)
    return order.index(named[0])


def _mean(value: Mapping[str, float] | None) -> float | None:
    return None if value is None else value["mean"]


def _name(name: str) -> str:
    return "retrain against retrain" if name == "retrain" else name


def _short(name: str) -> str:
    return "retrains" if name == "retrain" else name


def _shown(row: Mapping[str, Mapping[str, float] | None]) -> list[str]:
    return ["diverged" if (value := row[key]) is None else figure(key, dict(value)) for key in DRAWN]
