"""What a forgotten sample should come to show, on the weights of the moment.

A sample of D_f has a place among learnt samples of its difficulty (see `unlearning.difficulty`): how sure the model is of
it, as a rank. Had it never been learnt, it would stand at that place among unseen samples of its difficulty, and show
what they show. Difficulty takes the place of the class, so that a set from one class, a subject of its own kind and an
outlier are all held against their like.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlearning.difficulty import Classifier, Difficulty, catching, observed
from unlearning.gradients import CPU_CHUNK, NonFinite, evaluating, losses_of, scores
from unlearning.membership import confidence
from unlearning.problem import Indices, Problem, strata
from unlearning.splits import TuningData
from unlearning.transport import Pool

Floats = NDArray[np.float64]

DOUBT = 0.02
"""The share of labels that are taken to be wrong. Unseen data stands in the pool under its own labels, and with this
weight under a label drawn from the others: where a label is so unlikely that hardly any unseen sample bears it rightly,
those are what a sample is held against."""


@dataclass(frozen=True)
class Forgotten:
    """Samples of D_f, on the parent: the margin of each without D_f, its place among learnt samples, its loss, its class."""

    margins_N: Floats
    places_N: Floats
    losses_N: Floats
    strata_N: Indices


class Unseen:
    """Some of the tuning data, read once and kept in memory, and how hard each sample of it is without D_f."""

    def __init__(self, problem: Problem, tuning: TuningData, sample: int) -> None:
        self.problem = problem
        rows_M = np.unique(np.linspace(0, len(tuning.holdout) - 1, sample).astype(np.int64))
        parts = np.array_split(rows_M, -(-len(rows_M) // CPU_CHUNK))
        self.batches = [tuning.holdout.batch(part) for part in parts]
        self.strata_M = np.concatenate([strata(targets) for _, targets in self.batches])
        self.others: list[Tensor] = []
        self.margins_P = np.zeros(len(rows_M))
        self.weights_P = np.ones(len(rows_M))

    def judged(self, parent: nn.Module, classifier: Classifier, layer: str, random: np.random.Generator) -> None:
        """Take note of how hard the samples are, under their own labels and under wrong ones."""
        others_M = _others(self.strata_M, classifier.classes_C, random)
        ends = np.cumsum([len(targets) for _, targets in self.batches])[:-1]
        dtype = self.batches[0][1].dtype
        self.others = [torch.from_numpy(part).to(dtype) for part in np.split(others_M, ends)]
        with catching(parent, [layer]) as caught:
            self.seen(parent)
        features = torch.cat(caught[layer])
        self.margins_P = np.concatenate([classifier.margins(features, labels) for labels in (self.strata_M, others_M)])
        self.weights_P = np.repeat([1 - DOUBT, DOUBT], len(others_M))

    def seen(self, model: nn.Module) -> tuple[Pool, NDArray[np.bool_]]:
        """What a model shows of it now: the pool, and which samples it answers right under their own labels.

        Raises:
            NonFinite: a loss is infinite or NaN.
        """
        own: list[Tensor] = []
        other: list[Tensor] = []
        correct: list[Tensor] = []
        device = next(model.parameters()).device
        with evaluating(model), torch.no_grad():
            for number, (inputs, targets) in enumerate(self.batches):
                outputs, targets = model(inputs.to(device)), targets.to(device)
                own.append(losses_of(self.problem, outputs, targets))
                correct.append(self.problem.correct(outputs, targets).bool())
                if self.others:
                    other.append(losses_of(self.problem, outputs, self.others[number].to(device)))
        losses_P = torch.cat(own + other).double().cpu().numpy()
        if not np.isfinite(losses_P).all():
            raise NonFinite("a loss is infinite or NaN: the weights are unusable")
        return Pool.of(self.margins_P, confidence(losses_P), self.weights_P), torch.cat(correct).cpu().numpy()


def stand(
    parent: nn.Module,
    problem: Problem,
    forget_N: Indices,
    retain_N: Indices,
    unseen: Unseen,
    difficulty: Difficulty | None,
    random: np.random.Generator,
) -> Forgotten:
    """How hard D_f is and where it stands, on the parent; `unseen` is told how hard its own samples are.

    Without a `difficulty` all samples count as equally hard, and some of D_r are read to find the place.
    """
    if difficulty is None:
        forget = scores(parent, problem, problem.train, forget_N)
        some_N = np.unique(retain_N[random.integers(0, len(retain_N), len(unseen.strata_M))])
        losses_N = scores(parent, problem, problem.train, some_N).losses_N
        margins_N, learnt_margins_N = np.zeros(len(forget_N)), np.zeros(len(some_N))
    else:
        forget, features = observed(parent, problem, problem.train, forget_N, [difficulty.layer])
        left = difficulty.without(forget_N, features[difficulty.layer], forget.strata_N)
        classifier = left.classifier()
        unseen.judged(parent, classifier, difficulty.layer, random)
        margins_N = classifier.margins(features[difficulty.layer], forget.strata_N)
        stays_N = np.isin(left.learnt_N, retain_N)
        learnt_margins_N, losses_N = left.learnt_margins_N[stays_N], left.learnt_losses_N[stays_N]
    learnt = Pool.of(learnt_margins_N, confidence(losses_N), np.ones(len(losses_N)))
    places_N = learnt.places(margins_N, confidence(forget.losses_N)) if len(losses_N) else np.full(len(forget_N), 0.5)
    return Forgotten(margins_N, places_N, forget.losses_N, forget.strata_N)


def _others(strata_M: Indices, classes_C: Indices, random: np.random.Generator) -> Indices:
    """others_M: of each sample a class that is not its own."""
    drawn_M = classes_C[random.integers(0, len(classes_C), len(strata_M))]
    same_M = drawn_M == strata_M
    following = dict(zip(classes_C.tolist(), np.roll(classes_C, -1).tolist(), strict=True))
    drawn_M[same_M] = [following[stratum] for stratum in drawn_M[same_M].tolist()]
    return drawn_M
