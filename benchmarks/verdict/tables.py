"""The tables of docs/qualification.md."""

from collections.abc import Callable, Mapping

from benchmarks.verdict.judged import MIDDLE, SAYS, UES
from benchmarks.verdict.report import ALL, DESIGN, IDLE_FROM, RUNGS, Figures, aim_of, clopper_pearson, met, spelt

CALLED = {"holdout": "unseen data", "bank": "bank"}
Tables = Mapping[str, Mapping[str, Figures]]


def published(tables: Tables) -> str:
    def cells(setting: str, found: Figures) -> list[str]:
        at_design = found["retrain"].get(DESIGN, (0, 0))
        return [
            cell(found["wrong"], aim_of(setting, "wrong")),
            cell(found["nothing"], aim_of(setting, "nothing")),
            cell(at_design, aim_of(setting, f"retrain {DESIGN}")),
            cell(found["power"]),
        ]

    heads = [
        f"should not be: published (aim at most {aim_of(ALL, 'wrong')[0]:.0%})",  # type: ignore[index]  # it has one
        f"doing nothing, {IDLE_FROM} samples or more: published (aim none where memorisation is strong, else at most 5 %)",
        "retrains, 5 %: published (aim at least 80 %)",
        "membership detectable before",
    ]
    return by_source(tables, heads, cells)


def coverage(tables: Tables) -> str:
    def cells(setting: str, found: Figures) -> list[str]:
        return [cell(found["coverage"][key], aim_of(setting, f"coverage {key}")) for key in ("ue", "all ue", "mu")]

    what = ("UE, where no assumption was found broken", "UE, everywhere", "MU")
    heads = [f"{key}: a retrain within the interval of 95 % (aim at least 93 %)" for key in what]
    return by_source(tables, heads, cells)


def retrains(tables: Tables) -> str:
    every = list(
        dict.fromkeys(size for each in tables.values() for found in each.values() for size in found["retrain"])
    )
    every.sort(
        key=lambda size: (size.startswith("class"), size.endswith("%"), int(size.rpartition(" ")[2].rstrip("%")))
    )

    def cells(setting: str, found: Figures) -> list[str]:
        shown = [cell(found["retrain"].get(size, (0, 0)), aim_of(setting, f"retrain {size}")) for size in every]
        return [*shown, said(found["held_back"])]

    return by_source(tables, [*(spelt(size) for size in every), "else the first reason was"], cells)


def ten_times(tables: Tables) -> str:
    def cells(_: str, found: Figures) -> list[str]:
        return [cell(found["ten_times"][key]) for key in ("wrong", "published", "escalated", "over")]

    heads = ["of those that should not be: published", "published", "escalated", "over-forgetting named"]
    return by_source(tables, heads, cells)


def rungs(tables: Tables) -> str:
    names = ("published", "inconclusive", "escalated", "right")
    heads = ["rung", "published", "inconclusive", "escalated", "of those published, within the thresholds in truth"]
    lines = [
        [setting, CALLED[source], arm, *(cell(found["rungs"][arm][key]) for key in names)]
        for setting, each in tables.items()
        for source, found in each.items()
        for arm in RUNGS
    ]
    return table(["setting", "by", *heads], lines)


def few(tables: Tables) -> str:
    def cells(setting: str, found: Figures) -> list[str]:
        few = found["few"]
        return [cell(few["published"]), cell(few["wrong"], aim_of(setting, "few wrong")), said(few["said"])]

    heads = ["published", "should not be: published (aim none)", "else the first reason was"]
    return by_source(tables, heads, cells)


def thresholds(tables: Mapping[float, Tables]) -> str:
    lines = [
        [setting, CALLED[source], f"{ue:g}", *_at(tables[ue][setting][source])]
        for setting, each in tables[MIDDLE].items()
        for source in each
        for ue in UES
    ]
    heads = ["should not be: published", "doing nothing: published", "retrains, 5 %", "retrains, fewer"]
    return table(["setting", "by", "UE within", *heads, *(f"{arm}: published" for arm in RUNGS)], lines)


def _at(found: Figures) -> list[str]:
    fewer = [each for size, each in found["retrain"].items() if size != DESIGN]
    counts = [
        found["wrong"],
        found["nothing"],
        found["retrain"].get(DESIGN, (0, 0)),
        (sum(k for k, _ in fewer), sum(n for _, n in fewer)),
        *(found["rungs"][arm]["published"] for arm in RUNGS),
    ]
    return [f"{k} of {n}" if n else "–" for k, n in counts]


def said(counts: Mapping[str, int]) -> str:
    """Reasons, the most frequent first."""
    often = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{SAYS.get(why, why)}: {times}" for why, times in often) or "–"


def by_source(tables: Tables, heads: list[str], cells: Callable[[str, Figures], list[str]]) -> str:
    lines = [
        [setting, CALLED[source], *cells(setting, found)]
        for setting, each in tables.items()
        for source, found in each.items()
    ]
    return table(["setting", "by", *heads], lines)


def table(heads: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines]) + "\n"


def cell(found: list[int] | tuple[int, int], aim: tuple[float, bool] | None = None) -> str:
    k, n = found
    if n == 0:
        return "–"
    low, high = clopper_pearson((k, n))
    missed = "" if met((k, n), aim) else ", **missed**"
    return f"{k} of {n} ({k / n:.2f}; {low:.2f}–{high:.2f}){missed}"
