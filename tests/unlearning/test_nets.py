"""ResNet-18 and VGG-19 in the forms that are usual for CIFAR."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from unlearning.nets.resnet import ResNet18
from unlearning.nets.vgg import VGG19

NETS = pytest.mark.parametrize("net", [ResNet18, VGG19])
NORMS = pytest.mark.parametrize("norm", ["batch", "group"])


def size(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def test_full_size_resnet_has_the_known_number_of_parameters() -> None:
    with torch.device("meta"):
        assert size(ResNet18()) == 11_173_962
        assert size(ResNet18(classes=100)) == 11_173_962 + 90 * 513


def test_full_size_vgg_has_the_number_of_parameters_of_configuration_e() -> None:
    channels = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
    # 3x3 weights and a bias for each convolution, scale and shift for its norm, then one linear layer
    expected = sum(9 * narrow * wide + 3 * wide for narrow, wide in pairwise(channels))
    with torch.device("meta"):
        assert size(VGG19()) == expected + 512 * 10 + 10 == 20_040_522
        assert sum(isinstance(layer, nn.Conv2d) for layer in VGG19().modules()) == 16
        assert size(VGG19(side=64)) - size(VGG19()) == 3 * 512 * 10


@NETS
@NORMS
@pytest.mark.parametrize(("in_channels", "classes"), [(3, 10), (1, 7)])
def test_shapes(net: Callable[..., nn.Module], norm: str, in_channels: int, classes: int) -> None:
    model = net(in_channels=in_channels, classes=classes, width=4, norm=norm)
    assert model(torch.rand(2, in_channels, 32, 32)).shape == (2, classes)


def test_the_resnet_takes_any_side_and_the_vgg_its_own() -> None:
    assert ResNet18(width=2)(torch.rand(1, 3, 28, 20)).shape == (1, 10)
    assert VGG19(width=2, side=64)(torch.rand(2, 3, 64, 64)).shape == (2, 10)


@NETS
@NORMS
def test_every_parameter_gets_a_gradient(net: Callable[..., nn.Module], norm: str) -> None:
    torch.manual_seed(0)
    model = net(width=8, norm=norm)
    nn.functional.cross_entropy(model(torch.rand(8, 3, 32, 32)), torch.arange(8)).backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        assert bool(value.grad.isfinite().all()), name
        if not (
            norm == "batch" and net is VGG19 and name.endswith("bias")
        ):  # a norm by batch takes out biases before it
            assert bool(value.grad.any()), name


@NETS
def test_the_seed_decides_the_weights(net: Callable[..., nn.Module]) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(net(width=2).state_dict().values())

    assert all(torch.equal(one, other) for one, other in zip(weights(1), weights(1), strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(weights(1), weights(2), strict=True))


@NETS
def test_a_norm_by_group_keeps_nothing_of_a_batch_and_leaves_samples_apart(net: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    grouped, batched = net(width=4, norm="group").train(), net(width=4).train()
    assert not list(grouped.buffers())
    assert any("running_mean" in name for name, _ in batched.named_buffers())
    inputs = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(grouped(inputs)[:1], grouped(inputs[:1]), rtol=1e-4, atol=1e-5)


@NETS
def test_what_makes_no_network_is_refused(net: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="norm is 'layer'"):
        net(norm="layer")
    with pytest.raises(ValueError, match="not 24"):
        net(width=24, norm="group")
    for name in ("width", "classes", "in_channels"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            net(**{name: 0})


@pytest.mark.parametrize("side", [0, 16, 28, 48])
def test_a_side_that_five_poolings_do_not_divide_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match=f"side is {side}"):
        VGG19(side=side)
