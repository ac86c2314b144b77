"""VGG-19 for small images."""

from torch import Tensor, nn
from typing_extensions import override

from unlearning.nets.norms import Norm, check_sizes, norm_layer

STAGES = ((1, 2), (2, 2), (4, 4), (8, 4), (8, 4))  # channels in widths, convolutions; each stage ends in a pooling


class VGG19(nn.Module):
    """Configuration E of Simonyan and Zisserman 2015 with a norm after each convolution, in the form usual for CIFAR.

    That form has one linear layer as classifier where the original has three, and no dropout; convolutions keep their
    biases. Takes inputs_BCHW of shape (B, in_channels, side, side), gives logits of shape (B, classes). `width` is the
    channels of the first stage: 64 is full size (20,040,522 parameters for ten classes, three channels and side 32).

    Raises:
        ValueError: an unknown norm, a `side` that five poolings do not divide, or sizes that make no network.
    """

    def __init__(
        self, in_channels: int = 3, classes: int = 10, width: int = 64, norm: Norm = "batch", side: int = 32
    ) -> None:
        super().__init__()
        check_sizes(in_channels, classes, width)
        if side < 32 or side % 32:
            raise ValueError(f"side is {side}: five poolings need a positive multiple of 32")
        layers: list[nn.Module] = []
        narrow = in_channels
        for widths, convolutions in STAGES:
            for _ in range(convolutions):
                wide = widths * width
                layers += [nn.Conv2d(narrow, wide, 3, padding=1), norm_layer(norm, wide), nn.ReLU()]
                narrow = wide
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(narrow * (side // 32) ** 2, classes)

    @override
    def forward(self, inputs_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.classifier(self.features(inputs_BCHW).flatten(1))
        return logits_BC
