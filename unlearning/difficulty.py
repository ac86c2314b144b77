"""How well a model that never saw a sample would know it: a ridge classifier that leaves the sample out in closed form.

Whether the retrain will know a forgotten sample can hardly be read off the model that learnt it: where memorisation is
strong, a mislabelled sample is answered as surely as any other. But a network's early layers hold little of any one
sample. On their features the least-squares classifier of the training set follows from two sums, which are kept with a
version as G(D) is; taking D_f out of them costs |D_f|, whatever the size of D, and is exact. The margin it then gives a
sample is what the rest of the training set says about it.

Ridge regression on one-hot targets; samples out of their own fit by the usual identities (a downdate of the normal
equations for a set, the leverage for one sample).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from unlearning.gradients import CHUNK, Scores, chunks, evaluating, scores
from unlearning.problem import Indices, Problem, Samples, ordered, strata
from unlearning.splits import TuningData

Floats = NDArray[np.float64]

WIDTH = 1024  # most features
FITTED = 20_000  # most samples in the sums: more say little more about a thousand features
LEARNT = 1000  # of them, how many tell what the model shows of samples that it learnt
RIDGE = 0.1  # of each feature's variance
LAYERS = 8  # that are tried
LEAK = 0.02  # by which learnt samples may be known better than unseen ones, as a share, before a layer counts as memorising


@dataclass(frozen=True)
class Difficulty:
    """Normal equations of a training set on the features that go into `layer`, and what the model shows of some of it.

    `gram` (d, d) and `cross` (d, C) are sums in float64 over the samples at `fitted_N`; the last feature is a one.
    `classes_C` are ascending. `learnt_N` are some of `fitted_N`, with the margin of each when it alone is left out, and
    the model's loss.
    """

    layer: str
    classes_C: Indices
    fitted_N: Indices
    gram: Tensor
    cross: Tensor
    learnt_N: Indices
    learnt_margins_N: Floats
    learnt_losses_N: Floats

    def without(self, indices_N: Indices, features_ND: Tensor, strata_N: Indices) -> "Difficulty":
        """The same sums less those of the named samples that are in them. O(N d^2)."""
        inside_N = np.isin(indices_N, self.fitted_N)
        inside_ND = features_ND[torch.from_numpy(inside_N).to(features_ND.device)]
        gram, cross = _products(inside_ND, strata_N[inside_N], self.classes_C)
        stays_N = ~np.isin(self.learnt_N, indices_N)
        return replace(
            self,
            fitted_N=np.setdiff1d(self.fitted_N, indices_N),
            gram=self.gram.to(gram.device) - gram,
            cross=self.cross.to(gram.device) - cross,
            learnt_N=self.learnt_N[stays_N],
            learnt_margins_N=self.learnt_margins_N[stays_N],
            learnt_losses_N=self.learnt_losses_N[stays_N],
        )

    def classifier(self) -> "Classifier":
        """The ridge classifier of the samples in the sums. O(d^3).

        Raises:
            ValueError: there is no sample left in them.
        """
        count = self.gram[-1, -1]
        if not len(self.fitted_N):
            raise ValueError("no sample is left to say how hard the others are")
        squares_D = self.gram.diagonal()
        # a feature that hardly varies has a variance below the rounding of its square: the ridge must outweigh that
        least_D = (1e-4 * squares_D).clamp(min=1e-9 * float(count))
        variance_D = torch.maximum(squares_D - self.gram[-1].square() / count, least_D)
        variance_D[-1] = 0  # the constant's weight is free
        factor_DD = torch.linalg.cholesky(self.gram + torch.diag(RIDGE * variance_D))
        return Classifier(self.classes_C, torch.cholesky_solve(self.cross, factor_DD), factor_DD)


@dataclass(frozen=True)
class Classifier:
    """Weights (d, C) and the Cholesky factor (d, d) of the regularised gram matrix."""

    classes_C: Indices
    weights_DC: Tensor
    factor_DD: Tensor

    def margins(self, features_ND: Tensor, strata_N: Indices) -> Floats:
        """margins_N: the score of each sample's own class less the best other; about 1 for a clear case, below 0 where
        another class is likelier. For samples that are in no sum, or were taken out."""
        return _margins(self._scored(features_ND), strata_N, self.classes_C)

    def margins_left_out(self, features_ND: Tensor, strata_N: Indices) -> Floats:
        """margins_N of samples that are in the sums, each as if it alone were not."""
        rows_DN = torch.linalg.solve_triangular(self.factor_DD, features_ND.double().T, upper=False)
        leverage_N1 = rows_DN.square().sum(dim=0).clamp(max=1 - 1e-6)[:, None]
        own_NC = _one_hot(strata_N, self.classes_C).to(features_ND.device)
        scored_NC = (self._scored(features_ND) - leverage_N1 * own_NC) / (1 - leverage_N1)
        return _margins(scored_NC, strata_N, self.classes_C)

    def _scored(self, features_ND: Tensor) -> Tensor:
        return features_ND.double() @ self.weights_DC


def fit_difficulty(model: nn.Module, problem: Problem, live: Indices, tuning: TuningData) -> Difficulty | None:
    """Two passes over at most `FITTED` of the samples that `model` was trained on: made once a version, like G(D).

    Of the layers tried, the one whose classifier knows unseen data best, among those on whose features learnt samples
    are known no better; where they are on all, the one with least of it.

    Args:
        model: in eval mode throughout; its mode is restored.
        problem: gives the training samples.
        live: positions in `problem.train` that the model was trained on.
        tuning: unseen data to choose the layer by.

    Returns:
        None where there is nothing to classify: targets are not integers, or all of one class, or no layer takes vectors.
    """
    live_N = ordered(live, len(problem.train))
    draw = np.random.default_rng(0)
    fitted_N = live_N if len(live_N) <= FITTED else np.sort(draw.choice(live_N, FITTED, replace=False))
    learnt_N = fitted_N if len(fitted_N) <= LEARNT else np.sort(draw.choice(fitted_N, LEARNT, replace=False))
    layers = _layers(model, problem.train, fitted_N[:2])
    if not layers or len(np.unique(strata(problem.train.batch(learnt_N)[1]))) < 2:
        return None
    unseen_M = np.unique(np.linspace(0, len(tuning.holdout) - 1, LEARNT).astype(np.int64))
    classes_C, sums = _sums(model, problem.train, fitted_N, layers)
    learnt, learnt_features = observed(model, problem, problem.train, learnt_N, layers)
    unseen, unseen_features = observed(model, problem, tuning.holdout, unseen_M, layers)
    found: list[tuple[bool, float, Difficulty]] = []
    for layer in layers:
        fitted = Difficulty(layer, classes_C, fitted_N, *sums[layer], learnt_N, np.empty(0), learnt.losses_N)
        classifier = fitted.classifier()
        margins_N = classifier.margins_left_out(learnt_features[layer], learnt.strata_N)
        margins_M = classifier.margins(unseen_features[layer], unseen.strata_N)
        known = float((margins_M > 0).mean())
        leak = max(float((margins_N > 0).mean()) - known, _above(margins_N, margins_M) - 0.5)
        sound = leak <= LEAK + 1 / sqrt(8 * min(len(margins_N), len(margins_M)))
        better = known if sound else -leak
        found.append((sound, better, replace(fitted, learnt_margins_N=margins_N)))
    return max(found, key=lambda one: one[:2])[2]


def observed(
    model: nn.Module, problem: Problem, samples: Samples, indices: Indices, layers: list[str]
) -> tuple[Scores, dict[str, Tensor]]:
    """Scores of the named samples and, from the same forward passes, their features (N, d) at each layer."""
    with catching(model, layers) as caught:
        found = scores(model, problem, samples, indices)
    return found, {layer: torch.cat(caught[layer]) for layer in layers}


def _sums(
    model: nn.Module, samples: Samples, indices_N: Indices, layers: list[str]
) -> tuple[Indices, dict[str, tuple[Tensor, Tensor]]]:
    """The classes, ascending, and gram and cross of each layer: products in the model's precision, sums in float64."""
    grams: dict[str, Tensor] = {}
    columns: dict[str, dict[int, Tensor]] = {layer: {} for layer in layers}
    with catching(model, layers) as caught, evaluating(model), torch.no_grad():
        for inputs, targets in chunks(samples, indices_N, CHUNK, next(model.parameters()).device):
            model(inputs)
            present_P, strata_B = np.unique(strata(targets)), strata(targets)
            for layer in layers:
                gram, cross = _products(caught[layer].pop(), strata_B, present_P)
                grams[layer] = gram if layer not in grams else grams[layer] + gram
                for stratum, column in zip(present_P.tolist(), cross.T, strict=True):
                    kept = columns[layer]
                    kept[stratum] = column if stratum not in kept else kept[stratum] + column
    classes = sorted(columns[layers[0]])
    return np.array(classes), {
        layer: (grams[layer], torch.stack([columns[layer][stratum] for stratum in classes], dim=1)) for layer in layers
    }


def _products(features_BD: Tensor, strata_B: Indices, classes_C: Indices) -> tuple[Tensor, Tensor]:
    """gram (D, D) and cross (D, C) of some samples."""
    own_BC = _one_hot(strata_B, classes_C).to(features_BD.device, features_BD.dtype)
    return (features_BD.T @ features_BD).double(), (features_BD.T @ own_BC).double()


def _layers(model: nn.Module, samples: Samples, few: Indices) -> list[str]:
    """The first input and those of linear and convolutional layers, in the order in which they are called, each tensor
    once; at most `LAYERS`, evenly over the depth. Only layers that are called once, with one row a sample."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    names = ["", *(name for name, module in model.named_modules() if name and isinstance(module, kinds))]
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            match inputs:
                case (Tensor() as first, *_) if first.is_floating_point() and first.ndim in (2, 3, 4):
                    seen.append((name, first))

        return model.get_submodule(name).register_forward_pre_hook(hook)

    handles = [note(name) for name in names]
    try:
        with evaluating(model), torch.no_grad():
            model(samples.batch(few)[0].to(next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    calls = Counter(name for name, _ in seen)
    first_use = {value.data_ptr(): name for name, value in reversed(seen)}
    found = [
        name
        for name, value in seen
        if calls[name] == 1 and len(value) == len(few) and first_use[value.data_ptr()] == name
    ]
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, LAYERS).astype(int))] if found else []


@contextmanager
def catching(model: nn.Module, layers: list[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Inside, every forward pass adds its features at each layer to a list."""
    caught: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def catch(layer: str) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            caught[layer].append(_features(inputs[0].detach()))

        return model.get_submodule(layer).register_forward_pre_hook(hook)

    handles = [catch(layer) for layer in layers]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _features(inputs: Tensor) -> Tensor:
    """features_BD of a layer's input, D at most `WIDTH` + 1: maps (B, C, H, W) pooled to 4x4 or less, sequences (B, T, D)
    averaged, what is still too wide summed with random signs into `WIDTH` of them (a count sketch); then a one."""
    if inputs.ndim == 4:
        side = next(s for s in (4, 2, 1) if s == 1 or (s <= min(inputs.shape[2:]) and inputs.shape[1] * s * s <= WIDTH))
        inputs = functional.adaptive_avg_pool2d(inputs, side).flatten(1)
    elif inputs.ndim == 3:
        inputs = inputs.mean(dim=1)
    if inputs.shape[1] > WIDTH:
        generator = torch.Generator().manual_seed(inputs.shape[1])
        bucket_D = torch.randint(0, WIDTH, (inputs.shape[1],), generator=generator).to(inputs.device)
        sign_D = (2 * torch.randint(0, 2, (inputs.shape[1],), generator=generator) - 1).to(inputs.device, inputs.dtype)
        inputs = inputs.new_zeros(len(inputs), WIDTH).index_add(1, bucket_D, inputs * sign_D)
    return functional.pad(inputs, (0, 1), value=1.0)


def _one_hot(strata_N: Indices, classes_C: Indices) -> Tensor:
    """own_NC in float64; a row of zeros for a class that is none of them."""
    return torch.from_numpy((strata_N[:, None] == classes_C[None, :]).astype(np.float64))


def _margins(scored_NC: Tensor, strata_N: Indices, classes_C: Indices) -> Floats:
    own_NC = _one_hot(strata_N, classes_C).bool().to(scored_NC.device)
    own_N = (scored_NC * own_NC).sum(dim=1)  # an unknown class has scored nothing
    margins_N: Floats = (own_N - scored_NC.masked_fill(own_NC, -torch.inf).amax(dim=1)).cpu().numpy()
    return margins_N


def _above(values_N: Floats, others_M: Floats) -> float:
    """The share of pairs in which the first is greater, ties counted half."""
    sorted_M = np.sort(others_M)
    below_N = np.searchsorted(sorted_M, values_N, "left") + np.searchsorted(sorted_M, values_N, "right")
    return float(below_N.mean() / (2 * len(sorted_M)))
