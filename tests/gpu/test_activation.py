"""Activation maps on a CUDA device: those of the CPU, within what convolutions there round to."""

import pytest
import torch
from torch import nn

from unlearning.activation import activation_maps, map_distances
from unlearning.nets.lenet import LeNet5
from unlearning.nets.resnet import ResNet18

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]


@pytest.mark.parametrize(("model", "channels"), [(LeNet5(side=32), 1), (ResNet18(width=8), 3)])
def test_maps_are_those_of_the_cpu(model: nn.Module, channels: int) -> None:
    images = torch.randn(8, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    here = activation_maps(model, images, labels)
    there = activation_maps(model.cuda(), images, labels)
    assert there.is_cuda
    cosine_N, _ = map_distances(there, here)
    assert float(cosine_N.max()) < 1e-3
