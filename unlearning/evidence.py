"""What a validation reads: what two models show, before and after an update, of D_f and of the audit data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlearning.attacks import Attacks, fit_attacks
from unlearning.bank import Bank
from unlearning.difficulty import Difficulty, catching
from unlearning.gradients import Scores, scores
from unlearning.membership import Floats, Threshold, fit_steady_threshold
from unlearning.problem import Indices, Problem
from unlearning.sequence import neighbours
from unlearning.signals import Signals, observe
from unlearning.splits import AuditData, TuningData, retained_sample

RETAINED_SIZE = 1000


@dataclass(frozen=True)
class Standing:
    """What a model shows whatever is to be forgotten: made once a version, before any ticket waits for it.

    `fitting` and `rating` are of training samples, those at `fitting_N` and `rating_N`; `tuning_holdout` is what the
    attacks are fitted against; `holdout` and `test` are the audit's halves. `ease_M` is how well a classifier on early
    features knows each sample of that holdout (`unlearning.difficulty`), None where there is none. `anchor_T` says which
    samples of that test the last version that was trained answered right.
    """

    fitting_N: Indices
    rating_N: Indices
    fitting: Scores
    rating: Signals
    tuning_holdout: Scores
    holdout: Signals
    test: Signals
    attacks: Attacks
    anchor_T: NDArray[np.bool_]
    ease_M: Floats | None = None

    def attack(self, left_out: Indices) -> tuple[Threshold, Scores]:
        """The attack fitted on members other than `left_out`, and scores of further such members to rate it on.

        Raises:
            ValueError: no member is left on one side.
        """
        fitting = self.fitting.rows(~np.isin(self.fitting_N, left_out))
        rating = self.rating.scores.rows(~np.isin(self.rating_N, left_out))
        if len(fitting) == 0 or len(rating) == 0:
            raise ValueError("no retained training sample is left to compare with: retrain instead")
        return fit_steady_threshold(fitting, self.tuning_holdout), rating

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors, for safetensors."""
        flat = {name: torch.from_numpy(getattr(self, name)) for name in ("fitting_N", "rating_N", "anchor_T")}
        if self.ease_M is not None:
            flat["ease_M"] = torch.from_numpy(self.ease_M)
        parts = {name: getattr(self, name).tensors() for name in ("rating", "holdout", "test", "attacks")}
        for name in ("fitting", "tuning_holdout"):
            parts[name] = Signals(getattr(self, name)).tensors()
        for name, tensors in parts.items():
            flat |= {f"{name}.{part}": value.contiguous() for part, value in tensors.items()}
        return flat

    @staticmethod
    def from_tensors(flat: Mapping[str, Tensor]) -> "Standing":
        """Raises `ValueError` where a part is missing."""

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}."): value for key, value in flat.items() if key.startswith(f"{name}.")}

        try:
            return Standing(
                fitting_N=flat["fitting_N"].numpy(),
                rating_N=flat["rating_N"].numpy(),
                fitting=Signals.from_tensors(part("fitting")).scores,
                rating=Signals.from_tensors(part("rating")),
                tuning_holdout=Signals.from_tensors(part("tuning_holdout")).scores,
                holdout=Signals.from_tensors(part("holdout")),
                test=Signals.from_tensors(part("test")),
                attacks=Attacks.from_tensors(part("attacks")),
                anchor_T=flat["anchor_T"].numpy(),
                ease_M=flat["ease_M"].numpy() if "ease_M" in flat else None,
            )
        except KeyError as error:
            raise ValueError(f"this is no standing: {error} is missing") from None


def stand(
    model: nn.Module,
    problem: Problem,
    live: Indices,
    tuning: TuningData,
    audit: AuditData,
    difficulty: Difficulty | None = None,
    anchor_T: NDArray[np.bool_] | None = None,
) -> Standing:
    """Fit the attacks on a model that was trained on `live`, and run it over two subsamples of that and all unseen data.

    `anchor_T` comes from the parent's standing where the model is an update; one that was trained is its own anchor.

    Raises:
        NonFinite: the model gives a loss that is infinite or NaN.
        ValueError: fewer than two samples are live.
    """
    fitting_N, rating_N = retained_sample(problem, live, RETAINED_SIZE)
    attacks = fit_attacks(model, problem, fitting_N, tuning)
    layers = [difficulty.layer] if difficulty is not None else []
    with catching(model, layers) as caught:
        holdout = observe(model, problem, audit.holdout, None, attacks)
    ease_M = None
    if difficulty is not None:
        features_MD = torch.cat(caught[difficulty.layer])
        ease_M = difficulty.classifier().margins(features_MD, holdout.scores.strata_N)
    test = observe(model, problem, audit.test, None, None)
    return Standing(
        fitting_N=fitting_N,
        rating_N=rating_N,
        fitting=scores(model, problem, problem.train, fitting_N),
        rating=observe(model, problem, problem.train, rating_N, attacks, features=True),
        tuning_holdout=scores(model, problem, tuning.holdout),
        holdout=holdout,
        test=test,
        attacks=attacks,
        anchor_T=test.scores.correct_N.copy() if anchor_T is None else anchor_T,  # a tensor is stored once
        ease_M=ease_M,
    )


@dataclass(frozen=True)
class Evidence:
    """All that a validation reads. `before` is the parent, `after` the updated model; rows correspond pairwise.

    `forget_N` are the positions of D_f, ascending; `fitted_N` which of them the attacks were fitted on. `ease_N` is how
    well a classifier on early features, fitted without D_f, knows each; None where there is none. `neighbours_before`
    and `neighbours_after` are of retained training samples, `count` is how many samples the parent knew in all.
    """

    threshold: Threshold
    retained: Scores
    forget_N: Indices
    fitted_N: NDArray[np.bool_]
    forget_before: Signals
    forget_after: Signals
    holdout_before: Signals
    holdout_after: Signals
    test_before: Signals
    test_after: Signals
    anchor_T: NDArray[np.bool_]
    neighbours_before: Signals
    neighbours_after: Signals
    ease_N: Floats | None = None
    ease_M: Floats | None = None
    bank: Bank | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        for name in ("forget", "holdout", "test"):
            before, after = getattr(self, f"{name}_before"), getattr(self, f"{name}_after")
            if len(before) == 0:
                raise ValueError(f"{name} is empty: there is nothing to estimate from")
            if not np.array_equal(before.scores.strata_N, after.scores.strata_N):
                raise ValueError(f"{name}: the scores before and after are not of the same samples")
        if len(self.forget_N) != len(self.forget_before) or len(self.anchor_T) != len(self.test_before):
            raise ValueError("positions and anchor need one value a sample, as the scores have")
        if (self.ease_N is None) != (self.ease_M is None):
            raise ValueError("ease is known of both D_f and the holdout, or of neither")


def unleaked(margins_N: Floats, learnt_L: Floats, unseen_M: Floats) -> Floats:
    """ease_N: margins of samples that the features were learnt from, on the scale of those that they were not.

    A sample leaves some trace in the features too, so that samples of the training set look easier than unseen ones that
    are as hard. Members and unseen data are drawn alike: what a quantile of the one exceeds that of the other by is the
    trace, and is taken off.
    """
    if len(learnt_L) == 0:
        return margins_N
    grid_Q = np.linspace(0.02, 0.98, 25)  # the ends of two samples differ by chance
    learnt_Q, unseen_Q = np.quantile(learnt_L, grid_Q), np.quantile(unseen_M, grid_Q)
    ease_N: Floats = margins_N - np.interp(margins_N, learnt_Q, learnt_Q - unseen_Q)
    return ease_N


def watch(forget: Signals, rating: Signals, stays_N: NDArray[np.bool_]) -> Indices:
    """Which of the prepared retained samples to look at again: those nearest to D_f, and twice as many of the others."""
    rows_N = np.flatnonzero(stays_N)
    if forget.features_ND is None or rating.features_ND is None or not len(rows_N):
        return rows_N[:0]
    near_N = rows_N[neighbours(forget.features_ND, rating.features_ND[torch.from_numpy(rows_N)])]
    far_N = np.setdiff1d(rows_N, near_N)
    some = np.unique(np.linspace(0, max(0, len(far_N) - 1), min(2 * len(near_N), len(far_N))).astype(np.int64))
    return np.sort(np.concatenate([near_N, far_N[some]]))


def gather(
    standing: Standing,
    parent: nn.Module,
    updated: nn.Module,
    problem: Problem,
    forget: Indices,
    audit: AuditData,
    left_out: Indices | None = None,
    difficulty: Difficulty | None = None,
    bank: Bank | None = None,
) -> Evidence:
    """Run the updated model over D_f, the audit data and some retained samples, and the parent over D_f; the rest stands.

    `standing` and `difficulty` are the parent's. Members in `left_out` (others that may not be read any more) and in D_f
    serve no attack.

    Raises:
        NonFinite: a model gives a loss that is infinite or NaN.
        ValueError: the forget set is empty, or nothing is retained.
    """
    forget_N = np.sort(forget)
    gone = forget_N if left_out is None else np.union1d(forget_N, left_out)
    threshold, retained = standing.attack(gone)
    attacks, stays_N = standing.attacks, ~np.isin(standing.rating_N, gone)
    with catching(parent, [difficulty.layer] if difficulty is not None else []) as caught:
        forget_before = observe(parent, problem, problem.train, forget_N, attacks, features=True)
    ease_N = None
    if difficulty is not None and standing.ease_M is not None:
        features_ND, strata_N = torch.cat(caught[difficulty.layer]), forget_before.scores.strata_N
        left = difficulty.without(forget_N, features_ND, strata_N)
        margins_N = left.classifier().margins(features_ND, strata_N)
        ease_N = unleaked(margins_N, left.learnt_margins_N, standing.ease_M)
    watched_N = watch(forget_before, standing.rating, stays_N)
    return Evidence(
        threshold=threshold,
        retained=retained,
        forget_N=forget_N,
        fitted_N=attacks.knows(forget_N),
        forget_before=forget_before,
        forget_after=observe(updated, problem, problem.train, forget_N, attacks),
        holdout_before=standing.holdout,
        holdout_after=observe(updated, problem, audit.holdout, None, attacks),
        test_before=standing.test,
        test_after=observe(updated, problem, audit.test, None, None),
        anchor_T=standing.anchor_T,
        neighbours_before=standing.rating.rows(watched_N),
        neighbours_after=observe(updated, problem, problem.train, standing.rating_N[watched_N], None),
        ease_N=ease_N,
        ease_M=None if ease_N is None else standing.ease_M,
        bank=bank,
        count=len(problem.train) - len(np.setdiff1d(gone, forget_N)),
    )
