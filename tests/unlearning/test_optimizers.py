"""The same steps as torch's own, to the bit, in a process that never imports torch's compiler."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlearning.optimizers import adam, sgd

Make = Callable[[list[nn.Parameter]], Optimizer]
PAIRS: dict[str, tuple[Make, Make]] = {
    "adam": (lambda p: adam(p, 0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
    "adam that decays": (lambda p: adam(p, 0.1, 0.01), lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01)),
    "sgd": (lambda p: sgd(p, 0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "sgd with momentum": (
        lambda p: sgd(p, 0.1, 0.9, 0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
}


def steps(make: Make, count: int, saved: bool) -> list[Tensor]:
    """Weights after so many steps; `saved` puts the optimizer's state aside and takes it up again in their middle."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = make(list(model.parameters()))
    for number in range(count):
        if saved and number == count // 2:
            kept, optimizer = optimizer.state_dict(), make(list(model.parameters()))
            optimizer.load_state_dict(kept)
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("saved", [False, True], ids=["at a stretch", "taken up again"])
@pytest.mark.parametrize("name", PAIRS)
def test_it_steps_as_torch_does(name: str, saved: bool) -> None:
    ours, torchs = PAIRS[name]
    for mine, theirs in zip(steps(ours, 6, saved), steps(torchs, 6, saved=False), strict=True):
        assert torch.equal(mine, theirs)


def test_a_step_is_no_part_of_a_graph() -> None:
    weights = nn.Parameter(torch.ones(2))
    optimizer = sgd([weights], 0.1)
    weights.sum().backward()
    optimizer.step()
    assert weights.requires_grad
    assert weights.is_leaf


TRAINING = """
import sys
from dataclasses import replace
import numpy as np
from tests.unlearning.problems import RECIPE, Blobs
from unlearning.training import train
for name in ("adam", "sgd"):
    train(Blobs(recipe=replace(RECIPE, optimizer=name)), np.arange(40))
sys.exit("torch._dynamo" in sys.modules)
"""


def test_a_training_imports_no_compiler() -> None:
    subprocess.run([sys.executable, "-c", TRAINING], check=True)
