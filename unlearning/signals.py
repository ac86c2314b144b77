"""What one pass over some samples shows of them: the scores, and what each attack reads."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlearning.attacks import Attacks, Centres, answers, classified, features_of, restored_network
from unlearning.difficulty import catching
from unlearning.gradients import CHUNK, Scores, chunks, evaluating, losses_of
from unlearning.membership import Floats
from unlearning.problem import Indices, Problem, Samples, ordered, strata

SCORES = "scores."
BLOCK = 4096  # answers that go through the attack at once
SIGNALS = ("predicted_N", "top_N", "network_N", "distance_N")


@dataclass(frozen=True)
class Signals:
    """The scores of N samples, and per sample what attacks and utility read. None: the problem or model has no such thing.

    `predicted_N` is the class with the largest output, `top_N` its softmax probability; `network_N` is the logit of the
    paper's attack, above 0 for "member"; `distance_N` is the distance to the own class's members in the penultimate
    layer, smaller for a member. `features_ND` (float32, CPU) are that layer's features, where they were asked for.
    """

    scores: Scores
    predicted_N: Indices | None = None
    top_N: Floats | None = None
    network_N: Floats | None = None
    distance_N: Floats | None = None
    features_ND: Tensor | None = None

    def __post_init__(self) -> None:
        for name in (*SIGNALS, "features_ND"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.scores):
                raise ValueError(f"{name} needs one value a sample, as the scores have")

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, chosen: NDArray[np.bool_] | Indices) -> "Signals":
        """Some of the samples, by mask or position."""
        parts = {name: getattr(self, name) for name in SIGNALS}
        features_ND = None if self.features_ND is None else self.features_ND[torch.from_numpy(np.asarray(chosen))]
        found = {name: None if value is None else value[chosen] for name, value in parts.items()}
        return Signals(self.scores.rows(chosen), **found, features_ND=features_ND)

    def tensors(self) -> dict[str, Tensor]:
        """Everything there is by name, on the CPU."""
        flat = {SCORES + field.name: torch.from_numpy(getattr(self.scores, field.name)) for field in fields(Scores)}
        parts = {name: getattr(self, name) for name in SIGNALS}
        flat |= {name: torch.from_numpy(value) for name, value in parts.items() if value is not None}
        return flat if self.features_ND is None else flat | {"features_ND": self.features_ND.contiguous()}

    @staticmethod
    def from_tensors(flat: Mapping[str, Tensor]) -> "Signals":
        """What `tensors` gave.

        Raises:
            ValueError: the scores are missing.
        """
        names = [field.name for field in fields(Scores)]
        if not {SCORES + name for name in names} <= flat.keys():
            raise ValueError("these are no signals: the scores are missing")
        found = {name: flat[name].numpy() for name in SIGNALS if name in flat}
        scores = Scores(**{name: flat[SCORES + name].numpy() for name in names})
        return Signals(scores, **found, features_ND=flat.get("features_ND"))


def observe(
    model: nn.Module,
    problem: Problem,
    samples: Samples,
    indices: Indices | None,
    attacks: Attacks | None,
    features: bool = False,
) -> Signals:
    """Scores and signals of the named samples (all, if None), by one forward pass each in eval mode.

    In ascending order of indices and in the chunks of `gradients.scores`, so the scores are the same to the last bit.
    `attacks` are those of the version; without them their two signals are None. `features` keeps the penultimate
    layer's, as wide as `difficulty.WIDTH` at most.

    Raises:
        NonFinite: a loss is infinite or NaN.
        ValueError: an index is out of range or named twice; losses are not one a sample.
    """
    indices_N = ordered(np.arange(len(samples)) if indices is None else indices, len(samples))
    device = next(model.parameters()).device
    centres = None if attacks is None else attacks.centres
    attack = None if attacks is None or attacks.network is None else restored_network(attacks.network, device)
    scored: list[tuple[Tensor, Tensor, Indices]] = []
    answered: list[tuple[Tensor, Tensor]] = []
    kept: list[Tensor] = []
    with catching(model, [] if centres is None else [centres.layer]) as caught, evaluating(model), torch.no_grad():
        for inputs, targets in chunks(samples, indices_N, CHUNK, device):
            outputs, strata_B = model(inputs), strata(targets)
            scored.append((losses_of(problem, outputs, targets), problem.correct(outputs, targets), strata_B))
            if classified(outputs, targets):
                answered.append((outputs, targets))
            if centres is not None:
                kept.append(features_of(caught[centres.layer]))
    found = _scores(scored)
    features_ND = torch.cat(kept).float().cpu() if features and kept else None
    if not scored or len(answered) < len(scored):
        return Signals(found, features_ND=features_ND)
    distance_N = None if centres is None else _distances(centres, kept, found.strata_N)
    outputs_NC, targets_N = (torch.cat(column) for column in zip(*answered, strict=True))
    shown = _of_classes(outputs_NC, targets_N, attack)
    return Signals(found, **shown, distance_N=distance_N, features_ND=features_ND)


def _distances(centres: Centres, caught: list[Tensor], strata_N: Indices) -> Floats:
    ends = np.cumsum([len(features_BD) for features_BD in caught])[:-1]
    pairs = zip(caught, np.split(strata_N, ends), strict=True)
    distance_N: Floats = torch.cat([centres.distances(*pair) for pair in pairs]).cpu().numpy()
    return distance_N


def _scores(scored: list[tuple[Tensor, Tensor, Indices]]) -> Scores:
    if not scored:
        return Scores(np.empty(0), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64))
    losses, correct, groups = zip(*scored, strict=True)
    return Scores(
        torch.cat(losses).double().cpu().numpy(), torch.cat(correct).bool().cpu().numpy(), np.concatenate(groups)
    )


def _of_classes(outputs_NC: Tensor, targets_N: Tensor, attack: nn.Module | None) -> dict[str, Any]:
    """What answers in classes show: the answer, its probability and, where there is an attack, its logit."""
    predicted_N = outputs_NC.argmax(dim=1)
    top_N = outputs_NC.gather(1, predicted_N[:, None]).squeeze(1).double()
    parts = {"predicted_N": predicted_N, "top_N": (top_N - outputs_NC.double().logsumexp(dim=1)).exp()}
    if attack is not None:
        blocks = [slice(start, start + BLOCK) for start in range(0, len(outputs_NC), BLOCK)]
        with torch.no_grad():
            logits = [attack(answers(outputs_NC[rows].float(), targets_N[rows])).squeeze(1) for rows in blocks]
        parts["network_N"] = torch.cat(logits).double()
    return {name: value.cpu().numpy() for name, value in parts.items()}
