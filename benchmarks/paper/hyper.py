"""How an update answers to its settings: the step eta, the weight alpha of the restriction, how much is forgotten."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from typing_extensions import override

from benchmarks.paper.case import Case
from benchmarks.paper.figures import against, retrain_against_retrain, spread
from benchmarks.paper.forget import ForgetKind
from benchmarks.paper.table import Cell, run_trial
from benchmarks.paper.tuning import Trial
from benchmarks.problems import OutlierProblem
from unlearning.methods.iau import IauReleased
from unlearning.methods.nothing import Nothing
from unlearning.methods.registry import make
from unlearning.problem import Problem

Over = Literal["eta", "alpha", "ratio"]
OVER: tuple[Over, ...] = get_args(Over)
DRAWN = ("mu", "ue_threshold", "ks", "auc", "seconds")
METHODS = ("iau", "iau-calibrated")
SEARCHED = "iau, eta searched"
FACTORS = (0.1, 10**-0.5, 1.0, 10**0.5, 10.0)
ALPHAS = (0.0, 0.001, 0.005, 0.02)
COUNTS = (1, 10)
RATIOS = (0.001, 0.01, 0.05, 0.2)

Rows = dict[str, dict[str, float] | None]  # figures by row; None where the method diverged


@dataclass(frozen=True)
class FixedStep(Trial):
    """iau with an eta that is given: `factor` times the one that its search found for this case."""

    @property
    @override
    def label(self) -> str:
        return f"{self.method.name}-fixed-x{self.factor:.3g}"


def counts_of(samples: int) -> list[int]:
    """How many samples are forgotten, ascending: 1, 10, and 0.1, 1, 5 and 20 % of the training set, each once."""
    wanted = {*COUNTS, *(round(ratio * samples) for ratio in RATIOS)}
    return sorted(count for count in wanted if 0 < count < samples)


def cells_of(over: Sequence[Over], samples: int, ratio: float, retrains: int) -> int:
    """How many cells the cases of one seed have."""
    each = 1 + retrains + len(METHODS)  # nothing, the retrains, the methods
    others = [count for count in counts_of(samples) if count / samples != ratio]
    shared = len(others) < len(counts_of(samples)) or "eta" in over or "alpha" in over
    total = 2 + (each if shared else 0)  # the original and the attack serve all sizes
    total += 2 * len(FACTORS) if "eta" in over else 0
    total += (2 + each) * (len(ALPHAS) - 1) if "alpha" in over else 0
    return total + (each * len(others) if "ratio" in over else 0)


def check(over: Sequence[Over], problem: Problem, kind: ForgetKind) -> None:
    """Refuse what cannot be varied.

    Raises:
        ValueError: forget sets of many sizes where they are not drawn at random.
    """
    if "ratio" in over and (kind != "random" or isinstance(problem, OutlierProblem)):
        raise ValueError(
            "--over ratio draws its forget sets at random: use --over eta alpha for forget sets of other kinds"
        )


def run(
    over: Sequence[Over],
    plain: Sequence[Case],
    trained: Callable[[float], Sequence[Case]],
    sized: Callable[[int], Sequence[Case]],
) -> dict[str, Any]:
    """For each of `over`, the figures of every row at every value, mean and range over seeds.

    Everything is held against retrains of its own: `trained` gives the cases of a training with restriction alpha,
    `sized` those that forget so many samples, both one case a seed as in `plain`.
    """
    found: dict[str, Any] = {}
    if "eta" in over:
        found["eta"] = _over_eta(plain)
    if "alpha" in over:
        rows = [[_rows(case, METHODS) for case in trained(alpha)] for alpha in ALPHAS]
        found["alpha"] = {"x": [f"{alpha:g}" for alpha in ALPHAS], "curves": _curves(rows), "flat": {}}
    if "ratio" in over:
        counts = counts_of(len(plain[0].problem.train))
        rows = [[_rows(case, METHODS) for case in sized(count)] for count in counts]
        found["ratio"] = {"x": [f"{count:,}" for count in counts], "curves": _curves(rows), "flat": {}}
    return {"over": found}


def _over_eta(cases: Sequence[Case]) -> dict[str, Any]:
    """iau by fixed steps around the one its search finds, and iau-released around its authors' step.

    What does not depend on the step is `flat`; `searched` is the eta of iau's own search, seed by seed.
    """
    searched = [run_trial(case, Trial(make("iau"), "", 1.0)) for case in cases]
    etas = [None if "diverged" in cell else float(cell["eta"]) for cell in searched]
    curves = _curves([[_stepped(case, eta, f) for case, eta in zip(cases, etas, strict=True)] for f in FACTORS])
    flat = _curves([[_rows(case, METHODS) for case in cases]])
    named = {"iau": SEARCHED}
    return {
        "x": [f"×{factor:.2g}" for factor in FACTORS],
        "curves": curves,
        "flat": {named.get(name, name): {f: values[0] for f, values in row.items()} for name, row in flat.items()},
        "searched": etas,
        "released": IauReleased().eta,
    }


def _stepped(case: Case, eta: float | None, factor: float) -> Rows:
    """One seed's figures with both steps multiplied by a factor."""
    released = Trial(make("iau-released", eta=IauReleased().eta * factor), "eta", factor)
    rows: Rows = {"iau": None, "iau-released": _figures(case, run_trial(case, released))}
    if eta is not None:
        rows["iau"] = _figures(case, run_trial(case, FixedStep(make("iau", eta=eta * factor), "eta", factor)))
    return rows


def _rows(case: Case, methods: Sequence[str]) -> Rows:
    """One seed's figures: the two that bound the scale, and the methods as they come."""
    rows: Rows = {
        "nothing": _figures(case, run_trial(case, Trial(Nothing(), "", 1.0))),
        "retrain": retrain_against_retrain(case.retrains),
    }
    return rows | {name: _figures(case, run_trial(case, Trial(make(name), "", 1.0))) for name in methods}


def _figures(case: Case, cell: Cell) -> dict[str, float] | None:
    return None if "diverged" in cell else against(cell, case.retrains)


def _curves(by_value: Sequence[Sequence[Rows]]) -> dict[str, dict[str, list[Mapping[str, float] | None]]]:
    """From figures by value, seed and row to spreads by row, figure and value; None where any seed diverged."""

    def point(seeds: Sequence[Rows], name: str, figure: str) -> Mapping[str, float] | None:
        values = [figures[figure] for rows in seeds if (figures := rows[name]) is not None]
        return spread(values) if len(values) == len(seeds) else None

    return {
        name: {figure: [point(seeds, name, figure) for seeds in by_value] for figure in DRAWN}
        for name in by_value[0][0]
    }
