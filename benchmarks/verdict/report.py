"""What the verdicts come to: counts by setting and source, the aims they are held against, and the record that is kept.

A count is a pair: how many, of how many. Rows of one forget set share its luck, and those of one block its retrains', so
the Clopper-Pearson intervals, which take them for independent, are somewhat too narrow.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from scipy.stats import beta  # type: ignore[import-untyped]  # has no stubs

from benchmarks.results import Row
from benchmarks.verdict.judged import FEW, MIDDLE, UES, Judged

Count = tuple[int, int]
Figures = dict[str, Any]
SOURCES = ("holdout", "bank")
RUNGS = ("iau", "iau-calibrated")
STRONG = "lenet-fashion-10k"
"""Where memorisation is so strong that a verdict must never take doing nothing for forgetting."""
DESIGN = "5%"
IDLE_FROM = 100  # samples from which doing nothing is held against an aim
ALL = "all settings"
POOLED = ("wrong", "coverage ue", "coverage all ue", "coverage mu")


def count(found: Iterable[Judged], holds: Callable[[Judged], bool]) -> Count:
    asked = [holds(one) for one in found]
    return sum(asked), len(asked)


def figures(found: list[Judged], ue: float) -> Figures:
    """All counts of one setting and source at a threshold of UE."""

    def published(one: Judged) -> bool:
        return one.published(ue)

    rated = [one for one in found if one.n >= FEW]
    retrains = [one for one in rated if one.retrain]
    return {
        "wrong": count((one for one in rated if one.wrong_to_publish(ue)), published),
        "nothing": count((one for one in rated if one.idle and one.n >= IDLE_FROM), published),
        "retrain": {size: count((one for one in retrains if one.size == size), published) for size in sizes(rated)},
        "held_back": said(one for one in retrains if not published(one)),
        "ten_times": _ten_times([one for one in rated if one.arm == "ten-times"], ue),
        "coverage": coverage(found),
        "power": count((one for one in rated if one.arm == "nothing"), lambda one: one.detectable),
        "few": _few([one for one in found if one.n < FEW], ue),
        "rungs": {arm: _rung([one for one in rated if one.arm == arm], ue) for arm in RUNGS},
    }


def said(found: Iterable[Judged]) -> dict[str, int]:
    """How often which word is the first reason, at the threshold in the middle."""
    return dict(Counter(one.why for one in found))


def sizes(found: Iterable[Judged]) -> list[str]:
    """How much is forgotten, the smallest first, and last what is of one class."""
    most: dict[str, int] = {}
    for one in found:
        most[one.size] = max(most.get(one.size, 0), one.n)
    return sorted(most, key=lambda size: (size.startswith("class"), most[size]))


def coverage(found: Iterable[Judged]) -> dict[str, Count]:
    """How often the truth of one retrain lies in the interval of 95 %.

    All arms of a set are held against one forecast and share its error, so the arm `nothing` alone is counted: for UE once
    a set of at least 50 samples, original and retrain; for MU, which does not depend on the set, once a block, original
    and retrain. UE where the verdict found no assumption of its estimator broken (`ue`), and everywhere (`all ue`).
    """
    alone = [one for one in found if one.arm == "nothing"]
    held = [(one, one.ue_95[0] <= true <= one.ue_95[1]) for one in alone if one.n >= FEW for true in one.true_ue]
    ue, every = [inside for one, inside in held if one.sound], [inside for _, inside in held]
    whole = [one for one in alone if one.set.endswith("-all")]
    mu = [one.mu_95[0] <= true <= one.mu_95[1] for one in whole for true in one.true_mu]
    return {"ue": (sum(ue), len(ue)), "mu": (sum(mu), len(mu)), "all ue": (sum(every), len(every))}


def _ten_times(found: list[Judged], ue: float) -> dict[str, Count]:
    return {
        "escalated": count(found, lambda one: one.decision(ue) == "e"),
        "over": count(found, lambda one: one.over),
        "published": count(found, lambda one: one.published(ue)),
        "wrong": count((one for one in found if one.wrong_to_publish(ue)), lambda one: one.published(ue)),
    }


def _few(found: list[Judged], ue: float) -> dict[str, Any]:
    """Fewer samples than a rate is claimed of. Wrong is to publish what did nothing, or what cost accuracy."""
    wrong = [one for one in found if one.idle or not (one.accurate or one.retrain)]
    return {
        "published": count(found, lambda one: one.published(ue)),
        "wrong": count(wrong, lambda one: one.published(ue)),
        "said": said(one for one in found if not one.published(ue)),
    }


def _rung(found: list[Judged], ue: float) -> dict[str, Count]:
    counts = {
        name: count(found, lambda one, letter=name[0]: one.decision(ue) == letter)  # type: ignore[misc]  # bound early
        for name in ("published", "escalated", "inconclusive")
    }
    return counts | {"right": count((one for one in found if one.published(ue)), lambda one: one.within(ue))}


def aim_of(setting: str, key: str) -> tuple[float, bool] | None:
    """The aim of a count, and whether it bounds from above. All settings together have few."""
    aims = {
        "wrong": (0.05, True),
        "nothing": (0.0 if setting == STRONG else 0.05, True),
        f"retrain {DESIGN}": (0.80, False),
        "coverage ue": (0.93, False),
        "coverage all ue": (0.93, False),
        "coverage mu": (0.93, False),
        "few wrong": (0.0, True),
    }
    return aims.get(key) if setting != ALL or key in POOLED else None


def met(found: Count, aim: tuple[float, bool] | None) -> bool:
    if aim is None or found[1] == 0:
        return True
    share, (value, at_most) = found[0] / found[1], aim
    return share <= value if at_most else share >= value


def clopper_pearson(found: Count, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share; Clopper and Pearson 1934.

    Raises:
        ValueError: of none, or more than there are.
    """
    k, n = found
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"{k} of {n} is no share")
    low = float(beta.ppf((1 - level) / 2, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf((1 + level) / 2, k + 1, n - k)) if k < n else 1.0
    return low, high


def counted(found: Figures) -> Iterator[tuple[str, str, Count]]:
    """The counts that a table shows, by key: what each says."""
    yield "wrong", "published, of updates that should not be", found["wrong"]
    yield "nothing", f"published, of doing nothing, {IDLE_FROM} samples or more", found["nothing"]
    for size, each in found["retrain"].items():
        yield f"retrain {size}", f"published, of retrains, {spelt(size)}", each
    within = "UE of a retrain within its interval of 95 %"
    yield "coverage ue", f"{within}, where no assumption was found broken", found["coverage"]["ue"]
    yield "coverage all ue", f"{within}, everywhere", found["coverage"]["all ue"]
    yield "coverage mu", "MU of a retrain within its interval of 95 %", found["coverage"]["mu"]
    yield "power", f"membership detectable before, {FEW} samples or more", found["power"]
    yield "few wrong", f"published, of what should not be, fewer than {FEW} samples", found["few"]["wrong"]
    yield "ten-times", "ten times the step: escalated", found["ten_times"]["escalated"]
    yield "ten-times over", "ten times the step: over-forgetting named", found["ten_times"]["over"]
    for arm, each in found["rungs"].items():
        yield arm, f"{arm}: published", each["published"]
        yield f"{arm} right", f"{arm}: of these, within the thresholds in truth", each["right"]


def rows(tables: Mapping[str, Mapping[str, Figures]]) -> list[Row]:
    """Every count as a share, with its aim where it has one."""
    made = []
    for setting, by_source in tables.items():
        for source, found in by_source.items():
            for key, says, each in counted(found):
                if each[1] and (setting != ALL or key in POOLED):
                    low, high = clopper_pearson(each)
                    aim = aim_of(setting, key)
                    value, at_most = aim if aim is not None else (None, False)
                    name, spread = f"{setting}, {source}: {says}", f"{low:.2f}–{high:.2f}"
                    made.append(Row(name, f"{each[0]} of {each[1]}", "–", each[0] / each[1], value, at_most, spread))
    return made


def tabled(points: Mapping[str, list[Judged]], ue: float) -> dict[str, dict[str, Figures]]:
    """Figures by setting and source, and of all settings together."""
    whole = dict(points) | {ALL: [one for found in points.values() for one in found]} if len(points) > 1 else points
    return {
        setting: {source: figures([one for one in found if one.source == source], ue) for source in SOURCES}
        for setting, found in whole.items()
    }


def ordered(tables: Mapping[str, Mapping[str, Figures]], order: Iterable[str]) -> dict[str, dict[str, Figures]]:
    """As `tabled` gave them: JSON keeps no order."""
    return {
        setting: {source: tables[setting][source] for source in SOURCES}
        for setting in (*order, ALL)
        if setting in tables
    }


def by_threshold(points: Mapping[str, list[Judged]]) -> dict[str, dict[str, dict[str, Figures]]]:
    """`tabled` at each threshold of UE; what does not depend on it stands in each."""
    return {f"{ue:g}": tabled(points, ue) for ue in UES}


def middle(tables: Mapping[str, Any]) -> dict[str, dict[str, Figures]]:
    found: dict[str, dict[str, Figures]] = tables[f"{MIDDLE:g}"]
    return found


def spelt(size: str) -> str:
    """As a heading says it."""
    kind, _, label = size.rpartition(" ")
    amount = f"{label.rstrip('%')} %" if label.endswith("%") else f"{label} samples"
    return f"{amount} of one class" if kind else amount
