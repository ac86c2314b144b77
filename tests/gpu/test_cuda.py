"""The engine on a CUDA device: the same numbers as on the CPU, within what its arithmetic allows. `make test-gpu` runs it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.unlearning.problems import Blobs
from unlearning.calibrated import CalibratedSettings, unlearn_calibrated
from unlearning.evidence import gather, stand
from unlearning.gradients import gradient_sum, scores
from unlearning.iau import IauSettings, unlearn
from unlearning.problem import Recipe
from unlearning.sample_norms import per_sample_squared_norms
from unlearning.splits import split_unseen
from unlearning.training import restore, train
from unlearning.validation import validate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]
PROBLEM = Blobs(count=400, features=20, hidden=(64,), recipe=Recipe("adam", 3e-3, 30, 32, 0.001, "per-sample", seed=1))
EVERYTHING, FORGET = np.arange(400), np.arange(40)
RETAIN = np.setdiff1d(EVERYTHING, FORGET)


def on_both() -> tuple[nn.Module, nn.Module]:
    state = train(PROBLEM, EVERYTHING).state
    return restore(PROBLEM, state), restore(PROBLEM, state, "cuda")


def test_gradient_sums_and_scores_are_those_of_the_cpu() -> None:
    cpu, cuda = on_both()
    one, other = (gradient_sum(model, PROBLEM, PROBLEM.train, EVERYTHING) for model in (cpu, cuda))
    for name, value in one.vector.items():
        assert torch.allclose(other.vector[name].cpu(), value, rtol=1e-3, atol=1e-4)
    seen = [scores(model, PROBLEM, PROBLEM.test).losses_N for model in (cpu, cuda)]
    assert np.allclose(seen[0], seen[1], rtol=1e-4, atol=1e-5)


def test_per_sample_norms_are_those_of_the_cpu() -> None:
    inputs, targets = PROBLEM.train.batch(np.arange(16))
    cpu, cuda = on_both()
    one = per_sample_squared_norms(cpu, PROBLEM, inputs, targets)
    other = per_sample_squared_norms(cuda, PROBLEM, inputs.cuda(), targets.cuda())
    assert torch.allclose(other.cpu(), one, rtol=1e-3, atol=1e-6)


def test_training_on_the_device_learns() -> None:
    trained = restore(PROBLEM, train(PROBLEM, EVERYTHING, device="cuda").state, "cuda")
    assert float(scores(trained, PROBLEM, PROBLEM.train).correct_N.mean()) > 0.9


def test_both_rungs_and_their_validation_run_there() -> None:
    _, parent = on_both()
    tuning, audit = split_unseen(PROBLEM)
    total = gradient_sum(parent, PROBLEM, PROBLEM.train, EVERYTHING)
    standing = stand(parent, PROBLEM, EVERYTHING, tuning, audit)
    one_shot = unlearn(parent, PROBLEM, FORGET, total, tuning, IauSettings())
    bounded = unlearn_calibrated(parent, PROBLEM, FORGET, RETAIN, tuning, replace(CalibratedSettings(), passes=20))
    for state in (one_shot.state, bounded.state):
        child = restore(PROBLEM, state, "cuda")
        figures = validate(gather(standing, parent, child, PROBLEM, FORGET, audit))
        assert figures["mu"].low <= figures["mu"].estimate <= figures["mu"].high
        assert all(value.device.type == "cpu" for value in state.values())
