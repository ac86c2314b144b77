"""The squared norm of every sample's weight gradient in a convolution, and what that needs to be differentiated again.

The gradient of one sample's weight is the product of the patches the kernel saw and the gradient at the output. The
patches are copied in whichever layout the input has, a few samples at a time.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from typing_extensions import override

CACHED, CACHED_ON_DEVICE = (
    2**19,
    2**26,
)  # numbers in patches at a time: about a core's own cache, or enough work to fill a GPU


def conv_weight_squared(module: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor) -> Tensor:
    """squared_B: ||grad_weight loss(z)||^2 of each sample.

    `inputs` (B, C, *positions) is what the layer was given, `gradients` (B, O, *positions) are those of the summed
    losses at its output. Stride, dilation, groups, paddings by number or name and all padding modes. Differentiable
    once in both arguments.
    """
    padded = _padded(module, inputs)
    if isinstance(module, nn.Conv1d):
        padded, gradients = padded.unsqueeze(2), gradients.unsqueeze(2)
    out = (gradients.shape[2], gradients.shape[3])
    window = _Window(
        _pair(module.kernel_size),
        _pair(module.stride),
        _pair(module.dilation),
        module.groups,
        out,
        padded.is_contiguous(),
    )
    squared_B: Tensor = _WeightSquared.apply(padded, gradients, window)  # type: ignore[no-untyped-call]  # torch's
    return squared_B


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    """A window of one dimension is one of two, of height 1."""
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _padded(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    if module.padding == "valid":
        return inputs
    sides: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if isinstance(module.padding, str):
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [module.padding[axis]] * 2
    if not any(sides):
        return inputs
    return functional.pad(inputs, sides, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)


@dataclass(frozen=True)
class _Window:
    """How a kernel walks over padded inputs (B, C, H, W), and the output positions it makes."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    out: tuple[int, int]
    planar: bool  # patches as (N, K, positions), not positions first: N = B * groups, K = C / groups * kernel sizes


class _WeightSquared(torch.autograd.Function):
    """||weight gradient||^2 a sample. Both derivatives are linear in what comes back, one factor a sample, so they are
    made at once, a few samples at a time, while their patches are still in the cache; no patches are kept.
    """

    @staticmethod
    @override
    def forward(ctx: Any, inputs: Tensor, gradients: Tensor, window: _Window) -> Tensor:
        to_inputs = torch.zeros_like(inputs) if ctx.needs_input_grad[0] else None
        to_gradients = torch.empty_like(gradients) if ctx.needs_input_grad[1] else None
        squared_B = gradients.new_empty(len(inputs))
        floats = inputs[0].numel() * window.kernel[0] * window.kernel[1]
        size = max(1, (CACHED if inputs.device.type == "cpu" else CACHED_ON_DEVICE) // max(1, floats))
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            patches_NKP = _patches(inputs[part], window)
            gradients_NOP = _by_group(gradients[part], window.groups)
            weight_NOK = gradients_NOP @ patches_NKP.transpose(1, 2)
            squared_B[part] = weight_NOK.square().view(len(squared_B[part]), -1).sum(1)
            weight_NOK *= 2
            if to_gradients is not None:
                _write_products(to_gradients[part], weight_NOK, patches_NKP, window)
            if to_inputs is not None:
                _add_spread(to_inputs[part], weight_NOK, gradients_NOP, window)
        ctx.save_for_backward(to_inputs, to_gradients)
        return squared_B

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        scale = grad_B.view(-1, 1, 1, 1)
        to_inputs, to_gradients = (None if value is None else value * scale for value in ctx.saved_tensors)
        return to_inputs, to_gradients, None


def _by_group(tensor: Tensor, groups: int) -> Tensor:
    """(B, C, H, W) as (B * groups, C / groups, H * W), without a copy where there is one group."""
    if groups == 1:
        return tensor.flatten(2)
    return tensor.reshape(len(tensor) * groups, tensor.shape[1] // groups, -1)


def _patches(inputs: Tensor, window: _Window) -> Tensor:
    """patches_NKP: what the kernel saw, copied once in the order of the inputs' own storage."""
    batch, own = len(inputs), inputs.shape[1] // window.groups
    by_batch, by_channel, by_row, by_column = inputs.stride()
    walk = (by_row * window.dilation[0], by_column * window.dilation[1])
    step = (by_row * window.stride[0], by_column * window.stride[1])
    view = inputs.as_strided(
        (batch, window.groups, own, *window.kernel, *window.out),
        (by_batch, by_channel * own, by_channel, *walk, *step),
    )
    if window.planar:
        return view.reshape(batch * window.groups, -1, prod(window.out))
    return view.permute(0, 1, 5, 6, 3, 4, 2).reshape(batch * window.groups, prod(window.out), -1).transpose(1, 2)


def _write_products(result: Tensor, weight_NOK: Tensor, patches_NKP: Tensor, window: _Window) -> None:
    """The derivative by the output gradients (B, O, *out): the convolution of each sample with its own weight."""
    if window.planar:
        result.copy_((weight_NOK @ patches_NKP).view(result.shape))
        return
    made_NPO = patches_NKP.transpose(1, 2) @ weight_NOK.transpose(1, 2)
    made = made_NPO.view(len(result), window.groups, *window.out, -1).permute(0, 1, 4, 2, 3)
    result.copy_(made.squeeze(1) if window.groups == 1 else made.reshape(result.shape))


def _add_spread(result: Tensor, weight_NOK: Tensor, gradients_NOP: Tensor, window: _Window) -> None:
    """The derivative by the inputs (B, C, H, W): every patch's share added to the pixels it was copied from."""
    batch, own = len(result), result.shape[1] // window.groups
    if window.planar:
        spread_NKP = weight_NOK.transpose(1, 2) @ gradients_NOP
        pieces = spread_NKP.view(batch, window.groups, own, *window.kernel, *window.out).permute(3, 4, 0, 1, 2, 5, 6)
    else:
        spread_NPK = gradients_NOP.transpose(1, 2) @ weight_NOK
        pieces = spread_NPK.view(batch, window.groups, *window.out, *window.kernel, own).permute(4, 5, 0, 1, 6, 2, 3)
    pixels = result.unflatten(1, (window.groups, own))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            rows, columns = (
                slice(offset * d, offset * d + s * (count - 1) + 1, s)
                for offset, d, s, count in zip((i, j), window.dilation, window.stride, window.out, strict=True)
            )
            pixels[..., rows, columns] += pieces[i, j]
