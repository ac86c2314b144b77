"""What a validation reads: the scores of two models, before and after an update, on D_f and on the audit data."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from unlearning.gradients import Scores, scores
from unlearning.membership import Threshold, fit_threshold
from unlearning.problem import Indices, Problem
from unlearning.splits import AuditData, TuningData, retained_sample

RETAINED_SIZE = 1000


@dataclass(frozen=True)
class Evidence:
    """All scores a validation reads. `before` is the parent, `after` the updated model; rows correspond pairwise."""

    threshold: Threshold
    retained: Scores
    forget_before: Scores
    forget_after: Scores
    holdout_before: Scores
    holdout_after: Scores
    test_before: Scores
    test_after: Scores

    def __post_init__(self) -> None:
        for name in ("forget", "holdout", "test"):
            before, after = getattr(self, f"{name}_before"), getattr(self, f"{name}_after")
            if len(before) == 0:
                raise ValueError(f"{name} is empty: there is nothing to estimate from")
            if not np.array_equal(before.strata_N, after.strata_N):
                raise ValueError(f"{name}: the scores before and after are not of the same samples")


def gather(
    parent: nn.Module,
    updated: nn.Module,
    problem: Problem,
    forget: Indices,
    live: Indices,
    tuning: TuningData,
    audit: AuditData,
    threshold: Threshold | None = None,
) -> Evidence:
    """Run both models over D_f and the audit data.

    `live` is the parent's training set, D_f included. The attack is fitted on the parent (half of a retained subsample
    against the tuning holdout), unless the threshold of an earlier fit is given.

    Raises:
        NonFinite: a model gives a loss that is infinite or NaN.
        ValueError: the forget set is empty, not within `live`, or leaves fewer than two samples.
    """
    if not np.isin(forget, live).all():
        raise ValueError("the forget set is not within the live training set")
    fitting_N, rating_N = retained_sample(problem, np.setdiff1d(live, forget), RETAINED_SIZE)
    if threshold is None:
        members = scores(parent, problem, problem.train, fitting_N)
        threshold = fit_threshold(members, scores(parent, problem, tuning.holdout))
    return Evidence(
        threshold=threshold,
        retained=scores(parent, problem, problem.train, rating_N),
        forget_before=scores(parent, problem, problem.train, forget),
        forget_after=scores(updated, problem, problem.train, forget),
        holdout_before=scores(parent, problem, audit.holdout),
        holdout_after=scores(updated, problem, audit.holdout),
        test_before=scores(parent, problem, audit.test),
        test_after=scores(updated, problem, audit.test),
    )
