"""The comparison of trainings in words and tables: on the terminal, and as a section of the page of experiments."""

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.paper.gr import ALONG, NORMS, SETS

Line = list[str]
ALONG_HEADINGS = ("training", "epochs", "best epoch", "test accuracy", "seconds an epoch", "times plain loss")
NORM_HEADINGS = ("training", "samples", "5 %", "25 %", "50 %", "75 %", "95 %", "99 %", "mean", "CV")
FORMS = {"accuracy": ".3f", "seconds_per_epoch": ".2f", "times_plain": ".2f", "cv": ".2f"}
NAMES = {"seen": "training", "unseen": "unseen"}


def along_lines(record: dict[str, Any]) -> list[Line]:
    """What each training took and came to, one line each; a training that the number of epochs ended says so."""
    lines = []
    for regime in record["regimes"]:
        epochs, *others = (_figure(name, regime["along"][name]) for name in ALONG)
        lines.append([regime["name"], epochs + ("" if all(regime["stopped"]) else ", not stopped"), *others])
    return lines


def norm_lines(record: dict[str, Any]) -> list[Line]:
    """The distributions of gradient norms: two lines a training, its own samples first; means over seeds."""
    return [
        [regime["name"], NAMES[part], *(format(regime[part][k]["mean"], FORMS.get(k, ".3g")) for k in NORMS)]
        for regime in record["regimes"]
        for part in SETS
    ]


def show(console: Console, record: dict[str, Any], title: str) -> None:
    """Both tables, and why a training is in neither."""
    for headings, lines in ((ALONG_HEADINGS, along_lines(record)), (NORM_HEADINGS, norm_lines(record))):
        table = Table(*headings, title=title)
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for name, reason in record["missing"].items():
        console.print(f"{name} is not in the tables: {reason}")


def section(record: dict[str, Any]) -> str:
    """The section of one setting."""
    samples = record["settings"]["samples"]
    size = f" This run: {samples:,} training samples." if samples else ""
    return (
        f"### Trainings with and without GR on {record['setting']}\n\n"
        f"{_about(record)}{size} {_command(record)}\n\n"
        f"![Epochs to early stopping, and quantiles of gradient norms, of each training](results/{record['name']}.svg)\n\n"
        f"{_table(ALONG_HEADINGS, along_lines(record))}\n"
        "Norms of each sample's own gradient at the weights that were kept, of the loss without restriction, in eval mode;"
        " means over seeds. CV is the coefficient of variation.\n\n"
        f"{_table(NORM_HEADINGS, norm_lines(record))}\n{_verdict(record)}"
    )


def _about(record: dict[str, Any]) -> str:
    return (
        f"Every training stops after {record['patience']} epochs without a lower mean loss on tuning data, or after"
        f" {record['longest']} in all, and keeps the weights of the best one.{_rule(record)} GR per sample is the paper's"
        " formula; *on a quarter* takes it over a random quarter of each batch; *as released* restricts the norms of the"
        " batch's gradient instead, tensor by tensor. Clipping scales the batch's gradient down to that norm before the"
        " optimizer's step (Adam scales what it gets by its own measure again); SignSGD steps by the gradient's signs times"
        " the rate that is named, so its epochs depend on that rate. Unseen samples are the audit half of the holdout."
    )


def _rule(record: dict[str, Any]) -> str:
    """Where the numbers of the rule come from, if neither from the setting nor from the command line."""
    if record["stops_early"] or record["settings"]["patience"] is not None:
        return ""
    return (
        " The setting itself never stops early; its patience here is that of the released training script, which watches"
        " accuracy and counts anew at a tie."
    )


def _verdict(record: dict[str, Any]) -> str:
    """The paper's two claims, held against what was measured: plain loss against each of the others."""
    plain, *others = record["regimes"]
    gone = [f"{name} is not in the tables: {reason}" for name, reason in record["missing"].items()]
    stops = [f"{one['name']}: {one['along']['epochs']['mean']:.3g}" for one in (plain, *others)]
    median, last = ("; ".join(_ratio(one, plain, figure) for one in others) for figure in ("q50", "q99"))
    return "\n".join(
        [
            f"- Epochs (the paper: fewer with GR): {'; '.join(stops)}.",
            f"- Median norm on training samples over that of plain loss (the paper: small with GR alone): {median}.",
            f"- The 99 % quantile likewise: {last}.",
            *(f"- {reason}" for reason in gone),
            "",
        ]
    )


def _ratio(one: dict[str, Any], plain: dict[str, Any], figure: str) -> str:
    floor = plain["seen"][figure]["mean"]
    return f"{one['name']}: " + (f"{one['seen'][figure]['mean'] / floor:.2f}" if floor > 0 else "–")


def _command(record: dict[str, Any]) -> str:
    asked = record["settings"]
    given = [f"--setting {record['setting']}"]
    given += [f"--{k} {asked[k]}" for k in ("samples", "width", "epochs", "patience") if asked[k] is not None]
    given += [f"--{k} {' '.join(f'{value:g}' for value in asked[k])}" for k in ("clip", "rates")]
    given += [f"--alpha {asked['alpha']:g}", f"--seeds {' '.join(map(str, asked['seeds']))}"]
    return (
        f"`python -m benchmarks.paper gr {' '.join(given)}`; {asked['threads']} thread on {record['machine']['cpu']} (shared"
        " with other work: compare ratios rather than seconds)."
    )


def _figure(name: str, found: dict[str, float]) -> str:
    """Mean and range over seeds; the range is left out where the seeds agree."""
    low, mean, high = (format(found[key], FORMS.get(name, ".3g")) for key in ("low", "mean", "high"))
    return mean if low == high else f"{mean} ({low}–{high})"


def _table(headings: tuple[str, ...], lines: list[Line]) -> str:
    head = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"
