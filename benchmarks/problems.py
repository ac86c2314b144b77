"""The settings that the paper's experiments are run on here, each a function that returns a problem.

`SETTINGS` says of each which of the paper's it stands for and what differs, so that a table can print it;
`problems_from_files.py` has those whose data the user brings. Every function takes `alpha` and `restriction` (the
gradient restriction of the training), `seed`, and its sizes. Holdout comes from the file that training comes from; the
test file is never tuned on: a training that stops early watches `watched(problem)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from unlearning.nets.lenet import LeNet5
from unlearning.nets.norms import Norm
from unlearning.nets.resnet import ResNet18
from unlearning.nets.vgg import VGG19
from unlearning.problem import Classification, Indices, Problem, Recipe, Restriction, TensorSamples
from unlearning.splits import TuningData, split_unseen
from workers.bundled import FASHION_MNIST, fashion_mnist
from workers.flights import TableProblem, flights

SPOIL_SEED = 77
NOISE = 0.5


@dataclass(frozen=True)
class Setting:
    """One row of the benchmark's table: `paper` is the setting it stands for, `differs` what is not the paper's."""

    name: str
    paper: str
    differs: str
    build: Callable[..., Problem]


@dataclass(frozen=True)
class NetProblem(Classification):
    """Samples in memory, a recipe, and what makes the network."""

    train: TensorSamples
    holdout: TensorSamples
    test: TensorSamples
    recipe: Recipe
    network: Callable[[], nn.Module]

    def build_model(self) -> nn.Module:
        return self.network()


@dataclass(frozen=True)
class OutlierProblem(NetProblem):
    """`forget` are the positions in `train` that were spoiled: first the mislabelled, then the noisy, each ascending."""

    forget: Indices
    mislabelled: int


def watched(problem: Problem) -> TuningData:
    """What early stopping watches: the tuning half of the holdout, in both places, so that the test file stays unseen."""
    tuning, _ = split_unseen(problem)
    return TuningData(tuning.holdout, tuning.holdout)


def lenet_fashion_stopped(
    train_size: int = 48_000,
    holdout_size: int = 12_000,
    epochs: int = 100,
    patience: int | None = 5,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
    folder: Path = FASHION_MNIST,
) -> NetProblem:
    """LeNet-5 on 48,000 images of Fashion-MNIST's train file with early stopping; the other 12,000 are the holdout."""
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed, patience)
    return _fashion(partial(LeNet5, side=28), recipe, train_size, holdout_size, folder)


def lenet_fashion_10k(
    train_size: int = 10_000,
    holdout_size: int = 10_000,
    epochs: int = 40,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
    folder: Path = FASHION_MNIST,
) -> NetProblem:
    """LeNet-5 on 10,000 images of Fashion-MNIST for 40 epochs: what happens where a network memorises."""
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed)
    return _fashion(partial(LeNet5, side=28), recipe, train_size, holdout_size, folder)


def resnet_fashion(
    train_size: int = 2_000,
    holdout_size: int = 2_000,
    test_size: int = 2_000,
    width: int = 8,
    norm: Norm = "group",
    epochs: int = 20,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
    folder: Path = FASHION_MNIST,
) -> NetProblem:
    """ResNet-18 on Fashion-MNIST, padded to 32x32. Full size: width 64, train_size 48,000, holdout_size 12,000, test_size 10,000.

    Norm by group is the default: with it the per-sample restriction is that of the loss that is trained, with norm by batch
    it is that of the running statistics.
    """
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed)
    network = partial(ResNet18, in_channels=1, width=width, norm=norm)
    return _padded(_fashion(network, recipe, train_size, holdout_size, folder), test_size)


def vgg_fashion(
    train_size: int = 2_000,
    holdout_size: int = 2_000,
    test_size: int = 2_000,
    width: int = 8,
    norm: Norm = "group",
    epochs: int = 30,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
    folder: Path = FASHION_MNIST,
) -> NetProblem:
    """VGG-19 on Fashion-MNIST, padded to 32x32; sizes and norm as for `resnet_fashion`."""
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed)
    network = partial(VGG19, in_channels=1, width=width, norm=norm)
    return _padded(_fashion(network, recipe, train_size, holdout_size, folder), test_size)


def lenet_fashion_outliers(
    train_size: int = 10_000,
    holdout_size: int = 10_000,
    mislabelled: float = 0.03,
    noisy: float = 0.02,
    epochs: int = 40,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
    folder: Path = FASHION_MNIST,
) -> OutlierProblem:
    """`lenet_fashion_10k` with some of its training samples spoiled; they are what is to be forgotten.

    A share `mislabelled` gets another class, uniformly; a share `noisy` gets Gaussian noise of standard deviation 0.5 on
    its pixels, which are cut to [0, 1] again, and keeps its label. Which samples does not depend on `seed`.

    Raises:
        ValueError: a share is negative, or both together spoil nothing or everything.
    """
    clean = lenet_fashion_10k(train_size, holdout_size, epochs, alpha, restriction, seed, folder)
    wrong, blurred = round(mislabelled * train_size), round(noisy * train_size)
    if min(wrong, blurred) < 0 or not 0 < wrong + blurred < train_size:
        raise ValueError("mislabelled and noisy are shares, not negative, that together spoil some samples and not all")
    draw = np.random.default_rng(SPOIL_SEED)
    chosen = draw.permutation(train_size)[: wrong + blurred].astype(np.int64)
    wrong_W, noisy_V = np.sort(chosen[:wrong]), np.sort(chosen[wrong:])
    inputs, targets = clean.train.inputs.clone(), clean.train.targets.clone()
    targets[wrong_W] = (targets[wrong_W] + torch.from_numpy(draw.integers(1, 10, wrong))) % 10
    noise = torch.from_numpy(draw.normal(0.0, NOISE, (blurred, *inputs.shape[1:])).astype(np.float32))
    inputs[noisy_V] = (inputs[noisy_V] + noise).clamp(0, 1)
    train = replace(clean.train, inputs=inputs, targets=targets)
    forget = np.concatenate([wrong_W, noisy_V])
    return OutlierProblem(train, clean.holdout, clean.test, clean.recipe, clean.network, forget, wrong)


def mlp_flights(
    train_size: int = 20_000,
    holdout_size: int = 20_000,
    test_size: int = 20_000,
    hidden: tuple[int, ...] = (256, 128),
    epochs: int = 30,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
) -> TableProblem:
    """A multilayer perceptron on flights: 105 destinations, the aircraft as subject. See `workers.flights`."""
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed)
    return flights(train_size, holdout_size, test_size, hidden, recipe)


def _fashion(
    network: Callable[[], nn.Module], recipe: Recipe, train_size: int, holdout_size: int, folder: Path
) -> NetProblem:
    base = fashion_mnist(folder, train_size, holdout_size, recipe)
    return NetProblem(base.train, base.holdout, base.test, recipe, network)


def _padded(problem: NetProblem, test_size: int) -> NetProblem:
    """28x28 with two black pixels on each side; the first `test_size` of the test file."""
    if not 1 <= test_size <= len(problem.test):
        raise ValueError(f"test_size is {test_size}: use 1 to {len(problem.test)}")

    def padded(samples: TensorSamples, size: int) -> TensorSamples:
        inputs = functional.pad(samples.inputs[:size], (2, 2, 2, 2))
        return TensorSamples(samples.ids[:size], samples.subjects[:size], inputs, samples.targets[:size])

    return replace(
        problem,
        train=padded(problem.train, len(problem.train)),
        holdout=padded(problem.holdout, len(problem.holdout)),
        test=padded(problem.test, test_size),
    )


SETTINGS = (
    Setting(
        "lenet-fashion",
        "LeNet5 / CIFAR10 and LeNet5 / SVHN",
        "Fashion-MNIST: grey, 28x28, 48,000 training samples; early stopping after 5 epochs without a lower loss",
        lenet_fashion_stopped,
    ),
    Setting(
        "lenet-fashion-10k",
        "none: a network that memorises",
        "10,000 samples of Fashion-MNIST, 40 epochs of Adam at 1e-3, no early stopping",
        lenet_fashion_10k,
    ),
    Setting(
        "mlp-flights",
        "MLP / Purchase100",
        "flights from New York, 105 destinations, 119 features, 20,000 samples; the aircraft are real subjects",
        mlp_flights,
    ),
    Setting(
        "resnet18-fashion",
        "ResNet18 / CIFAR10 and ResNet18 / SVHN",
        "Fashion-MNIST padded to 32x32; by default width 8 of 64, 2,000 samples and norm by group",
        resnet_fashion,
    ),
    Setting(
        "vgg19-fashion",
        "VGG19 / CIFAR100",
        "Fashion-MNIST padded to 32x32, ten classes; by default width 8 of 64, 2,000 samples and norm by group",
        vgg_fashion,
    ),
    Setting(
        "lenet-fashion-outliers",
        "LeNet5 / SVHN, outlier removal",
        "Fashion-MNIST, 10,000 samples; 3 % mislabelled and 2 % noisy, spoiled by us",
        lenet_fashion_outliers,
    ),
)
