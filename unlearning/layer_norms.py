"""Layer by layer: the squared norm of every sample's parameter gradient from the layer's input and output gradient.

Source of the identities: Goodfellow 2015 (arXiv:1510.01799) for one Linear on vectors, its Gram form for sequences as in
Li et al. 2022 (arXiv:2110.05679), section 4. All are exact.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from typing_extensions import override

from unlearning.conv_norms import conv_squared, few_patches, patches

KNOWN = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Embedding,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)
_RANKS: dict[type[nn.Module], int] = {nn.Conv1d: 3, nn.Conv2d: 4}


def known(module: nn.Module) -> bool:
    """Whether this very type is covered (a subclass may compute anything) and owns no parameter but weight and bias."""
    return type(module) in KNOWN and {name for name, _ in module.named_parameters(recurse=False)} <= {"weight", "bias"}


def batched(module: nn.Module, inputs: Tensor, count: int) -> bool:
    """Whether the first dimension of a layer's input, and no other that could be, runs over the `count` samples.

    Layers that take any leading dimensions cannot tell (T, B, features) from (B, T, features) where T is B.
    """
    if inputs.ndim == 0 or inputs.shape[0] != count:
        return False
    if type(module) in _RANKS:
        return inputs.ndim == _RANKS[type(module)]
    if isinstance(module, nn.Linear):
        leading = inputs.shape[:-1]
    elif isinstance(module, nn.LayerNorm):
        leading = inputs.shape[: inputs.ndim - len(module.normalized_shape)]
    elif isinstance(module, nn.Embedding):
        leading = inputs.shape
    else:
        return inputs.ndim >= 2
    return len(leading) > 0 and (count == 1 or count not in leading[1:])


def layer_squared_norms(module: nn.Module, inputs: Tensor, gradients: Tensor) -> Tensor:
    """squared_B over the layer's trainable parameters, those of the summed losses; differentiable once more.

    `inputs` (B, ...) is what the layer was given, `gradients` (B, ...) are those at its output. Frozen parameters count
    nothing.
    """
    if isinstance(module, nn.Conv1d | nn.Conv2d) and _trained(module.weight) and not few_patches(module, gradients):
        return conv_squared(module, inputs, gradients, bias=_trained(module.bias))
    if isinstance(module, nn.Linear) and inputs.ndim == 2 and _trained(module.weight):
        found: Tensor = _OuterSquared.apply(inputs, gradients, _trained(module.bias))  # type: ignore[no-untyped-call]  # torch's
        return found
    parts = []
    if _trained(module.weight):
        parts.append(_weight_squared(module, inputs, gradients))
    if _trained(getattr(module, "bias", None)):
        parts.append(_bias_squared(module, gradients))
    assert parts, "a layer without trainable parameters was recorded"
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _trained(parameter: object) -> bool:
    return isinstance(parameter, Tensor) and parameter.requires_grad


def _bias_squared(module: nn.Module, gradients: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        bias_BO = gradients if gradients.ndim == 2 else gradients.flatten(1, -2).sum(1)
    elif isinstance(module, nn.LayerNorm):
        bias_BO = gradients.reshape(len(gradients), -1, prod(module.normalized_shape)).sum(1)
    else:
        bias_BO = _over_positions(gradients)
    return bias_BO.square().sum(1)


def _over_positions(tensor: Tensor) -> Tensor:
    """(B, C, ...) summed to (B, C)."""
    return tensor if tensor.ndim == 2 else tensor.sum(tuple(range(2, tensor.ndim)))


def _weight_squared(module: nn.Module, inputs: Tensor, gradients: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return _linear(inputs, gradients)
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return _linear(*patches(module, inputs, gradients)).view(len(inputs), module.groups).sum(1)
    if isinstance(module, nn.Embedding):
        return _embedding(module, inputs, gradients)
    if isinstance(module, nn.LayerNorm):
        normal = functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
        products = (normal * gradients).reshape(len(inputs), -1, prod(module.normalized_shape))
        return products.sum(1).square().sum(1)
    if isinstance(module, nn.GroupNorm):
        normal = functional.group_norm(inputs, module.num_groups, eps=module.eps)
        return _over_positions(normal * gradients).square().sum(1)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        assert not module.training
        normal = functional.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps)
        return _over_positions(normal * gradients).square().sum(1)
    raise AssertionError(f"known() admitted {type(module).__name__}")


class _OuterSquared(torch.autograd.Function):
    """squared_B of a Linear on vectors: |input|^2 |gradient|^2, and |gradient|^2 once more for the bias.

    With its derivatives written out, which are fewer operations than autograd takes.
    """

    @staticmethod
    @override
    def forward(ctx: Any, inputs_BI: Tensor, gradients_BO: Tensor, bias: bool) -> Tensor:
        inputs_B1 = inputs_BI.square().sum(1, keepdim=True) + int(bias)
        gradients_B1 = gradients_BO.square().sum(1, keepdim=True)
        ctx.save_for_backward(inputs_BI, gradients_BO, inputs_B1, gradients_B1)
        squared_B1: Tensor = inputs_B1 * gradients_B1
        return squared_B1.squeeze(1)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs_BI, gradients_BO, inputs_B1, gradients_B1 = ctx.saved_tensors
        scale_B1 = 2 * grad_B.unsqueeze(1)
        to_inputs = inputs_BI * (scale_B1 * gradients_B1) if ctx.needs_input_grad[0] else None
        to_gradients = gradients_BO * (scale_B1 * inputs_B1) if ctx.needs_input_grad[1] else None
        return to_inputs, to_gradients, None


def _linear(inputs: Tensor, gradients: Tensor) -> Tensor:
    """The sum over positions of outer products, squared: by Gram matrices where those are smaller than the weight."""
    inputs_BPI, gradients_BPO = inputs.flatten(1, -2), gradients.flatten(1, -2)
    positions, wide, narrow = inputs_BPI.shape[1], inputs_BPI.shape[2], gradients_BPO.shape[2]
    if positions * (wide + narrow) <= wide * narrow:
        gram_BPP = (inputs_BPI @ inputs_BPI.transpose(1, 2)) * (gradients_BPO @ gradients_BPO.transpose(1, 2))
        return gram_BPP.sum((1, 2))
    return (gradients_BPO.transpose(1, 2) @ inputs_BPI).square().sum((1, 2))


def _embedding(module: nn.Embedding, tokens: Tensor, gradients: Tensor) -> Tensor:
    """A row's gradient adds up over its repeats in the sample: products of all pairs of positions with one token."""
    tokens_BP = tokens.reshape(len(tokens), -1)
    gradients_BPD = gradients.reshape(*tokens_BP.shape, module.embedding_dim)
    same_BPP = tokens_BP.unsqueeze(2) == tokens_BP.unsqueeze(1)
    if module.padding_idx is not None:
        same_BPP = same_BPP & (tokens_BP != module.padding_idx).unsqueeze(2)
    gram_BPP = gradients_BPD @ gradients_BPD.transpose(1, 2)
    return torch.where(same_BPP, gram_BPP, torch.zeros_like(gram_BPP)).sum((1, 2))
