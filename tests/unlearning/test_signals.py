"""What one pass shows: the same scores as ever, and each signal as its definition has it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from tests.unlearning.memorised import Squares, memorised
from tests.unlearning.problems import Blobs
from unlearning.attacks import fit_attacks, penultimate, restored_network
from unlearning.gradients import scores
from unlearning.nets.lenet import LeNet5
from unlearning.problem import TensorSamples
from unlearning.signals import Signals, observe
from unlearning.splits import split_unseen


def test_signals_are_what_a_slow_look_shows() -> None:
    known = memorised()
    chosen = np.array([700, 3, 4, 250])
    found = observe(known.model, known.problem, known.problem.train, chosen, known.attacks, features=True)
    inputs, targets = known.problem.train.batch(np.sort(chosen))
    plain = scores(known.model, known.problem, known.problem.train, chosen)
    assert np.array_equal(found.scores.losses_N, plain.losses_N)
    assert np.array_equal(found.scores.correct_N, plain.correct_N)
    hidden = known.model.get_submodule("layers")[:-1](inputs)
    centres, network = known.attacks.centres, known.attacks.network
    assert found.features_ND is not None
    assert centres is not None
    assert network is not None
    assert found.predicted_N is not None
    assert found.top_N is not None
    assert found.network_N is not None
    assert found.distance_N is not None
    for i in range(4):
        outputs = known.model(inputs[i : i + 1])[0].detach()
        probabilities = outputs.double().softmax(0)
        assert found.predicted_N[i] == int(outputs.argmax())
        assert found.top_N[i] == pytest.approx(float(probabilities.max()), abs=1e-6)
        one_hot = functional.one_hot(targets[i], 4)
        asked = torch.cat([probabilities - one_hot, one_hot]).float()
        logit = restored_network(network, torch.device("cpu"))(asked).detach()
        assert found.network_N[i] == pytest.approx(float(logit), abs=1e-3)
        away = (hidden[i].detach().double() - centres.means_CD[int(targets[i])]) ** 2 / centres.variance_D
        assert found.distance_N[i] == pytest.approx(float(away.sum()) ** 0.5, rel=1e-5)
    torch.testing.assert_close(found.features_ND, hidden.detach())


def test_looking_changes_neither_the_mode_nor_the_random_state_and_gives_the_same_twice() -> None:
    known = memorised()
    known.model.train()
    before = torch.get_rng_state()
    one, two = known.unseen, known.unseen
    assert torch.equal(torch.get_rng_state(), before)
    assert known.model.training
    known.model.eval()
    assert all(torch.equal(value, two.tensors()[name]) for name, value in one.tensors().items())


def test_rows_and_tensors_keep_everything() -> None:
    known = memorised()
    found = observe(known.model, known.problem, known.problem.train, np.arange(6), known.attacks, features=True)
    again = Signals.from_tensors(load(save(found.tensors())))
    assert all(torch.equal(value, again.tensors()[name]) for name, value in found.tensors().items())
    some = found.rows(np.array([False, True, False, False, True, False]))
    alone = observe(known.model, known.problem, known.problem.train, np.array([1, 4]), known.attacks, features=True)
    for name, value in alone.tensors().items():
        torch.testing.assert_close(some.tensors()[name], value, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="scores are missing"):
        Signals.from_tensors({})
    with pytest.raises(ValueError, match="one value a sample"):
        Signals(found.scores, top_N=np.zeros(2))


def test_what_is_not_in_classes_has_scores_alone() -> None:
    problem = Blobs()
    squares = Squares()
    tuning, _ = split_unseen(problem)
    model = problem.build_model()
    attacks = fit_attacks(model, squares, np.arange(20), tuning)
    assert (attacks.network, attacks.centres) == (None, None)
    found = observe(model, squares, squares.train, None, attacks)
    assert (found.predicted_N, found.top_N, found.network_N, found.distance_N) == (None,) * 4
    assert np.array_equal(found.scores.losses_N, scores(model, squares, squares.train).losses_N)
    assert len(observe(model, problem, problem.train, np.empty(0, dtype=np.int64), None)) == 0


def test_without_attacks_there_are_the_answers_alone() -> None:
    problem = Blobs()
    found = observe(problem.build_model(), problem, problem.train, None, None)
    assert found.predicted_N is not None
    assert found.network_N is None
    assert found.distance_N is None


class Repeated(nn.Module):
    """One linear layer, called last and called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(6, 6)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        answered: Tensor = self.only(self.only(inputs))
        return answered


class Backwards(nn.Module):
    """Its linear layers are called in another order than they are named."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3)
        self.first = nn.Linear(6, 5)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        answered: Tensor = self.last(self.first(inputs))
        return answered


def test_the_penultimate_layer_is_found_by_the_order_of_calls() -> None:
    samples, cpu = Blobs().train, torch.device("cpu")
    few = np.arange(2)
    assert penultimate(Backwards(), samples, few, cpu) == "last"
    assert penultimate(Repeated(), samples, few, cpu) is None
    assert penultimate(nn.Sequential(nn.ReLU()), samples, few, cpu) is None
    assert penultimate(nn.Linear(6, 3), samples, few, cpu) == ""
    images = TensorSamples(["a", "b"], [None, None], torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64))
    assert penultimate(LeNet5(), images, few, cpu) == "fc3"
    rows = TensorSamples(["a", "b"], [None, None], torch.zeros(2, 7, 6), torch.zeros(2, dtype=torch.int64))
    assert penultimate(nn.Linear(6, 3), rows, few, cpu) is None  # a sequence: (B, T, D)
