"""One case of an experiment: a problem, what to forget of it, the original, its retrains, and what any weights show.

Everything that an audit reads stays out of the choosing: methods and tuning see the tuning half of the holdout; MU is
measured on the test file, false positives on the audit half of the holdout.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.paper.attack import called_members, features, shadow
from benchmarks.paper.cells import Cells
from benchmarks.paper.variant import Variant
from benchmarks.problems import watched
from unlearning.attacks import fit_network
from unlearning.difficulty import fit_difficulty
from unlearning.gradients import GradientSum, gradient_sum, scores
from unlearning.membership import confidence, exposure, fit_threshold
from unlearning.methods.protocol import Job
from unlearning.methods.retrain import Retrain
from unlearning.problem import Indices, Problem
from unlearning.recorder import Recorder, RecorderSettings, quote
from unlearning.records import Records
from unlearning.splits import split_unseen
from unlearning.training import State, restore, train

RETRAIN_SEED = 1000
THRESHOLD_SAMPLE = 2000


@dataclass(frozen=True)
class Case:
    """`seed` gives the original's weights, the random forget set and what is random in the methods.

    `base` is a case of the same problem and seed with another forget set: its original and attack serve here too, less
    the journal of the training, which is of its own forget set.
    """

    problem: Problem
    forget: Indices
    seed: int
    retrain_count: int
    cells: Cells
    device: str = "cpu"
    base: "Case | None" = None

    @cached_property
    def retain(self) -> Indices:
        return np.setdiff1d(np.arange(len(self.problem.train)), self.forget).astype(np.int64)

    @cached_property
    def seeded(self) -> Problem:
        return Variant(self.problem, replace(self.problem.recipe, seed=self.seed), self.problem.train)

    @cached_property
    def original(self) -> dict[str, Any]:
        """state, seconds, epochs, and the records that methods ask for."""
        if self.base is not None:
            there = self.base.original
            return there | {"records": there["records"] | {"steps": None, "journal": None}}
        return self.cells.tensors("original", self._train)

    @cached_property
    def parent(self) -> nn.Module:
        return restore(self.problem, self.original["state"], self.device)

    @cached_property
    def total(self) -> GradientSum:
        """G(D) at the original's weights: kept with every version, so no method pays for it."""
        if self.base is not None:
            return self.base.total
        everything = np.arange(len(self.problem.train))
        return gradient_sum(self.parent, self.problem, self.problem.train, everything)

    @cached_property
    def job(self) -> Job:
        kept = self.original["records"]
        records = Records(
            epochs=kept["epochs"],
            batch_size=self.problem.recipe.batch_size,
            initial=kept["initial"],
            steps=None if kept["steps"] is None else tuple(step.numpy() for step in kept["steps"]),
            journal=kept["journal"],
        )
        tuning = watched(self.problem)
        return Job(
            self.seeded,
            self.parent,
            self.forget,
            self.retain,
            tuning,
            self.seed,
            total=self.total,
            records=records,
            difficulty=fit_difficulty(self.parent, self.problem, np.arange(len(self.problem.train)), tuning),
        )

    @cached_property
    def attack(self) -> State:
        """The paper's attack, fitted on a shadow model."""
        if self.base is not None:
            return self.base.attack

        def make() -> dict[str, Tensor]:
            shown = shadow(self.seeded, self.seed + 500, self.device)
            return fit_network(shown["members"], shown["others"], self.seed)

        return self.cells.tensors("attack", make)

    @cached_property
    def retrains(self) -> list[dict[str, Any]]:
        """What each retrain without D_f shows, under seeds of its own."""
        return [self._retrained(number)["shown"] for number in range(self.retrain_count)]

    def retrained(self, number: int) -> State:
        """The weights of one of the retrains."""
        state: State = self._retrained(number)["state"]
        return state

    def shown(self, state: State, forget: Indices | None = None) -> dict[str, Any]:
        """What weights show, before any comparison. `phi` are logit-scaled confidences in nats, rounded to 1e-5.

        `attack_forget` and `attack_unseen` are the shares that the paper's attack calls members of D_f and of unseen
        data (its false positives); `threshold_...` those of a loss threshold fitted on the original.
        """
        model = restore(self.problem, state, self.device)
        _, audit = split_unseen(self.problem)
        forget_N = self.forget if forget is None else forget
        unseen_N = np.arange(len(audit.holdout))
        seen = scores(model, self.problem, self.problem.train, forget_N)
        unseen = scores(model, self.problem, audit.holdout)
        return {
            "accuracy": float(scores(model, self.problem, self.problem.test).correct_N.mean()),
            "attack_forget": called_members(self.attack, features(model, self.problem.train, forget_N)),
            "attack_unseen": called_members(self.attack, features(model, audit.holdout, unseen_N)),
            "threshold_forget": float((seen.losses_N <= self.threshold).mean()),
            "threshold_unseen": float((unseen.losses_N <= self.threshold).mean()),
            "phi_forget": np.round(confidence(seen.losses_N), 5).tolist(),
            "phi_unseen": np.round(confidence(unseen.losses_N), 5).tolist(),
        }

    def tuning_score(self, state: State) -> float:
        """What a setting is chosen by, lower is better, on tuning data alone: how far D_f ranks from unseen data of its
        classes (|AUC - 1/2|) and the accuracy that was lost on the unseen data, both as shares."""
        model = restore(self.problem, state, self.device)
        unseen = scores(model, self.problem, self.job.tuning.holdout)
        before = scores(self.parent, self.problem, self.job.tuning.holdout)
        seen = scores(model, self.problem, self.problem.train, self.forget)
        lost = float(before.correct_N.mean() - unseen.correct_N.mean())
        return abs(exposure(seen, unseen)) + max(0.0, lost)

    @cached_property
    def threshold(self) -> float:
        """The loss below which the threshold attack says member: fitted on retained samples and tuning data."""
        some_N = np.sort(np.random.default_rng(self.seed).permutation(self.retain)[:THRESHOLD_SAMPLE])
        members = scores(self.parent, self.problem, self.problem.train, some_N)
        return fit_threshold(members, scores(self.parent, self.problem, self.job.tuning.holdout)).loss

    def _train(self) -> dict[str, Any]:
        settings = RecorderSettings(initial=True, journal="watched", watched=tuple(self.forget.tolist()))
        model, everything = self.problem.build_model(), np.arange(len(self.problem.train))
        if quote(settings, model, len(everything), self.problem.recipe).total > settings.limit_bytes:
            settings = RecorderSettings(initial=True)
        recorder = Recorder(settings, self.seeded, everything)
        begun = time.perf_counter()
        trained = train(self.seeded, everything, watched(self.problem), device=self.device, observer=recorder)
        records = recorder.records
        return {
            "state": trained.state,
            "seconds": time.perf_counter() - begun,
            "epochs": len(trained.history),
            "records": {
                "epochs": records.epochs,
                "initial": records.initial,
                "steps": None if records.steps is None else [torch.from_numpy(step) for step in records.steps],
                "journal": None if records.journal is None else dict(records.journal),
            },
        }

    def _retrained(self, number: int) -> dict[str, Any]:
        return self.cells.tensors(f"retrain-{number}", lambda: self._retrain(number))

    def _retrain(self, number: int) -> dict[str, Any]:
        job = replace(self.job, seed=RETRAIN_SEED + number)
        begun = time.perf_counter()
        outcome = Retrain().unlearn(job)
        seconds = time.perf_counter() - begun
        shown = self.shown(outcome.state) | {"seconds": seconds, "epochs": outcome.details["epochs"]}
        return {"state": dict(outcome.state), "shown": shown}
