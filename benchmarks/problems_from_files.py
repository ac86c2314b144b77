"""The paper's own data sets, for whoever has their files: `SETTINGS_FROM_FILES` build from a folder or file that is named.

The files are read in the form in which they are published; none of them comes with the product. Sizes default to all
there is: 10,000 of the training file are the holdout, the test file is the test.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from benchmarks.problems import NetProblem, Setting
from unlearning.data.cifar import Kind, read_cifar
from unlearning.data.images import Images
from unlearning.data.purchase import read_purchase
from unlearning.data.svhn import read_svhn
from unlearning.nets.lenet import LeNet5
from unlearning.nets.mlp import MLP
from unlearning.nets.norms import Norm
from unlearning.nets.resnet import ResNet18
from unlearning.nets.vgg import VGG19
from unlearning.problem import Indices, Recipe, Restriction, TensorSamples

SPLIT_SEED = 2025
GROUP = 20
Net = Literal["lenet5", "resnet18", "vgg19"]


def network_for(net: Net, classes: int, width: int, norm: Norm) -> Callable[[], nn.Module]:
    """What makes a network for colour images of 32x32. `width` and `norm` are of no meaning to LeNet-5.

    Raises:
        ValueError: an unknown network.
    """
    if net == "lenet5":
        return partial(LeNet5, in_channels=3, classes=classes, side=32)
    if net == "resnet18":
        return partial(ResNet18, classes=classes, width=width, norm=norm)
    if net == "vgg19":
        return partial(VGG19, classes=classes, width=width, norm=norm)
    raise ValueError(f"net is {net!r}: use 'lenet5', 'resnet18' or 'vgg19'")


def cifar(
    folder: Path,
    kind: Kind = "cifar10",
    net: Net = "lenet5",
    train_size: int | None = None,
    holdout_size: int = 10_000,
    width: int = 64,
    norm: Norm = "group",
    epochs: int = 100,
    patience: int | None = 5,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
) -> NetProblem:
    """CIFAR-10 or CIFAR-100 from the unpacked folder, binary or pickles. No augmentation: each sample is one image."""
    train, test = read_cifar(folder, kind)
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed, patience)
    network = network_for(net, 100 if kind == "cifar100" else 10, width, norm)
    return _images(kind, train, test, train_size, holdout_size, recipe, network)


def svhn(
    folder: Path,
    net: Net = "lenet5",
    train_size: int | None = None,
    holdout_size: int = 10_000,
    width: int = 64,
    norm: Norm = "group",
    epochs: int = 100,
    patience: int | None = 5,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
) -> NetProblem:
    """SVHN's cropped digits from the folder that has `train_32x32.mat` and `test_32x32.mat`."""
    train, test = read_svhn(folder / "train_32x32.mat"), read_svhn(folder / "test_32x32.mat")
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed, patience)
    return _images("svhn", train, test, train_size, holdout_size, recipe, network_for(net, 10, width, norm))


def purchase100(
    path: Path,
    first_label: Literal[0, 1] = 1,
    train_size: int = 20_000,
    holdout_size: int = 20_000,
    test_size: int = 20_000,
    hidden: tuple[int, ...] = (256, 128),
    epochs: int = 50,
    alpha: float = 0.0,
    restriction: Restriction = "none",
    seed: int = 0,
) -> NetProblem:
    """Purchase100 from its csv or npz, which is one file: all three sets are drawn from it.

    Raises:
        ValueError: the file is malformed, or has fewer rows than the sizes add up to.
    """
    features_NF, labels_N = read_purchase(path, first_label)
    sizes = (train_size, holdout_size, test_size)
    if min(sizes) < 1 or sum(sizes) > len(labels_N):
        raise ValueError(f"train_size, holdout_size and test_size are at least 1 and together at most {len(labels_N)}")
    inputs, targets = torch.from_numpy(features_NF), torch.from_numpy(labels_N)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels_N)).astype(np.int64)
    train, holdout, test = (
        _drawn("purchase", rows, inputs[rows].float(), targets[rows]) for rows in np.split(order, np.cumsum(sizes))[:3]
    )
    recipe = Recipe("adam", 1e-3, epochs, 64, alpha, restriction, seed)
    return NetProblem(train, holdout, test, recipe, partial(MLP, 600, 100, hidden))


def _images(
    name: str,
    train: Images,
    test: Images,
    train_size: int | None,
    holdout_size: int,
    recipe: Recipe,
    network: Callable[[], nn.Module],
) -> NetProblem:
    """Pixels as numbers in [0, 1]; training and holdout drawn at random from the training file."""
    size = len(train) - holdout_size if train_size is None else train_size
    if size < 1 or holdout_size < 1 or size + holdout_size > len(train):
        raise ValueError(f"train_size and holdout_size are at least 1 and together at most {len(train)}")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train)).astype(np.int64)

    def drawn(part: str, images: Images, rows: Indices) -> TensorSamples:
        inputs = torch.from_numpy(images.pixels_NCHW[rows]).float() / 255
        return _drawn(f"{name}-{part}", rows, inputs, torch.from_numpy(images.labels_N[rows]))

    return NetProblem(
        drawn("train", train, order[:size]),
        drawn("train", train, order[size : size + holdout_size]),
        drawn("test", test, np.arange(len(test))),
        recipe,
        network,
    )


def _drawn(name: str, rows: Indices, inputs: torch.Tensor, targets: torch.Tensor) -> TensorSamples:
    """None of these sets names a subject: groups of 20 rows, consecutive in the file, stand in for subjects."""
    ids = [f"{name}-{row:06d}" for row in rows]
    return TensorSamples(ids, [f"{name}-group-{row // GROUP:05d}" for row in rows], inputs, targets)


SPLIT = "10,000 of the training file are held out; groups of 20 samples stand in for subjects"
SETTINGS_FROM_FILES = (
    Setting("lenet5-cifar10", "LeNet5 / CIFAR10", SPLIT, cifar),
    Setting("lenet5-svhn", "LeNet5 / SVHN", SPLIT, svhn),
    Setting("resnet18-cifar10", "ResNet18 / CIFAR10", f"{SPLIT}; norm by group", partial(cifar, net="resnet18")),
    Setting("resnet18-svhn", "ResNet18 / SVHN", f"{SPLIT}; norm by group", partial(svhn, net="resnet18")),
    Setting(
        "vgg19-cifar100",
        "VGG19 / CIFAR100",
        f"{SPLIT}; norm by group",
        partial(cifar, kind="cifar100", net="vgg19"),
    ),
    Setting(
        "mlp-purchase100",
        "MLP / Purchase100",
        "20,000 rows each for training, holdout and test; layers of 256 and 128 are our choice",
        purchase100,
    ),
)
