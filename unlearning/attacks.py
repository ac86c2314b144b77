"""Two attacks beside the loss threshold, fitted once on a version and asked of every update of it.

The paper's attack is a network on what the model answers; the other looks a layer deeper, at how near a sample lies to
what the model learnt of its class. Both are fitted on members of the version against the tuning half of the holdout, and
stay as they are for the updated model: so a change of their calls is a change of the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from unlearning import optimizers
from unlearning.difficulty import catching
from unlearning.gradients import CHUNK, chunks, evaluating
from unlearning.problem import Indices, Problem, Samples, ordered, strata
from unlearning.splits import TuningData
from unlearning.training import State

WIDTHS = (256, 128, 32)
EPOCHS = 50
BATCH = 8192
LEARNING_RATE = 0.01
SHRINKAGE = 0.1  # of each feature's variance towards the mean of all: a feature that never varies does not decide alone
NETWORK = "network/"
CENTRES = "centres/"


def network(features: int) -> nn.Sequential:
    """The paper's attack network, 2C-256-128-32-1 with dropout 0.5; one logit, positive for a member."""
    layers: list[nn.Module] = []
    for width in WIDTHS:
        layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(0.5)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, 1))


def answers(outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
    """features_B2C of the paper's attack: softmax less one-hot, then one-hot."""
    truth_BC = functional.one_hot(targets_B.long(), outputs_BC.shape[1]).float()
    return torch.cat([outputs_BC.softmax(1) - truth_BC, truth_BC], 1)


def fit_network(members_MF: Tensor, others_NF: Tensor, seed: int) -> State:
    """The weights of the paper's attack, from its features of members and of others, on the CPU; one seed, one result.

    Source: Liu et al. 2025 (arXiv:2507.23257), released code: Adam 0.01, binary cross entropy, 50 epochs in batches of 8192.
    """
    inputs = torch.cat([members_MF, others_NF])
    truth = torch.cat([torch.ones(len(members_MF)), torch.zeros(len(others_NF))])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: nothing else is drawn from
        attack = network(inputs.shape[1])
        optimizer = optimizers.adam(attack.parameters(), LEARNING_RATE)
        for _ in range(EPOCHS):
            for chosen in torch.split(torch.randperm(len(inputs)), BATCH):
                loss = functional.binary_cross_entropy_with_logits(attack(inputs[chosen]).squeeze(1), truth[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
                optimizer.step()
    return dict(attack.state_dict())


def restored_network(attack: State, device: torch.device) -> nn.Sequential:
    """A fitted attack in eval mode; takes nothing from the random state."""
    with torch.device("meta"):
        found = network(attack["0.weight"].shape[1])
    found.load_state_dict({name: value.to(device) for name, value in attack.items()}, assign=True)
    return found.eval()


@dataclass(frozen=True)
class Centres:
    """Where a version puts its classes in the input of its last linear layer.

    `classes_C` ascending; `means_CD` has a row more, the mean of all members, for classes that none of them is of;
    `variance_D` is that within classes, shared by all and shrunk. All on the CPU, means and variance in float64.
    """

    layer: str
    classes_C: Indices
    means_CD: Tensor
    variance_D: Tensor

    def distances(self, features_BD: Tensor, strata_B: Indices) -> Tensor:
        """distance_B to the own class's mean in standard deviations, in float64 on the device of the features.

        The diagonal case of Mahalanobis's distance with one covariance for all classes (as Lee et al. 2018,
        arXiv:1807.03888, who take the full one and the nearest class).
        """
        places_B = np.searchsorted(self.classes_C, strata_B)
        known_B = self.classes_C[np.minimum(places_B, len(self.classes_C) - 1)] == strata_B
        rows_B = torch.from_numpy(np.where(known_B, places_B, len(self.classes_C)))
        away_BD = features_BD.double() - self.means_CD[rows_B].to(features_BD.device)
        return (away_BD.square() / self.variance_D.to(features_BD.device)).sum(dim=1).sqrt()


def fit_centres(layer: str, features_ND: Tensor, strata_N: Indices) -> Centres:
    """Class means and the shrunk variance within classes of some members' features (N, D).

    variance_d = (1 - s) v_d + s mean(v), s = `SHRINKAGE`, v_d over N less the number of classes.
    """
    features_ND = features_ND.detach().double().cpu()
    classes_C, places_N = np.unique(strata_N, return_inverse=True)
    own_NC = functional.one_hot(torch.from_numpy(places_N), len(classes_C)).double()
    means_CD = (own_NC.T @ features_ND) / own_NC.sum(dim=0)[:, None]
    within_ND = features_ND - means_CD[torch.from_numpy(places_N)]
    variance_D = within_ND.square().sum(dim=0) / max(1, len(features_ND) - len(classes_C))
    shrunk_D = (1 - SHRINKAGE) * variance_D + SHRINKAGE * variance_D.mean()
    means_CD = torch.cat([means_CD, features_ND.mean(dim=0, keepdim=True)])
    return Centres(layer, classes_C.astype(np.int64), means_CD, shrunk_D.clamp(min=1e-12))


@dataclass(frozen=True)
class Attacks:
    """Both attacks of a version, and the members they were fitted on. None where there is nothing to attack: no logits of
    classes, or no linear layer that is called once with one row a sample."""

    network: State | None
    centres: Centres | None
    fitted_N: Indices

    def knows(self, indices: Indices) -> NDArray[np.bool_]:
        """Which of these training samples, in ascending order, the attacks were fitted on: their calls prove nothing."""
        known_N: NDArray[np.bool_] = np.isin(np.sort(indices), self.fitted_N)
        return known_N

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, on the CPU, the layer's name as bytes."""
        flat = {"fitted_N": torch.from_numpy(np.array(self.fitted_N, dtype=np.int64))}
        flat |= {NETWORK + name: value.detach().cpu().contiguous() for name, value in (self.network or {}).items()}
        if self.centres is not None:
            flat[CENTRES + "layer"] = torch.tensor(list(self.centres.layer.encode()), dtype=torch.uint8)
            flat[CENTRES + "classes_C"] = torch.from_numpy(np.array(self.centres.classes_C))
            flat[CENTRES + "means_CD"] = self.centres.means_CD.contiguous()
            flat[CENTRES + "variance_D"] = self.centres.variance_D.contiguous()
        return flat

    @staticmethod
    def from_tensors(flat: Mapping[str, Tensor]) -> "Attacks":
        """What `tensors` gave.

        Raises:
            ValueError: a part is missing.
        """
        attack = {name.removeprefix(NETWORK): value for name, value in flat.items() if name.startswith(NETWORK)}
        parts = {name.removeprefix(CENTRES): value for name, value in flat.items() if name.startswith(CENTRES)}
        if "fitted_N" not in flat or (parts and parts.keys() != {field.name for field in fields(Centres)}):
            raise ValueError("these are no attacks: a part is missing")
        centres = None
        if parts:
            layer = bytes(parts["layer"].tolist()).decode()
            centres = Centres(layer, parts["classes_C"].numpy(), parts["means_CD"], parts["variance_D"])
        return Attacks(attack or None, centres, flat["fitted_N"].numpy())


def fit_attacks(model: nn.Module, problem: Problem, members_N: Indices, tuning: TuningData, seed: int = 0) -> Attacks:
    """Fit both on members of `model` against unseen tuning data: two passes of forward passes and a second of fitting.

    The network sees as many members as unseen samples, drawn from the larger set, so that its threshold of 1/2
    favours neither. Where we differ from the paper: the version itself stands in for the shadow models, whose training
    would cost as much as its own; so the attack is stronger than the paper's, and samples that it was fitted on may not
    be asked (`knows`).

    Raises:
        ValueError: there are no members, or one is named twice or out of range.
    """
    members_N = ordered(members_N, len(problem.train))
    if len(members_N) == 0:
        raise ValueError("an attack needs members to be fitted on")
    device = next(model.parameters()).device
    layer = penultimate(model, problem.train, members_N[:2], device)
    members = _seen(model, problem.train, members_N, layer, device)
    count = min(len(members_N), len(tuning.holdout))
    others = _seen(model, tuning.holdout, _drawn(len(tuning.holdout), count, seed), None, device)
    if members is None or others is None:
        return Attacks(None, None, members_N)
    chosen = torch.from_numpy(_drawn(len(members_N), count, seed))
    attack = fit_network(members.answers_NF[chosen], others.answers_NF, seed)
    centres = None if layer is None else fit_centres(layer, members.features_ND, members.strata_N)
    return Attacks(attack, centres, members_N)


def classified(outputs: object, targets: Tensor) -> bool:
    """Whether these are scores (B, C) of at least two classes, and targets (B,) that are among them."""
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
        return False
    if targets.shape != outputs.shape[:1] or targets.is_floating_point() or targets.is_complex():
        return False
    return bool(((targets >= 0) & (targets < outputs.shape[1])).all())


def penultimate(model: nn.Module, samples: Samples, few: Indices, device: torch.device) -> str | None:
    """The linear layer that is called last, where it is called once and takes (B, D); None otherwise."""
    calls: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls.append((name, tuple(inputs[0].shape)))

        return module.register_forward_pre_hook(hook)

    handles = [note(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    try:
        with evaluating(model), torch.no_grad():
            model(samples.batch(few)[0].to(device))
    finally:
        for handle in handles:
            handle.remove()
    if not calls:
        return None
    last, shape = calls[-1]
    once = [name for name, _ in calls].count(last) == 1
    return last if once and len(shape) == 2 and shape[0] == len(few) else None


@dataclass(frozen=True)
class _Seen:
    answers_NF: Tensor
    features_ND: Tensor
    strata_N: Indices


def _seen(
    model: nn.Module, samples: Samples, indices_N: Indices, layer: str | None, device: torch.device
) -> _Seen | None:
    """What both attacks read of some samples, on the CPU; None where these are not answers in classes."""
    found: list[Tensor] = []
    caught_ND: list[Tensor] = [torch.empty(0)] if layer is None else []
    groups: list[Indices] = []
    with catching(model, [] if layer is None else [layer]) as caught, evaluating(model), torch.no_grad():
        for inputs, targets in chunks(samples, indices_N, CHUNK, device):
            outputs = model(inputs)
            if not classified(outputs, targets):
                return None
            found.append(answers(outputs.float(), targets).cpu())
            groups.append(strata(targets))
            if layer is not None:
                caught_ND.append(features_of(caught[layer]).cpu())
    return _Seen(torch.cat(found), torch.cat(caught_ND), np.concatenate(groups))


def features_of(caught: list[Tensor]) -> Tensor:
    """features_BD of the pass just made, taken off the list that `catching` keeps, without its constant."""
    return caught.pop()[:, :-1]


def _drawn(length: int, count: int, seed: int) -> Indices:
    """`count` of `length` positions at random, ascending: every n-th would take one class of data that is in turns."""
    return np.sort(np.random.default_rng(seed).permutation(length)[:count])
