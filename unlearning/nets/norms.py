"""The normalisation a convolutional network takes: by batch, or by group within a sample."""

from typing import Literal

from torch import nn

Norm = Literal["batch", "group"]
GROUP = 16


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """BatchNorm2d, or GroupNorm in groups of 16 channels (one group where there are fewer).

    BatchNorm ties the samples of a batch together, so that in training mode none has a gradient of its own; GroupNorm
    keeps no running statistics and does not. Groups of 16 channels: Wu and He 2018, "Group Normalization", section 4.1.

    Raises:
        ValueError: an unknown norm; under `group` more than 16 channels that are no multiple of 16.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        if channels > GROUP and channels % GROUP:
            raise ValueError(f"norm 'group' takes at most {GROUP} channels or a multiple of it, not {channels}")
        return nn.GroupNorm(max(1, channels // GROUP), channels)
    raise ValueError(f"norm is {norm!r}: use 'batch' or 'group'")


def check_sizes(in_channels: int, classes: int, width: int) -> None:
    """Refuse sizes that make no network.

    Raises:
        ValueError: one of them is less than 1.
    """
    for name, value in (("in_channels", in_channels), ("classes", classes), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} is {value}: use at least 1")
