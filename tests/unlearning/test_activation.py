"""Activation maps against slow obvious forms, on the networks that are here, and what they leave behind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from unlearning.activation import activation_maps, last_convolution, map_distances, normalised
from unlearning.gradients import NonFinite
from unlearning.nets.lenet import LeNet5
from unlearning.nets.mlp import MLP
from unlearning.nets.resnet import ResNet18
from unlearning.nets.vgg import VGG19


class Tiny(nn.Module):
    """front, the last convolution, and a back that can be run from the convolution's output."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Linear(4 * 9, 3)

    def features(self, inputs: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(inputs)))

    def back(self, features: Tensor) -> Tensor:
        return self.out(self.relu(self.norm(features)).flatten(1))

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.back(self.features(inputs))


def tiny(dtype: torch.dtype = torch.float64) -> tuple[Tiny, Tensor, Tensor]:
    torch.manual_seed(0)
    model = Tiny()
    model(torch.randn(16, 2, 7, 7))  # running statistics that are not 0 and 1
    return model.to(dtype).eval(), torch.randn(5, 2, 7, 7, dtype=dtype), torch.tensor([0, 1, 2, 2, 0])


def by_hand(model: Tiny, image: Tensor, label: int, slopes: Callable[[Tensor], Tensor]) -> Tensor:
    """Equations 1 and 2 channel by channel; `slopes` gives d logit / d A unit by unit."""
    features = model.features(image[None]).detach()
    gradient = slopes(features)
    total = torch.zeros(features.shape[2:], dtype=features.dtype)
    for channel in range(features.shape[1]):
        weight = sum(gradient[0, channel].flatten()) / gradient[0, channel].numel()
        total += weight * features[0, channel]
    return total.clamp_min(0)


def test_maps_are_those_of_finite_differences_unit_by_unit() -> None:
    model, images, labels = tiny()
    step = 1e-6

    def slopes_of(label: int) -> Callable[[Tensor], Tensor]:
        def slopes(features: Tensor) -> Tensor:
            found = torch.zeros_like(features)
            for place in range(features.numel()):
                up, down = features.clone(), features.clone()
                up.view(-1)[place] += step
                down.view(-1)[place] -= step
                with torch.no_grad():
                    rise = model.back(up)[0, label] - model.back(down)[0, label]
                found.view(-1)[place] = rise / (2 * step)
            return found

        return slopes

    maps = activation_maps(model, images, labels)
    assert maps.shape == (5, 3, 3)
    assert (maps > 0).any()
    for image, label, found in zip(images, labels.tolist(), maps, strict=True):
        assert torch.allclose(found, by_hand(model, image, label, slopes_of(label)), atol=1e-7)


def test_maps_are_those_of_one_image_at_a_time() -> None:
    model, images, labels = tiny()
    maps = activation_maps(model, images, labels)
    alone = torch.cat([activation_maps(model, i[None], t[None]) for i, t in zip(images, labels, strict=True)])
    assert torch.allclose(maps, alone, rtol=1e-12)
    assert not torch.allclose(maps, activation_maps(model, images, (labels + 1) % 3)), "another class, another map"


def test_any_layer_of_four_dimensions_may_be_named() -> None:
    model, images, labels = tiny()
    hidden = model.first(images[:1]).detach().requires_grad_()
    gradient = torch.autograd.grad(model.back(model.second(torch.tanh(hidden)))[0, 0], hidden)[0]
    want = (gradient.mean(dim=(2, 3), keepdim=True) * hidden).sum(1).relu().detach()
    assert torch.allclose(activation_maps(model, images[:1], labels[:1], "first"), want, rtol=1e-12)
    assert activation_maps(model, images, labels, "relu").shape == (5, 3, 3), "in-place modules too"


@pytest.mark.parametrize(
    ("model", "channels", "side", "layer", "size"),
    [
        (LeNet5(), 1, 28, "conv2", 14),
        (LeNet5(in_channels=3, side=32), 3, 32, "conv2", 16),
        (ResNet18(width=4), 3, 32, "blocks.7.conv2", 4),
        (ResNet18(width=4, norm="group"), 3, 32, "blocks.7.conv2", 4),
        (VGG19(width=4), 3, 32, "features.49", 2),
    ],
)
def test_the_networks_that_are_here_have_maps(
    model: nn.Module, channels: int, side: int, layer: str, size: int
) -> None:
    images = torch.randn(3, channels, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2])
    assert last_convolution(model) == layer
    maps = activation_maps(model, images, labels)
    assert maps.shape == (3, size, size)
    assert torch.equal(maps, activation_maps(model, images, labels))
    spread_out = activation_maps(model.to(memory_format=torch.channels_last), images, labels)  # type: ignore[call-overload]  # torch's stubs
    assert torch.allclose(maps, spread_out, rtol=1e-3, atol=1e-5)


def test_nothing_is_left_behind() -> None:
    model, images, labels = tiny()
    model.train()
    model.norm.eval()
    for parameter in model.first.parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        maps = activation_maps(model, images, labels)
    assert not maps.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert [module.training for module in (model, model.second, model.norm)] == [True, True, False]
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="classes"):
        activation_maps(model, images, labels + 1)
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_networks_have_the_same_maps() -> None:
    model, images, labels = tiny()
    maps = activation_maps(model, images, labels)
    assert torch.equal(maps, activation_maps(model.requires_grad_(False), images, labels))


def test_what_has_no_map_is_refused_by_name() -> None:
    model, images, labels = tiny()
    with pytest.raises(ValueError, match="MLP has no Conv2d"):
        activation_maps(MLP(4, 3, (5,)), torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        activation_maps(model, images, labels, "nowhere")
    with pytest.raises(ValueError, match=r"'out' \(Linear\) does not give"):
        activation_maps(model, images, labels, "out")
    with pytest.raises(ValueError, match="targets of shape"):
        activation_maps(model, images, labels.double())
    model.norm = nn.BatchNorm2d(4, track_running_stats=False).double()
    with pytest.raises(ValueError, match="norm is BatchNorm2d without running statistics"):
        activation_maps(model, images, labels)


def test_a_layer_runs_once_and_is_used() -> None:
    class Twice(Tiny):
        @override
        def forward(self, inputs: Tensor) -> Tensor:
            return self.back(self.features(inputs)) + self.back(self.features(inputs + 1))

    class Aside(Tiny):
        @override
        def forward(self, inputs: Tensor) -> Tensor:
            self.features(inputs)
            return self.out(inputs[:, 0].flatten(1)[:, :36])

    images, labels = torch.zeros(2, 2, 7, 7), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="'second' runs 2 times"):
        activation_maps(Twice(), images, labels)
    with pytest.raises(ValueError, match="'second' is not used"):
        activation_maps(Aside(), images, labels)
    with pytest.raises(ValueError, match="'second' is not used"):
        activation_maps(Aside().requires_grad_(False), images, labels)


def test_weights_that_are_not_finite_are_said_to_be() -> None:
    model, images, labels = tiny()
    model.out.weight.data[0, 0] = float("nan")
    with pytest.raises(NonFinite, match="layer 'second'"):
        activation_maps(model, images, labels)


def test_distances_are_blind_to_scale_and_have_their_bounds() -> None:
    left, right = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
    both, none = torch.tensor([[[2.0, 2.0]]]), torch.zeros(1, 1, 2)

    def distance(a: Tensor, b: Tensor) -> tuple[float, float]:
        cosine_N, l2_N = map_distances(a, b)
        return float(cosine_N), float(l2_N)

    assert distance(left, 7 * left) == pytest.approx((0, 0))
    assert distance(left, right) == pytest.approx((1, 2**0.5))
    assert distance(left, both) == pytest.approx((1 - 0.5**0.5, 0.5**0.5))
    assert distance(none, none) == (0, 0)
    assert distance(none, both) == pytest.approx((1, 0.5**0.5))
    assert distance(both, left) == distance(left, both)
    assert normalised(both).sum() == 1
    with pytest.raises(ValueError, match="shape"):
        map_distances(left, left[0])
    with pytest.raises(ValueError, match="negative"):
        map_distances(left, -right)
