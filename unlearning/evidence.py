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
class Standing:
    """What a model shows whatever is to be forgotten: made once a version, before any ticket waits for it.

    `fitting` and `rating` are scores of training samples, of those at `fitting_N` and `rating_N`; `tuning_holdout` is what
    the attack is fitted against; `holdout` and `test` are the audit's halves.
    """

    fitting_N: Indices
    rating_N: Indices
    fitting: Scores
    rating: Scores
    tuning_holdout: Scores
    holdout: Scores
    test: Scores

    def attack(self, left_out: Indices) -> tuple[Threshold, Scores]:
        """The attack fitted on members other than `left_out`, and scores of further such members to rate it on.

        Raises:
            ValueError: no member is left on one side.
        """
        fitting = self.fitting.rows(~np.isin(self.fitting_N, left_out))
        rating = self.rating.rows(~np.isin(self.rating_N, left_out))
        if len(fitting) == 0 or len(rating) == 0:
            raise ValueError("no retained training sample is left to compare with: retrain instead")
        return fit_threshold(fitting, self.tuning_holdout), rating


def stand(model: nn.Module, problem: Problem, live: Indices, tuning: TuningData, audit: AuditData) -> Standing:
    """Run a model that was trained on `live` over two subsamples of that and over all unseen data.

    Raises:
        NonFinite: the model gives a loss that is infinite or NaN.
        ValueError: fewer than two samples are live.
    """
    fitting_N, rating_N = retained_sample(problem, live, RETAINED_SIZE)
    return Standing(
        fitting_N=fitting_N,
        rating_N=rating_N,
        fitting=scores(model, problem, problem.train, fitting_N),
        rating=scores(model, problem, problem.train, rating_N),
        tuning_holdout=scores(model, problem, tuning.holdout),
        holdout=scores(model, problem, audit.holdout),
        test=scores(model, problem, audit.test),
    )


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
    standing: Standing,
    parent: nn.Module,
    updated: nn.Module,
    problem: Problem,
    forget: Indices,
    audit: AuditData,
    left_out: Indices | None = None,
) -> Evidence:
    """Run the updated model over D_f and the audit data, and the parent over D_f; the rest stands already.

    `standing` is the parent's. Members in `left_out` (others that may not be read any more) and in D_f serve no attack.

    Raises:
        NonFinite: a model gives a loss that is infinite or NaN.
        ValueError: the forget set is empty, or nothing is retained.
    """
    gone = forget if left_out is None else np.union1d(forget, left_out)
    threshold, retained = standing.attack(gone)
    return Evidence(
        threshold=threshold,
        retained=retained,
        forget_before=scores(parent, problem, problem.train, forget),
        forget_after=scores(updated, problem, problem.train, forget),
        holdout_before=standing.holdout,
        holdout_after=scores(updated, problem, audit.holdout),
        test_before=standing.test,
        test_after=scores(updated, problem, audit.test),
    )
