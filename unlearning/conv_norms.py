"""The squared norm of every sample's weight gradient in a convolution, and what that needs to be differentiated again.

The gradient of one sample's weight is the product of the patches the kernel saw and the gradient at the output. The
patches are copied once, for a part of the batch at a time where they are many.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from typing_extensions import override

PATCHED = 2**24  # numbers in patches at a time: 64 MiB in single precision


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


class _WeightSquared(torch.autograd.Function):
    """||weight gradient||^2 a sample. Both derivatives are linear in what comes back, one factor a sample, so they are
    made at once, a part of the batch at a time; no patches are kept.
    """

    @staticmethod
    @override
    def forward(ctx: Any, inputs: Tensor, gradients: Tensor, window: _Window) -> Tensor:
        inputs = inputs.contiguous()
        to_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        to_gradients = torch.empty_like(gradients) if ctx.needs_input_grad[1] else None
        squared_B = gradients.new_empty(len(inputs))
        floats = inputs.shape[1] * prod(window.kernel) * prod(window.out)
        size = max(1, PATCHED // max(1, floats))
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            patches_NKP = _patches(inputs[part], window)
            gradients_NOP = _by_group(gradients[part], window.groups)
            weight_NOK = torch.bmm(gradients_NOP, patches_NKP.transpose(1, 2))
            squared_B[part] = weight_NOK.square().view(len(squared_B[part]), -1).sum(1)
            weight_NOK *= 2
            if to_gradients is not None:
                to_gradients[part] = torch.bmm(weight_NOK, patches_NKP).view(to_gradients[part].shape)
            if to_inputs is not None:
                to_inputs[part] = _spread(weight_NOK, gradients[part], to_inputs[part].shape, window)
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
    """patches_NKP: what the kernel saw, N = B * groups, K = C / groups * kernel sizes."""
    batch, own = len(inputs), inputs.shape[1] // window.groups
    by_batch, by_channel, by_row, by_column = inputs.stride()
    walk = (by_row * window.dilation[0], by_column * window.dilation[1])
    step = (by_row * window.stride[0], by_column * window.stride[1])
    view = inputs.as_strided(
        (batch, window.groups, own, *window.kernel, *window.out),
        (by_batch, by_channel * own, by_channel, *walk, *step),
    )
    return view.reshape(batch * window.groups, own * prod(window.kernel), prod(window.out))


def _spread(weight_NOK: Tensor, gradients: Tensor, shape: torch.Size, window: _Window) -> Tensor:
    """The derivative by the inputs (B, C, H, W): the transposed convolution of each sample with its own weight."""
    each_N = len(weight_NOK)
    kernels = weight_NOK.reshape(each_N * weight_NOK.shape[1], -1, *window.kernel)
    rest_height, rest_width = (
        size - (count - 1) * stride - dilation * (kernel - 1) - 1
        for size, count, stride, dilation, kernel in zip(
            shape[2:], window.out, window.stride, window.dilation, window.kernel, strict=True
        )
    )
    made = functional.conv_transpose2d(
        gradients.reshape(1, -1, *window.out),
        kernels,
        stride=window.stride,
        output_padding=(rest_height, rest_width),
        groups=each_N,
        dilation=window.dilation,
    )
    return made.view(shape)
