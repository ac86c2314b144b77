"""A row put before the policy, and what the report keeps of it: one line of text, out of which all figures can be made again."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from statistics import mean
from typing import Any

from app.policy import Judgement, PolicyBody, Statistics, Thresholds, assumption, has_rate, informative, judge
from app.tables import Decision
from benchmarks.verdict.arms import IDLE, TRUE

MU = 0.03
UES = (0.05, 0.10, 0.15)
MIDDLE = 0.10
"""The threshold of UE at which the aims are told."""
FEW = 50
WHY = {
    "is not finite": "not-finite",
    "was not detectable before": "undetectable",
    "cannot be told from doing nothing": "like-nothing",
    "too few calls to tell it": "like-nothing",
    "surely more than half": "half-left",
    "more than half is left": "half-left",
    "stand out one by one": "stands-out",
    "over-forgetting": "over-forgotten",
    "no fair draw": "no-fair-draw",
    "of what is like them": "kin",
    "UE [": "ue",
    "MU [": "mu",
    "worst class": "worst-class",
    "since the last training": "mu",
}
"""What a reason says, in a word; the first that fits."""
SAYS = {
    "publish": "published",
    "not-finite": "a figure that is no number",
    "undetectable": "membership was not detectable before",
    "like-nothing": "not to be told from doing nothing",
    "half-left": "more than half is left",
    "stands-out": "samples stand out one by one",
    "over-forgotten": "over-forgetting",
    "no-fair-draw": "no fair draw",
    "kin": "most of their kind goes with them",
    "ue": "UE not surely within",
    "mu": "MU not surely within",
    "worst-class": "a class pays",
}


@dataclass(frozen=True)
class Judged:
    """One update of one forget set, judged from one source.

    `decisions` are the verdicts at `UES`, by their first letters. `least` is the smallest threshold of UE at which
    the update is published, 0 where UE is of too few samples to be asked, None where it never is. `why` and `over`
    (a reason names over-forgetting) are of the verdict at `MIDDLE`; `sound` says that no assumption of the
    estimator was found broken. `low` and `high` are the bounds that decide, at 90 %; those of 95 % are what
    coverage is told of. A diverged update has no source and no figures.
    """

    set: str
    original: int
    arm: str
    source: str
    n: int
    label: str
    decisions: str
    why: str
    over: bool
    detectable: bool
    sound: bool
    least: float | None
    ue: float
    low: float
    high: float
    ue_95: tuple[float, ...]
    mu_95: tuple[float, ...]
    true_ue: tuple[float, ...]
    true_mu: tuple[float, ...]

    @property
    def block(self) -> str:
        """The superset that the retrains left out: kind, share, number."""
        return "-".join(self.set.split("-")[:3])

    @property
    def size(self) -> str:
        """How much is forgotten, and of what where that is one class."""
        return f"class {self.label}" if self.set.startswith("class-") else self.label

    @property
    def diverged(self) -> bool:
        return self.source == "none"

    @property
    def retrain(self) -> bool:
        return self.arm.startswith(TRUE)

    @property
    def idle(self) -> bool:
        return self.arm in IDLE

    def decision(self, ue: float) -> str:
        return self.decisions[UES.index(ue)]

    def published(self, ue: float) -> bool:
        return self.decision(ue) == "p"

    @property
    def accurate(self) -> bool:
        return abs(mean(self.true_mu)) <= MU

    def within(self, ue: float) -> bool:
        """Whether the truth, a mean over retrains, lies within the thresholds. Doing nothing is never right."""
        return not self.idle and self.accurate and abs(mean(self.true_ue)) <= ue

    def wrong_to_publish(self, ue: float) -> bool:
        """A retrain never is, however far another lies from it: it never saw D_f."""
        return not self.retrain and not self.within(ue)

    def line(self) -> str:
        return " ".join(_text(getattr(self, field.name)) for field in fields(self))


DIVERGED = Judged("", 0, "", "none", 0, "", "---", "-", False, False, False, None, 0.0, 0.0, 0.0, (), (), (), ())


def judged(row: dict[str, Any]) -> Judged:
    """The row before policies that differ in their threshold of UE; figures as rounded as they are kept."""
    head = {name: row[name] for name in ("set", "original", "arm", "n", "label")}
    if row["source"] is None:
        return replace(DIVERGED, **head)
    decide, cover, truth = row["statistics"]["decide"], row["statistics"]["cover"], row["truth"]
    found = {ue: _judge(decide, row["n"], ue) for ue in UES}
    ue = decide["ue"]
    one = Judged(
        **head,
        source=row["source"],
        decisions="".join(found[each].decision.value[0] for each in UES),
        why=_why(found[MIDDLE]),
        over=any("over-forgetting" in reason for reason in found[MIDDLE].reasons),
        detectable=detectable(decide),
        sound=assumption(decide, PolicyBody()) is None,
        least=_least(decide, row["n"]),
        ue=ue["estimate"],
        low=ue["low"],
        high=ue["high"],
        ue_95=(cover["ue"]["low"], cover["ue"]["high"]),
        mu_95=(cover["mu"]["low"], cover["mu"]["high"]),
        true_ue=tuple(truth["ue"]),
        true_mu=tuple(truth["mu"]),
    )
    return parse(one.line())


def detectable(statistics: Statistics) -> bool:
    """Whether there was something to forget, by either view that the policy takes of it."""
    by_attack = has_rate(statistics) and statistics["ue_before"]["low"] > 0 and informative(statistics)
    return bool(statistics["exposure_before"]["low"] > 0 or by_attack)


def lines(found: Iterable[Judged]) -> list[str]:
    """The names of the fields, then each in a line."""
    return [" ".join(field.name for field in fields(Judged)), *(one.line() for one in found)]


def parsed(kept: list[str]) -> list[Judged]:
    """What `lines` wrote.

    Raises:
        ValueError: the fields are not these: the results are of another release.
    """
    if kept[0] != lines([])[0]:
        raise ValueError("these results hold other fields: run the benchmark again")
    return [parse(line) for line in kept[1:]]


def parse(line: str) -> Judged:
    words = dict(zip((field.name for field in fields(Judged)), line.split(" "), strict=True))
    made: dict[str, Any] = dict(words)
    made |= {name: int(words[name]) for name in ("original", "n")}
    made |= {name: words[name] == "yes" for name in ("over", "detectable", "sound")}
    made |= {name: float(words[name]) for name in ("ue", "low", "high")}
    made["least"] = None if words["least"] == "-" else float(words["least"])
    for name in ("ue_95", "mu_95", "true_ue", "true_mu"):
        made[name] = () if words[name] == "-" else tuple(float(part) for part in words[name].split(","))
    return Judged(**made)


def _judge(statistics: Statistics, n: int, ue: float) -> Judgement:
    return judge(PolicyBody(thresholds=Thresholds(mu=MU, ue=ue)), statistics, n)


def _least(statistics: Statistics, n: int) -> float | None:
    """UE is one question among others: where the widest threshold does not publish, none does."""
    if _judge(statistics, n, 1.0).decision is not Decision.PUBLISH:
        return None
    return max(-statistics["ue"]["low"], statistics["ue"]["high"]) if has_rate(statistics) else 0.0


def _why(found: Judgement) -> str:
    if found.decision is Decision.PUBLISH:
        return "publish"
    return next((word for text, word in WHY.items() if text in found.reasons[0]), "other")


def _text(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case None | ():
            return "-"
        case tuple():
            return ",".join(map(_text, value))
        case _:
            return str(value)
