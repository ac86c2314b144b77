"""Which methods a version can be put through, why the others cannot, and what each would cost: before anything runs."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from unlearning.gradients import parameters_of
from unlearning.methods.descent import strata_in
from unlearning.methods.protocol import Cost, Job, Method, Need, Sizes
from unlearning.problem import Indices, Problem

FORWARD_SHARE = 1 / 3
"""What a forward pass costs of one that also goes backward: a backward pass is two products to the forward's one."""


@dataclass(frozen=True)
class Available:
    """What there is for one version and one forget set. `special_training` names the methods its parent was trained for."""

    retain_data: bool = True
    tuning_data: bool = True
    gradient_sum: bool = False
    initial_weights: bool = False
    update_journal: bool = False
    fisher: bool = False
    importance: bool = False
    whole_classes: bool = False
    classification: bool = True
    convolutions: bool = False
    sgd_training: bool = False
    special_training: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Entry:
    """One method in a plan. `reason` is one sentence that says why it does not apply, and empty where it does."""

    name: str
    applies: bool
    reason: str
    cost: Cost


def plan(methods: Iterable[Method], available: Available, sizes: Sizes) -> list[Entry]:
    """All methods: first those that apply, the cheapest first, then the others in the same order."""
    entries = [_entry(method, available, sizes) for method in methods]
    return sorted(
        entries, key=lambda entry: (not entry.applies, _work(entry.cost), entry.cost.memory_bytes, entry.name)
    )


def available_for(
    job: Job, methods: Iterable[Method] = (), special_training: frozenset[str] = frozenset()
) -> Available:
    """What a job brings along. All of D_f and D_r is read only where one of `methods` asks for whole classes."""
    asked = any(Need.CLASS_ONLY in method.needs for method in methods)
    records = job.records
    targets = job.problem.train.batch(job.forget[:1])[1]
    return Available(
        retain_data=len(job.retain) > 0,
        tuning_data=len(job.tuning.holdout) > 0 and len(job.tuning.test) > 0,
        gradient_sum=job.total is not None,
        initial_weights=records is not None and records.initial is not None,
        update_journal=records is not None and records.covers(job.forget),
        fisher=records is not None and records.fisher is not None,
        importance=records is not None and records.importance is not None,
        whole_classes=asked and _whole_classes(job.problem, job.forget, job.retain),
        classification=targets.ndim == 1 and not targets.is_floating_point(),
        convolutions=any(isinstance(module, nn.Conv2d) for module in job.parent.modules()),
        sgd_training=job.problem.recipe.optimizer == "sgd",
        special_training=special_training,
    )


def sizes_for(job: Job, classes: int) -> Sizes:
    """The sizes that costs are reckoned from. `classes` as the network answers with."""
    recipe, records = job.problem.recipe, job.records
    return Sizes(
        forget=len(job.forget),
        retain=len(job.retain),
        tuning=len(job.tuning.holdout) + len(job.tuning.test),
        parameters=sum(value.numel() for value in parameters_of(job.parent).values()),
        classes=classes,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        fisher_kept=records is not None and records.fisher is not None,
        importance_kept=records is not None and records.importance is not None,
    )


def lacking(method: Method, available: Available) -> str:
    """One sentence that says why a method does not apply; empty where it does."""
    reasons = [reason for need in Need if need in method.needs and (reason := _lack(need, method.name, available))]
    return reasons[0] if reasons else ""


def _entry(method: Method, available: Available, sizes: Sizes) -> Entry:
    reason = lacking(method, available)
    return Entry(method.name, not reason, reason, method.cost(sizes))


def _work(cost: Cost) -> float:
    return cost.gradient_samples + FORWARD_SHARE * cost.forward_samples


def _lack(need: Need, name: str, available: Available) -> str:
    """Why this need is not met, or nothing."""
    match need:
        case Need.SPECIAL_TRAINING:
            met = name in available.special_training
        case Need.RETAIN_DATA_OR_FISHER:
            met = available.retain_data or available.fisher
        case Need.RETAIN_DATA_OR_IMPORTANCE:
            met = available.retain_data or available.importance
        case Need.CLASS_ONLY:
            met = available.whole_classes
        case _:
            met = bool(getattr(available, need.value))
    return "" if met else _REASONS[need]


_REASONS = {
    Need.RETAIN_DATA: "It trains on retained samples, and they cannot be read.",
    Need.RETAIN_DATA_OR_FISHER: "Neither retained samples nor a recorded diagonal Fisher of the training set is there.",
    Need.RETAIN_DATA_OR_IMPORTANCE: "Neither retained samples nor a recorded importance of the training set is there.",
    Need.TUNING_DATA: "It chooses by unseen data, and no tuning data can be read.",
    Need.GRADIENT_SUM: "The gradient sum over the training set at this version's weights has not been computed.",
    Need.INITIAL_WEIGHTS: "The weights that training began from were not recorded.",
    Need.UPDATE_JOURNAL: "No journal holds every training step that learned from the forget set.",
    Need.SPECIAL_TRAINING: "The parent was not trained in the way that this method needs.",
    Need.CLASS_ONLY: "The forget set is not made of whole classes.",
    Need.CLASSIFICATION: "The problem's targets are not class numbers.",
    Need.CONVOLUTIONS: "The network has no convolution that it could reset.",
    Need.SGD_TRAINING: "It puts the learning rate of plain SGD to use, and the recipe has another optimizer.",
}


def _whole_classes(problem: Problem, forget: Indices, retain: Indices) -> bool:
    """Whether no class of D_f has a sample in D_r."""
    if len(forget) == 0 or len(retain) == 0:
        return False
    return not bool(np.isin(strata_in(problem, forget), strata_in(problem, retain)).any())
