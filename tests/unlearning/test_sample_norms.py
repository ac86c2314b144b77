"""Per-sample gradient norms, and their own gradients, against batches of one: obviously right, and slow."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from typing_extensions import override

from tests.unlearning.problems import Blobs
from unlearning.nets.lenet import LeNet5
from unlearning.sample_norms import layerwise_applies, losses_and_squared_norms, per_sample_squared_norms

PROBLEM = Blobs()


class Net(nn.Module):
    """A layer under test between a smooth layer before and a head after, so that its input carries a gradient too."""

    def __init__(self, before: nn.Module, layer: nn.Module, channels_last: bool = False) -> None:
        super().__init__()
        self.before, self.layer, self.channels_last = before, layer, channels_last

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.before(inputs)) if inputs.is_floating_point() else inputs
        if self.channels_last:
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        made: Tensor = torch.tanh(self.layer(hidden)).flatten(1)
        return torch.stack([made.sum(1), made[:, ::2].sum(1), made.square().sum(1)], 1)


def oracle(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """One sample at a time, by autograd alone; what the loss does not depend on counts nothing."""
    parameters = [value for value in model.parameters() if value.requires_grad]
    squares = [torch.zeros(0, dtype=torch.float64)]
    for i in range(len(targets)):
        loss = PROBLEM.losses(model(inputs[i : i + 1]), targets[i : i + 1]).sum()
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        squares.append(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().reshape(1))
    return torch.cat(squares)


def agrees(model: nn.Module, inputs: Tensor, by_layer: bool | None = True) -> None:
    """Values, and the gradients of a weighted sum of them with respect to every parameter."""
    model = model.double()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    targets = torch.arange(len(inputs)) % 3
    if by_layer is not None:
        assert layerwise_applies(model) is by_layer
    before = [(value, value.detach().clone(), value.requires_grad) for value in model.parameters()]
    plain_B = per_sample_squared_norms(model, PROBLEM, inputs, targets)
    losses_B, squared_B = losses_and_squared_norms(model, PROBLEM, inputs, targets, create_graph=True)
    expected_B = oracle(model, inputs, targets)
    assert not plain_B.requires_grad
    torch.testing.assert_close(plain_B, expected_B.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(squared_B, expected_B, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(losses_B, PROBLEM.losses(model(inputs), targets), rtol=1e-9, atol=1e-11)
    for value, (same, copy, trained) in zip(model.parameters(), before, strict=True):
        assert value is same
        assert value.grad is None
        assert value.requires_grad is trained
        assert torch.equal(value, copy)
    if len(inputs):
        weights_B = torch.linspace(0.5, 2, len(inputs), dtype=torch.float64)
        parameters = [value for value in model.parameters() if value.requires_grad]
        found = torch.autograd.grad((weights_B * squared_B).sum(), parameters, materialize_grads=True)
        expected = torch.autograd.grad((weights_B * expected_B).sum(), parameters, materialize_grads=True)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)


@PROPERTY
@given(
    count=st.integers(0, 4),
    rank=st.integers(0, 2),
    positions=st.integers(1, 5),
    wide=st.integers(1, 9),
    bias=st.booleans(),
)
def test_linear_on_any_leading_dimensions(count: int, rank: int, positions: int, wide: int, bias: bool) -> None:
    torch.manual_seed(count)
    leading = (count, *(positions,) * rank)
    agrees(Net(nn.Linear(3, wide), nn.Linear(wide, 4, bias=bias)), torch.randn(*leading, 3))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # says that torch copies
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    data=st.data(),
    count=st.integers(0, 3),
    groups=st.sampled_from([1, 1, 2]),
    each=st.sampled_from([2, 16]),
    bias=st.booleans(),
    dims=st.sampled_from([1, 2]),
    mode=st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]),
    channels_last=st.booleans(),
)
def test_convolutions(
    data: st.DataObject, count: int, groups: int, each: int, bias: bool, dims: int, mode: str, channels_last: bool
) -> None:
    torch.manual_seed(count)
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(dims))
    dilation = tuple(data.draw(st.integers(1, 2)) for _ in range(dims))
    padding = data.draw(st.sampled_from(["same", "valid", *((i,) * dims for i in range(3))]))
    stride = (1,) * dims if padding == "same" else tuple(data.draw(st.integers(1, 3)) for _ in range(dims))
    kind = nn.Conv1d if dims == 1 else nn.Conv2d
    layer = kind(4, each * groups, kernel, stride, padding, dilation, groups, bias, mode)
    sizes = (6, 7)[:dims]
    agrees(Net(kind(2, 4, 1), layer, channels_last and dims == 2), torch.randn(count, 2, *sizes))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2}, {"padding": 1}, {"padding": "same", "dilation": 2}, {"groups": 2}], ids=str
)
def test_convolutions_in_single_precision(settings: dict[str, object], channels_last: bool) -> None:
    """Which other kernels compute than in double precision."""
    torch.manual_seed(0)
    model = Net(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 6, 3, **settings), channels_last)  # type: ignore[arg-type]  # one of several settings
    inputs, targets = torch.randn(3, 2, 9, 8), torch.arange(3)

    def found() -> list[Tensor]:
        dtype = next(model.parameters()).dtype
        squared_B = per_sample_squared_norms(model, PROBLEM, inputs.to(dtype), targets, create_graph=True)
        return [squared_B, *torch.autograd.grad(squared_B.sum(), list(model.parameters()))]

    for single, double in zip(found(), (model.double(), found())[1], strict=True):
        assert single.dtype == torch.float32
        assert bool((single - double).norm() < 1e-3 * double.norm())


@PROPERTY
@given(count=st.integers(0, 4), positions=st.integers(1, 6), padding=st.sampled_from([None, 0, 2]))
def test_embedding_adds_up_repeated_tokens(count: int, positions: int, padding: int | None) -> None:
    torch.manual_seed(positions)
    model = nn.Sequential(nn.Embedding(4, 5, padding_idx=padding), Net(nn.Linear(5, 3), nn.Linear(3, 3)))
    agrees(model, torch.randint(0, 4, (count, positions)))


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["layer", "layer without bias", "layer over two", "group", "batch1", "batch2"])
def test_norm_layers(kind: str, affine: bool, count: int) -> None:
    torch.manual_seed(count)
    layer: nn.Module = {
        "layer": lambda: nn.LayerNorm(6, elementwise_affine=affine),
        "layer without bias": lambda: nn.LayerNorm(6, elementwise_affine=affine, bias=False),
        "layer over two": lambda: nn.LayerNorm((5, 6), elementwise_affine=affine),
        "group": lambda: nn.GroupNorm(2, 4, affine=affine),
        "batch1": lambda: nn.BatchNorm1d(4, affine=affine),
        "batch2": lambda: nn.BatchNorm2d(4, affine=affine),
    }[kind]()
    for value in (*layer.parameters(), *layer.buffers()):
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 2)
    flat = kind in ("layer", "layer without bias", "batch1")
    before: nn.Module = nn.Conv1d(2, 4, 1) if flat else nn.Conv2d(2, 4, 1)
    agrees(Net(before, layer).eval(), torch.randn(count, 2, *((6,) if flat else (5, 6))))


class Beside(nn.Module):
    """The weight of a layer that was called is read once more, by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(torch.tanh(self.layer(inputs)), self.layer.weight)[:, :3]


class TimeFirst(nn.Module):
    """Hands (T, B, features) to a layer: with T as large as B no shape tells."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tanh(self.layer(inputs.transpose(0, 1))).sum(0)


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 3)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        made: Tensor = self.two(torch.tanh(self.one(input=inputs)))
        return made


class Overwritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 3)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs)
        made: Tensor = self.two(hidden.mul(1.0))
        return made + hidden.mul_(2)[:, :3]


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    net[2].weight = net[0].weight
    return net


def twice() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(6, 3))


def with_unused() -> nn.Module:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            self.unused(inputs)
            made: Tensor = self.used(inputs)
            return made

    return Unused()


def frozen(which: str) -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    for name, value in net.named_parameters():
        value.requires_grad_(not name.startswith(which))
    return net


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize(
    ("build", "shape", "by_layer"),
    [
        (lambda: LeNet5(2, 3, 8), (2, 8, 8), True),
        (
            lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(108, 3)),
            (2, 8, 8),
            True,
        ),
        (twice, (6,), True),
        (tied, (6,), False),
        (Beside, (6,), True),
        (TimeFirst, (5, 6), True),
        (Overwritten, (6,), True),
        (ByKeyword, (6,), True),
        (with_unused, (6,), True),
        (lambda: frozen("0"), (6,), True),
        (lambda: frozen("2.bias"), (6,), True),
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.PReLU(), nn.Linear(6, 3)), (6,), False),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), nn.Linear(6, 3)), (6,), False),
        (lambda: nn.Sequential(nn.ConvTranspose1d(2, 3, 3), nn.Flatten(), nn.Linear(24, 3)), (2, 6), False),
    ],
)
def test_whole_nets_and_every_way_back_to_the_general_one(
    build: Callable[[], nn.Module], shape: tuple[int, ...], by_layer: bool, count: int
) -> None:
    torch.manual_seed(1)
    agrees(build(), torch.randn(count, *shape), by_layer)


@pytest.mark.parametrize(
    ("layer", "shape", "why"),
    [
        (nn.BatchNorm1d(6), (6,), "1 is BatchNorm1d in training mode"),
        (nn.BatchNorm1d(6, track_running_stats=False).eval(), (6,), "1 is BatchNorm1d without running statistics"),
        (nn.LSTM(6, 3), (5, 6), "1 is LSTM, a fused recurrent layer"),
    ],
)
def test_what_has_no_per_sample_gradient_is_refused_by_name(layer: nn.Module, shape: tuple[int, ...], why: str) -> None:
    model = nn.Sequential(nn.Linear(6, 6), layer, nn.Linear(6, 3))
    with pytest.raises(ValueError, match=why):
        per_sample_squared_norms(model, PROBLEM, torch.randn(4, *shape), torch.arange(4) % 3)


@pytest.mark.parametrize("setting", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}])
def test_embeddings_that_mix_samples_are_refused(setting: dict[str, object]) -> None:
    model = nn.Sequential(nn.Embedding(4, 3, **setting), nn.Flatten())  # type: ignore[arg-type]  # one of several settings
    with pytest.raises(ValueError, match=f"0 is Embedding with {next(iter(setting))}"):
        per_sample_squared_norms(model, PROBLEM, torch.tensor([[1], [2]]), torch.tensor([0, 1]))


class Branching(nn.Module):
    """A custom parameter sends it the general way, which cannot branch on data."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :3] * self.scale if bool(inputs.sum() > 0) else inputs[:, 3:] * self.scale


def test_what_torch_func_cannot_do_is_refused_with_the_layer_s_name() -> None:
    model = nn.Sequential(nn.Linear(6, 6), Branching())
    with pytest.raises(ValueError, match=r"1 \(Branching\) has no per-sample gradients.*Replace that layer"):
        per_sample_squared_norms(model, PROBLEM, torch.randn(4, 6), torch.arange(4) % 3)
