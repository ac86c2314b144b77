"""Two problems that come with the product, for trying it out and for its tests: `digits` and `fashion_mnist`.

Neither data set says whom an image belongs to, so both get stand-ins for subjects; each function says how.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from unlearning.data.idx import read_idx
from unlearning.nets.lenet import LeNet5
from unlearning.problem import Classification, Indices, Recipe, TensorSamples

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
SPLIT_SEED = 2025
BLOCK = 180


@dataclass(frozen=True)
class ImageProblem(Classification):
    """LeNet-5 on small square grey images of ten classes."""

    train: TensorSamples
    holdout: TensorSamples
    test: TensorSamples
    recipe: Recipe
    side: int

    def build_model(self) -> nn.Module:
        return LeNet5(in_channels=1, classes=10, side=self.side)


def digits(train_size: int = 900, holdout_size: int = 450, recipe: Recipe | None = None) -> ImageProblem:
    """scikit-learn's 1,797 drawings of digits, 8x8 enlarged to 16x16, and LeNet-5 with the paper's restriction.

    Small enough to train in seconds; also easy, so a network hardly needs to memorise: an attack sees only the end of
    the distribution, and about half of all tickets of a hundred samples end in a retrain because the update cannot be
    shown to have been enough.

    Ids are `digits-0042`. The file names no writers: blocks of 180 consecutive drawings stand in for subjects (about 90
    training samples each), and holdout and test are drawn from the same blocks.

    Raises:
        ValueError: the sizes leave nothing for the test set.
    """
    data = load_digits()
    count = len(data.target)
    if train_size < 1 or holdout_size < 1 or train_size + holdout_size >= count:
        raise ValueError(f"train_size and holdout_size are at least 1 and together less than {count}")
    images = torch.from_numpy(data.images.astype(np.float32) / 16).unsqueeze(1)
    images = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    labels = torch.from_numpy(data.target.astype(np.int64))
    order = np.random.default_rng(SPLIT_SEED).permutation(count)

    def drawn(rows: Indices) -> TensorSamples:
        rows = np.sort(rows)
        ids = [f"digits-{row:04d}" for row in rows]
        return TensorSamples(ids, [f"block-{row // BLOCK:02d}" for row in rows], images[rows], labels[rows])

    return ImageProblem(
        train=drawn(order[:train_size]),
        holdout=drawn(order[train_size : train_size + holdout_size]),
        test=drawn(order[train_size + holdout_size :]),
        recipe=recipe or Recipe("adam", 1e-3, 80, 32, alpha=0.002, restriction="per-sample"),
        side=16,
    )


def fashion_mnist(
    folder: Path = FASHION_MNIST, train_size: int = 10_000, holdout_size: int = 10_000, recipe: Recipe | None = None
) -> ImageProblem:
    """Zalando's Fashion-MNIST: 28x28 clothes in ten classes; a random draw of its train file for training and holdout,
    its t10k file as test.

    The data name no person: groups of 20 images, consecutive in the training set as drawn, stand in for subjects.

    Raises:
        ValueError: the data set is not installed, or its files are not sound.
    """
    names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    paths = [folder / f"{name}.gz" for name in names]
    if not all(path.is_file() for path in paths):
        raise ValueError(f"Fashion-MNIST is not in {folder}. Run: apt-get install dataset-fashion-mnist")
    images, labels, test_images, test_labels = (torch.from_numpy(read_idx(path)) for path in paths)
    if train_size < 1 or holdout_size < 1 or train_size + holdout_size > len(images):
        raise ValueError(f"train_size and holdout_size are at least 1 and together at most {len(images)}")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))

    def drawn(rows: Indices, subject: str) -> TensorSamples:
        ids = [f"fashion-train-{row:05d}" for row in rows]
        subjects = [f"{subject}-{position // 20:04d}" for position in range(len(rows))]
        return TensorSamples(ids, subjects, _scaled(images[rows]), labels[rows].long())

    test_ids = [f"fashion-test-{row:05d}" for row in range(len(test_labels))]
    return ImageProblem(
        train=drawn(order[:train_size], "group"),
        holdout=drawn(order[train_size : train_size + holdout_size], "unseen-group"),
        test=TensorSamples(test_ids, [None] * len(test_ids), _scaled(test_images), test_labels.long()),
        recipe=recipe or Recipe("adam", 1e-3, 40, 64, alpha=0.005, restriction="per-sample"),
        side=28,
    )


def _scaled(images_BHW: torch.Tensor) -> torch.Tensor:
    """Bytes to inputs_BCHW in [0, 1]."""
    return images_BHW.unsqueeze(1).float() / 255
