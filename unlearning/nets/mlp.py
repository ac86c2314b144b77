"""A multilayer perceptron for vectors."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from typing_extensions import override


class MLP(nn.Module):
    """Linear layers with ReLU between them. Takes inputs of shape (B, ...), flattened; gives logits (B, classes)."""

    def __init__(self, features: int, classes: int, hidden: Sequence[int] = (128,)) -> None:
        super().__init__()
        widths = [features, *hidden]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Linear(narrow, wide), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        logits_BC: Tensor = self.layers(inputs.flatten(1))
        return logits_BC
