from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.unlearning.problems import Blobs
from unlearning.difficulty import RIDGE, WIDTH, Difficulty, _features, _layers, fit_difficulty, observed
from unlearning.nets.lenet import LeNet5
from unlearning.nets.resnet import ResNet18
from unlearning.problem import Indices, TensorSamples, strata
from unlearning.splits import split_unseen
from unlearning.training import restore, train

FORGET = np.arange(5, 25, dtype=np.int64)


@pytest.fixture(scope="module")
def fitted() -> tuple[Blobs, nn.Module, Difficulty]:
    problem = Blobs(count=150, features=6, hidden=(12,))
    parent = restore(problem, train(problem, np.arange(150)).state)
    tuning, _ = split_unseen(problem)
    found = fit_difficulty(parent, problem, np.arange(150), tuning)
    assert found is not None
    return problem, parent, found


def slow_margins(features: Tensor, targets: Indices, kept: Indices, asked: Indices, own: Indices) -> np.ndarray:
    """Standardise, centre, solve the ridge equations of the kept rows by name, and hold one class against the others."""
    X = features[:, :-1].double()
    mean, sd = X[kept].mean(0), X[kept].std(0, unbiased=False)
    Z = (X - mean) / sd
    classes = np.unique(targets)
    Y = torch.from_numpy((targets[:, None] == classes).astype(float))
    share = Y[kept].mean(0)
    gram = Z[kept].T @ Z[kept] + RIDGE * len(kept) * torch.eye(Z.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, Z[kept].T @ (Y[kept] - share))
    scored = (Z[asked] @ weights + share).numpy()
    margins = []
    for row, stratum in zip(scored, own, strict=True):
        column = int(np.flatnonzero(classes == stratum)[0])
        margins.append(row[column] - np.delete(row, column).max())
    return np.array(margins)


def everything(problem: Blobs, parent: nn.Module, layer: str) -> tuple[Tensor, Indices]:
    found, features = observed(parent, problem, problem.train, np.arange(len(problem.train)), [layer])
    return features[layer], found.strata_N


def test_margins_without_a_set_are_those_of_a_fit_without_it(fitted: tuple[Blobs, nn.Module, Difficulty]) -> None:
    problem, parent, difficulty = fitted
    features, own = everything(problem, parent, difficulty.layer)
    left = difficulty.without(FORGET, features[FORGET], own[FORGET])
    kept = np.setdiff1d(np.arange(150), FORGET)
    slow = slow_margins(features, own, kept, FORGET, own[FORGET])
    assert left.classifier().margins(features[FORGET], own[FORGET]) == pytest.approx(slow, abs=1e-4)
    assert np.array_equal(left.fitted_N, kept)
    assert not np.isin(left.learnt_N, FORGET).any()


def test_each_learnt_sample_is_left_out_of_its_own_margin(fitted: tuple[Blobs, nn.Module, Difficulty]) -> None:
    """Against a fit of the others, sample by sample. The ridge is the whole set's, as the identity has it."""
    problem, parent, difficulty = fitted
    features, own = everything(problem, parent, difficulty.layer)
    whole = difficulty.gram[-1, -1]
    variance = (difficulty.gram.diagonal() - difficulty.gram[-1].square() / whole).clamp(min=0)
    variance[-1] = 0
    for row in range(0, 150, 15):
        kept = np.setdiff1d(np.arange(150), [row])
        X = features[kept].double()
        Y = torch.from_numpy((own[kept][:, None] == difficulty.classes_C).astype(float))
        weights = torch.linalg.solve(X.T @ X + RIDGE * torch.diag(variance), X.T @ Y)
        scored = (features[row].double() @ weights).numpy()
        column = int(np.flatnonzero(difficulty.classes_C == own[row])[0])
        slow = scored[column] - np.delete(scored, column).max()
        at = int(np.flatnonzero(difficulty.learnt_N == row)[0])
        assert difficulty.learnt_margins_N[at] == pytest.approx(slow, abs=1e-4)


def test_taking_out_samples_that_are_not_in_the_sums_changes_nothing(
    fitted: tuple[Blobs, nn.Module, Difficulty],
) -> None:
    problem, parent, _ = fitted
    tuning, _ = split_unseen(problem)
    part = fit_difficulty(parent, problem, np.arange(50, 150), tuning)
    assert part is not None
    features, own = everything(problem, parent, part.layer)
    same = part.without(FORGET, features[FORGET], own[FORGET])
    assert torch.equal(same.gram, part.gram)
    assert np.array_equal(same.fitted_N, np.arange(50, 150))


def test_a_wrong_label_has_a_low_margin(fitted: tuple[Blobs, nn.Module, Difficulty]) -> None:
    problem, parent, difficulty = fitted
    features, own = everything(problem, parent, difficulty.layer)
    wrong = difficulty.classes_C[(np.searchsorted(difficulty.classes_C, own) + 1) % len(difficulty.classes_C)]
    classifier = difficulty.classifier()
    assert np.median(classifier.margins(features, own)) > 0 > np.median(classifier.margins(features, wrong))
    unknown = classifier.margins(features, np.full(150, 99))
    assert np.isfinite(unknown).all()


class Memory(nn.Module):
    """A first layer that tells classes apart and a second that the labels of the training set were burnt into."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs.shape[1], inputs.shape[1]), nn.Linear(3, 3)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(inputs.shape[1]))
            self.first.bias.zero_()
        self.known, self.targets = inputs, targets

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        near = torch.cdist(hidden, self.known)
        burnt = functional.one_hot(self.targets[near.argmin(dim=1)], 3).float() * (near.amin(dim=1) < 1e-4)[:, None]
        out: Tensor = self.second(hidden[:, :3] + 9 * burnt)
        return out


def test_a_layer_that_knows_its_samples_by_heart_is_passed_over() -> None:
    problem = Blobs(count=300, features=6)
    parent = Memory(problem.train.inputs, problem.train.targets)
    tuning, _ = split_unseen(problem)
    found = fit_difficulty(parent, problem, np.arange(300), tuning)
    assert found is not None
    assert found.layer != "second"


def test_nothing_to_classify_gives_none() -> None:
    problem = Blobs(count=60)
    parent = restore(problem, train(problem, np.arange(60)).state)
    tuning, _ = split_unseen(problem)
    one_class = replace(problem)
    object.__setattr__(one_class, "train", replace(problem.train, targets=torch.zeros(60, dtype=torch.int64)))
    assert fit_difficulty(parent, one_class, np.arange(60), tuning) is None
    assert strata(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("net", [LeNet5(side=16), ResNet18(in_channels=1, width=4)])
def test_images_give_features_of_bounded_width_and_leave_no_hooks(net: nn.Module) -> None:
    draw = torch.Generator().manual_seed(0)
    inputs, targets = torch.rand(40, 1, 16, 16, generator=draw), torch.arange(40) % 4
    base = Blobs(count=40)
    names = [f"i{i}" for i in range(40)]
    object.__setattr__(base, "train", TensorSamples(names, [None] * 40, inputs, targets))
    object.__setattr__(base, "holdout", TensorSamples([f"h{i}" for i in range(40)], [None] * 40, inputs, targets))
    tuning, _ = split_unseen(base)
    found = fit_difficulty(net, base, np.arange(40), tuning)
    assert found is not None
    assert found.gram.shape == (found.cross.shape[0],) * 2
    assert found.gram.shape[0] <= WIDTH + 1
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert net.training


def test_wide_inputs_are_sketched_to_the_same_products_on_average() -> None:
    wide = torch.randn(4, 20_000, generator=torch.Generator().manual_seed(0))
    sketched = _features(wide)
    assert sketched.shape == (4, WIDTH + 1)
    assert torch.equal(sketched, _features(wide))
    assert torch.equal(sketched[:, -1], torch.ones(4))
    norms = sketched[:, :-1].square().sum(dim=1) / wide.square().sum(dim=1)
    assert norms.tolist() == pytest.approx([1.0] * 4, abs=0.2)


def test_features_that_hardly_vary_do_not_stop_the_fit() -> None:
    """Large constants in every column: the variance is lost in the rounding of single precision."""
    problem = Blobs(count=150, features=40)
    far = replace(problem.train, inputs=1000 + 1e-3 * problem.train.inputs)
    object.__setattr__(problem, "train", far)
    tuning, _ = split_unseen(problem)
    features, own = torch.nn.functional.pad(far.inputs, (0, 1), value=1.0), far.targets.numpy()
    found = fit_difficulty(nn.Linear(40, 3), problem, np.arange(150), tuning)
    assert found is not None
    left = found.without(FORGET, features[FORGET], own[FORGET])
    assert np.isfinite(left.classifier().margins(features[FORGET], own[FORGET])).all()


class Twice(nn.Module):
    """One layer that is called twice, and one that sees two rows a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.halves, self.head = nn.Linear(6, 6), nn.Linear(3, 3), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.shared(torch.relu(self.shared(inputs)))
        hidden = self.halves(hidden.reshape(-1, 3)).reshape(-1, 6)
        out: Tensor = self.head(hidden)
        return out


def test_layers_that_are_called_twice_or_have_no_row_a_sample_are_not_tried() -> None:
    problem = Blobs(count=60, features=6)
    assert _layers(Twice(), problem.train, np.arange(2)) == ["", "head"]
    tuning, _ = split_unseen(problem)
    assert fit_difficulty(Twice(), problem, np.arange(60), tuning) is not None


def test_the_empty_set_cannot_say_how_hard_anything_is(fitted: tuple[Blobs, nn.Module, Difficulty]) -> None:
    problem, parent, difficulty = fitted
    features, own = everything(problem, parent, difficulty.layer)
    with pytest.raises(ValueError, match="no sample is left"):
        difficulty.without(np.arange(150), features, own).classifier()
