"""The diagonal Fisher of a batch through layer inputs and output gradients: one backward pass a class, not one a sample.

A layer's gradient for one sample is made of its input and of the gradient at its output. For Linear it is their outer
product, whose square is the outer product of their squares: then no sample's gradient need exist at all.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from unlearning.gradients import losses_of, parameters_of
from unlearning.problem import Problem

Call = tuple[nn.Module, Tensor, Tensor]


def add_by_layer(
    total: dict[str, Tensor],
    model: nn.Module,
    problem: Problem,
    inputs: Tensor,
    targets: Tensor,
    probabilities_BC: Tensor,
) -> bool:
    """Add sum over samples and classes y of p(y|x) (grad loss(x, y))^2 to `total`, or say False and add nothing.

    For networks whose trainable parameters all sit in Linear on (B, features), plain Conv2d or BatchNorm layers, each
    called once and none shared, whose outputs nothing writes over. The model is in eval mode, `total` in float64.
    """
    names = {id(value): name for name, value in parameters_of(model).items()}
    owners = [m for m in model.modules() if any(id(value) in names for value in m.parameters(recurse=False))]
    owned = sum(id(value) in names for module in owners for value in module.parameters(recurse=False))
    if owned != len(names) or not all(_known(module) for module in owners):
        return False
    with torch.enable_grad():
        calls, versions, outputs = _watched(model, owners, inputs)
        if not _plain(calls, versions, owners):
            return False
        left = [_left(module, given.detach()) for module, given, _ in calls]
        for label in range(probabilities_BC.shape[1]):
            loss = losses_of(problem, outputs, torch.full_like(targets, label)).sum()
            gradients = torch.autograd.grad(loss, [made for _, _, made in calls], retain_graph=True)
            for (module, _, _), given, gradient in zip(calls, left, gradients, strict=True):
                weight, bias = _squares(module, given, gradient, probabilities_BC[:, label])
                for parameter, value in ((module.weight, weight), (module.bias, bias)):
                    if id(parameter) in names:
                        name = names[id(parameter)]
                        total[name] += value.view_as(total[name])
    return True


def _known(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return module.running_mean is not None
    return type(module) is nn.Linear


def _watched(model: nn.Module, owners: list[nn.Module], inputs: Tensor) -> tuple[list[Call], list[int], Tensor]:
    """A forward pass, with what each layer was given and made, and the version its output had then."""
    calls: list[Call] = []
    versions: list[int] = []

    def record(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
        calls.append((module, given[0], made))
        versions.extend((given[0]._version, made._version))

    handles = [module.register_forward_hook(record) for module in owners]
    try:
        outputs: Tensor = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls, versions, outputs


def _plain(calls: list[Call], versions: list[int], owners: list[nn.Module]) -> bool:
    once = sorted(id(module) for module, _, _ in calls) == sorted(map(id, owners))
    shaped = all(
        given.ndim == (4 if isinstance(module, nn.Conv2d | nn.BatchNorm2d) else 2) for module, given, _ in calls
    )
    now = [tensor._version for _, given, made in calls for tensor in (given, made)]
    return once and shaped and now == versions


def _left(module: nn.Module, given: Tensor) -> Tensor:
    """What a layer's parameter gradients are made of on the side of its input; the same for every class."""
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str)
        return functional.unfold(given, module.kernel_size, module.dilation, module.padding, module.stride)
    if isinstance(module, _BatchNorm):
        assert module.running_mean is not None
        assert module.running_var is not None
        shape = (1, -1, *[1] * (given.ndim - 2))
        deviation = (module.running_var + module.eps).sqrt().view(shape)
        return ((given - module.running_mean.view(shape)) / deviation).reshape(*given.shape[:2], -1)
    return given.square()


def _squares(module: nn.Module, left: Tensor, gradient: Tensor, weight_B: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted sum over the batch of the squared gradients of weight and bias."""
    if isinstance(module, nn.Conv2d):
        gradient_BOP = gradient.flatten(2)
        of_weight_BOK = gradient_BOP @ left.transpose(1, 2)
        of_weight = torch.einsum("b,bok->ok", weight_B, of_weight_BOK.square())
        return of_weight, weight_B @ gradient_BOP.sum(2).square()
    if isinstance(module, _BatchNorm):
        gradient_BCP = gradient.reshape(left.shape)
        of_weight_BC, of_bias_BC = (gradient_BCP * left).sum(2), gradient_BCP.sum(2)
        return weight_B @ of_weight_BC.square(), weight_B @ of_bias_BC.square()
    squared = gradient.square()
    return (weight_B[:, None] * squared).T @ left, weight_B @ squared
