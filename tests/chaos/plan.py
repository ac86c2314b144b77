"""What happens in a run: everything follows from the seed and the run's number, so that a run can be replayed."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.chaos.ground import LAZY, LENIENT, STRICT
from tests.chaos.stack import WORKERS
from tests.faults.labels import LABELS, Role

LADDER = STRICT | {"ladder": ["iau", "iau-calibrated", "retrain"]}
POLICIES: dict[str, dict[str, Any]] = {"lenient": LENIENT, "lazy": LAZY, "strict": STRICT, "ladder": LADDER}
PLAIN, SUBJECTS = range(300), range(15, 20)
"""Samples that tickets name one by one, and subjects that they name whole: the last hundred samples."""


class Kind(StrEnum):
    """Every kind of fault. The table of results has a row for each."""

    KILL_API = "kill-api"
    KILL_WORKER = "kill-worker"
    KILL_BEAT = "kill-beat"
    KILL_POSTGRES = "kill-postgres"
    KILL_REDIS = "kill-redis"
    KILL_AT_LABEL = "kill-at-label"
    EXIT_AT_LABEL = "exit-at-label"
    TERM_WORKER = "term-worker"
    STOP_WORKER = "stop-worker"
    STOP_AT_LABEL = "stop-at-label"
    REDIS_DOWN = "redis-down"
    REDIS_FLUSHED = "redis-flushed"
    REDIS_RESTARTED = "redis-restarted"
    POSTGRES_RESTARTED = "postgres-restarted"
    POSTGRES_IN_PUBLISH = "postgres-in-publish"
    MESSAGES_TWICE = "messages-twice"
    TWO_BEATS = "two-beats"
    STORE_FAILS = "store-fails"
    STORE_FULL = "store-full"
    WEIGHTS_CORRUPTED = "weights-corrupted"
    OUT_OF_MEMORY = "out-of-memory"
    PROBLEM_RAISES = "problem-raises"
    PROBLEM_HANGS = "problem-hangs"
    POISON_TICKET = "poison-ticket"


ABOUT_THE_PROBLEM = {Kind.PROBLEM_RAISES, Kind.PROBLEM_HANGS, Kind.POISON_TICKET}
AT_LABEL = {Kind.KILL_AT_LABEL, Kind.EXIT_AT_LABEL, Kind.STOP_AT_LABEL}
NEEDS = {
    "cancel.": "cancel",
    "schedule.": "schedule",
    "bank.ordered": "bank",
    "reference.": "bank",
    "retrain.ordered": "retrain",
}
"""What must be asked for, so that labels of this name can be met. Others need more than chance: their own tests meet them."""
BY_ITSELF = (
    "purge.",
    "wait.",
    "nothing.",
    "batch.given_up",
    "reference.failed",
    "return.",
    "bank.written",
    "bank.assembl",
)
MEMORY_AT = ("task.prepared", "update.computed", "update.observed", "climb.begun", "retrain.trained")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, `at` seconds into the run, for `seconds` where it lasts."""

    kind: Kind
    at: float
    seconds: float
    label: str = ""
    worker: str = "worker-a"
    ordinals: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """One request of a client or an operator. `of` is the number of the ticket that it is about."""

    what: str
    at: float
    of: int = 0
    ordinals: tuple[int, ...] = ()
    subjects: tuple[int, ...] = ()
    reason: str = "other"


@dataclass(frozen=True)
class Plan:
    """A run."""

    seed: int
    run: int
    policy: str
    models: int
    seconds: float
    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]


def plan(seed: int, run: int, tickets: int = 4, seconds: float = 3.0, kinds: tuple[Kind, ...] = tuple(Kind)) -> Plan:
    """Run number `run` of the seed. The kinds take turns, so that each is met about equally often."""
    draw = random.Random(f"{seed}:{run}:{tickets}:{seconds}:{','.join(kinds)}")
    chosen = [kinds[run % len(kinds)], *draw.sample(kinds, min(draw.choice([0, 1, 1, 2]), len(kinds)))]
    chosen = once_each(chosen)
    poisoned = Kind.POISON_TICKET in chosen
    policy = "lazy" if poisoned else draw.choices(list(POLICIES), [50, 20, 15, 15])[0]
    steps = requests(draw, tickets, seconds, lazy=policy == "lazy")
    faults = tuple(fault(draw, kind, seconds, steps) for kind in chosen)
    return Plan(seed, run, policy, 2 if draw.random() < 0.25 else 1, seconds, tuple(steps), faults)


def once_each(kinds: list[Kind]) -> list[Kind]:
    """No kind twice, and no more than one about the problem: it has one control."""
    found: list[Kind] = []
    for kind in kinds:
        taken = kind in found or (kind in ABOUT_THE_PROBLEM and ABOUT_THE_PROBLEM & set(found))
        if not taken:
            found.append(kind)
    return found


def requests(draw: random.Random, tickets: int, seconds: float, *, lazy: bool) -> list[Step]:
    """What is asked for, in the order of time."""
    plain, subjects = draw.sample(PLAIN, len(PLAIN)), draw.sample(SUBJECTS, len(SUBJECTS))
    steps: list[Step] = []
    for number in range(tickets):
        at, reason = draw.uniform(0, seconds), "unlawful_training" if draw.random() < 0.1 else "other"
        if draw.random() < 0.15 and subjects:
            steps.append(Step("submit", at, number, subjects=(subjects.pop(),), reason=reason))
        elif draw.random() < 0.12 and number:
            again = next(step for step in steps if step.of == draw.randrange(number) or step.of == 0)
            steps.append(Step("submit", at, number, again.ordinals, again.subjects, reason))
        else:
            many = draw.randint(1, 12)
            steps.append(Step("submit", at, number, tuple(sorted(plain[:many])), reason=reason))
            plain = plain[many:]
    for step in list(steps):
        for what, share, later in (("repeat", 0.35, 1.0), ("race", 0.15, 0.0), ("changed", 0.1, 0.5)):
            if draw.random() < share:
                steps.append(
                    Step(what, step.at + draw.uniform(0, later), step.of, step.ordinals, step.subjects, step.reason)
                )
        if draw.random() < (0.35 if lazy else 0.15):
            steps.append(Step("cancel", step.at + draw.uniform(0, 0.5), step.of))
    for what, share in (("retrain", 0.2), ("schedule", 0.1), ("bank", 0.1)):
        if draw.random() < share:
            steps.append(Step(what, draw.uniform(0, seconds)))
    if lazy:
        steps.append(Step("flush", seconds))
    return sorted(steps, key=lambda step: step.at)


def labels(steps: list[Step], *, everywhere: bool) -> list[str]:
    """Those that a run with these steps is likely to meet; of workers alone, unless `everywhere`."""
    asked = {step.what for step in steps}
    lacking = tuple(prefix for prefix, what in NEEDS.items() if what not in asked)
    found = [label.name for label in LABELS if everywhere or label.role is Role.WORKER]
    return [name for name in found if not name.startswith(lacking + BY_ITSELF)]


def fault(draw: random.Random, kind: Kind, seconds: float, steps: list[Step]) -> Fault:
    at, lasts = draw.uniform(0, seconds), draw.uniform(0.5, 2.0)
    worker = draw.choice(WORKERS)
    label, ordinals = "", ()
    if kind in AT_LABEL:
        label, at = draw.choice(labels(steps, everywhere=kind is Kind.KILL_AT_LABEL)), 0.0
    elif kind is Kind.OUT_OF_MEMORY:
        label, at = draw.choice(MEMORY_AT), 0.0
    elif kind is Kind.POSTGRES_IN_PUBLISH:
        label, at = "publish.written", 0.0
    elif kind is Kind.POISON_TICKET:
        step = draw.choice([step for step in steps if step.what == "submit"])
        ordinals = step.ordinals or tuple(20 * s + i for s in step.subjects for i in range(20))
        at = 0.0
    return Fault(kind, round(at, 3), round(lasts, 3), label, worker, tuple(ordinals))
