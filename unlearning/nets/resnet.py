"""ResNet-18 for small images."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from unlearning.nets.norms import Norm, check_sizes, norm_layer

STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))  # channels in widths, stride of the first block; two blocks a stage


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is 1x1 where the shape changes (He et al. 2016, option B)."""

    def __init__(self, narrow: int, wide: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm_layer(norm, wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, wide)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or narrow != wide:
            self.shortcut = nn.Sequential(nn.Conv2d(narrow, wide, 1, stride=stride, bias=False), norm_layer(norm, wide))

    @override
    def forward(self, inputs_BCHW: Tensor) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(inputs_BCHW)))
        return torch.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs_BCHW))


class ResNet18(nn.Module):
    """He et al. 2016 in the form that is usual for CIFAR: a 3x3 stem of stride 1 and no max pooling.

    Takes inputs_BCHW of shape (B, in_channels, H, W), gives logits of shape (B, classes). The last stage is averaged
    over its pixels, so H and W are free; three strides of 2 make 4x4 of 32x32. `width` is the channels of the stem and
    first stage: 64 is full size (11,173,962 parameters for ten classes and three channels), the others have 2, 4 and 8
    times as many.

    Raises:
        ValueError: an unknown norm, or sizes that make no network.
    """

    def __init__(self, in_channels: int = 3, classes: int = 10, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        check_sizes(in_channels, classes, width)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), norm_layer(norm, width))
        blocks: list[nn.Module] = []
        narrow = width
        for widths, stride in STAGES:
            wide = widths * width
            blocks += [BasicBlock(narrow, wide, stride, norm), BasicBlock(wide, wide, 1, norm)]
            narrow = wide
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(narrow, classes)

    @override
    def forward(self, inputs_BCHW: Tensor) -> Tensor:
        hidden = self.blocks(torch.relu(self.stem(inputs_BCHW)))
        logits_BC: Tensor = self.classifier(hidden.mean(dim=(2, 3)))
        return logits_BC
