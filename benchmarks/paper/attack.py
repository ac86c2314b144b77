"""The membership attack that the paper's UE is measured with: a network on [softmax - one-hot, one-hot].

Source: Liu et al. 2025 (arXiv:2507.23257), released code: the network of `unlearning.attacks`, threshold 0.5, fitted on
shadow models. Where we differ: one shadow model with the problem's own architecture and recipe (theirs are three
ResNet18); its members and non-members are halves of the *tuning* half of the holdout, so that neither the target's data
nor the audit's is among them (theirs overlap the target's); shadow and target answer in eval mode; the attack's rate of
false positives is always reported.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.paper.variant import Variant
from benchmarks.problems import watched
from unlearning.attacks import answers, restored_network
from unlearning.gradients import chunks, evaluating
from unlearning.problem import Indices, Problem, Samples
from unlearning.splits import Subset
from unlearning.training import State, restore, train


def features(model: nn.Module, samples: Samples, indices: Indices) -> Tensor:
    """features_N2C on the CPU: softmax less one-hot, then one-hot; eval mode, in the order of `indices`."""
    found: list[Tensor] = []
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        for inputs, targets in chunks(samples, indices, 512, device):
            found.append(answers(model(inputs), targets).cpu())
    return torch.cat(found)


def shadow(problem: Problem, seed: int, device: str) -> dict[str, Tensor]:
    """Features of one shadow model on what it was trained on and on what it was not: `members` and `others`."""
    unseen = watched(problem).holdout
    assert isinstance(unseen, Subset)
    order_N = np.random.default_rng(seed).permutation(len(unseen))
    inside_N, outside_N = order_N[: len(order_N) // 2], order_N[len(order_N) // 2 :]
    recipe = replace(problem.recipe, seed=seed, patience=None, epochs=_epochs(problem))
    shadowed = Variant(problem, recipe, unseen)
    model = restore(problem, train(shadowed, inside_N, device=device).state, device)
    return {"members": features(model, unseen, inside_N), "others": features(model, unseen, outside_N)}


def _epochs(problem: Problem) -> int:
    """A shadow has nothing left to stop early by: where the recipe does, it is trained for a quarter of the epochs."""
    return problem.recipe.epochs if problem.recipe.patience is None else max(1, problem.recipe.epochs // 4)


def called_members(attack: State, features_NF: Tensor) -> float:
    """The share of rows that the attack calls members."""
    model = restored_network(attack, features_NF.device)
    with torch.no_grad():
        return float((model(features_NF).squeeze(1) > 0).double().mean())
