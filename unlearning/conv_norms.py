"""The squared norm of every sample's parameter gradient in a convolution, and what that needs to be differentiated again.

One sample's own weight gradient and its derivatives are convolutions too, each sample with a kernel of its own. They are
run as one convolution with a group for every sample (as in Rochette et al. 2019, arXiv:1912.06015), so that no patches
need be copied. Where a kernel sees few patches, the layer is taken as a Linear on patches instead, for the Gram form.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional, grad
from typing_extensions import override


def conv_squared(module: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor, bias: bool) -> Tensor:
    """squared_B: ||gradient of loss(z) by the weight||^2 of each sample; with `bias` that of the bias is added.

    `inputs` (B, C, *positions) is what the layer was given, `gradients` (B, O, *positions) are those of the summed
    losses at its output. Stride, dilation, groups, paddings by number or name and all padding modes. Differentiable
    once in both arguments.
    """
    inputs, padding = _padded(module, inputs)
    if isinstance(module, nn.Conv1d):
        inputs, gradients = inputs.unsqueeze(2), gradients.unsqueeze(2)
    window = _Window(
        _pair(module.kernel_size, 1),
        _pair(module.stride, 1),
        _pair(padding, 0),
        _pair(module.dilation, 1),
        module.groups,
        bias,
    )
    squared_B: Tensor = _Squared.apply(inputs, gradients, window)  # type: ignore[no-untyped-call]  # torch's
    return squared_B


def few_patches(module: nn.Conv1d | nn.Conv2d, gradients: Tensor) -> bool:
    """Whether the Gram form on patches is the cheaper: fewer numbers than the weight has; or a kernel of size one."""
    positions, wide, narrow = prod(gradients.shape[2:]), module.weight[0].numel(), len(module.weight) // module.groups
    return wide == module.weight.shape[1] or positions * (wide + narrow) <= wide * narrow


def patches(module: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """patches_NPK and gradients_NPO of the Linear that the convolution is on what its kernel sees; N = B * groups."""
    inputs, padding = _padded(module, inputs)
    if isinstance(module, nn.Conv1d):
        inputs = inputs.unsqueeze(2)
    sizes = (module.kernel_size, 1), (module.dilation, 1), (padding, 0), (module.stride, 1)
    each = len(inputs) * module.groups
    unfolded = functional.unfold(inputs, *(_pair(size, height) for size, height in sizes))
    patches_NKP, gradients_NOP = (
        value.reshape(each, value.shape[1] // module.groups, -1) for value in (unfolded, gradients)
    )
    return patches_NKP.transpose(1, 2), gradients_NOP.transpose(1, 2)


def _pair(sizes: tuple[int, ...], height: int) -> tuple[int, int]:
    """A window of one dimension is one of two, with `height` for the other."""
    return (height, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _padded(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The inputs, padded where a convolution cannot do it by itself, and what it is left to pad with zeros."""
    nothing = (0,) * len(module.kernel_size)
    if module.padding == "valid":
        return inputs, nothing
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return inputs, module.padding
    sides: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if isinstance(module.padding, str):
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [module.padding[axis]] * 2
    if not any(sides):
        return inputs, nothing
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(inputs, sides, mode=mode), nothing


@dataclass(frozen=True)
class _Window:
    """How a kernel walks over inputs (B, C, H, W)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    bias: bool


class _Squared(torch.autograd.Function):
    """||gradient||^2 a sample. Its derivatives are convolutions with each sample's own gradient as the kernel."""

    @staticmethod
    @override
    def forward(ctx: Any, inputs: Tensor, gradients: Tensor, window: _Window) -> Tensor:
        count, outputs = gradients.shape[:2]
        given, made = _side_by_side(inputs), _side_by_side(gradients)
        shape = (count * outputs, inputs.shape[1] // window.groups, *window.kernel)
        walk = (window.stride, window.padding, window.dilation, count * window.groups)
        weight = grad.conv2d_weight(given, shape, made, *walk)  # type: ignore[no-untyped-call]  # torch's
        bias = made.sum((0, 2, 3)) if window.bias else None
        squared = weight.square().sum((1, 2, 3))
        if bias is not None:
            squared += bias.square()
        ctx.save_for_backward(given, made, weight, bias)
        ctx.walk, ctx.formats = walk, (_format(inputs), _format(gradients))
        squared_B: Tensor = squared.view(count, outputs).sum(1)
        return squared_B

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        given, made, weight, bias = ctx.saved_tensors
        scale_B1 = 2 * grad_B.unsqueeze(1)
        count = len(scale_B1)
        kernel = (weight.unflatten(0, (count, -1)) * scale_B1.view(-1, 1, 1, 1, 1)).flatten(0, 1)
        to_inputs, to_gradients = None, None
        if ctx.needs_input_grad[0]:
            found = grad.conv2d_input(given.shape, kernel, made, *ctx.walk)  # type: ignore[no-untyped-call]  # torch's
            to_inputs = _apart(found, count, ctx.formats[0])
        if ctx.needs_input_grad[1]:
            shift = None if bias is None else (bias.view(count, -1) * scale_B1).flatten()
            to_gradients = _apart(functional.conv2d(given, kernel, shift, *ctx.walk), count, ctx.formats[1])
        return to_inputs, to_gradients, None


def _side_by_side(tensor: Tensor) -> Tensor:
    """(B, C, H, W) as (1, B * C, H, W); on a CPU channels last in memory, which is two to three times faster there."""
    height, width = tensor.shape[2:]
    if not tensor.is_cpu:
        return tensor.reshape(1, -1, height, width)
    return tensor.permute(2, 3, 0, 1).contiguous().view(1, height, width, -1).permute(0, 3, 1, 2)


def _apart(tensor: Tensor, count: int, layout: torch.memory_format) -> Tensor:
    """The way back. Always a copy: strides that are odd where there is one sample make torch's batch norm err."""
    return tensor.view(count, tensor.shape[1] // count, *tensor.shape[2:]).clone(memory_format=layout)


def _format(tensor: Tensor) -> torch.memory_format:
    last = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
