"""The squared gradient norm of every single sample of a batch, differentiable when asked.

Two ways to the same number. For nets whose parameters all sit in Linear and plain Conv2d layers, each used once, a
layer's per-sample gradient is the product of its input and the gradient at its output, so one backward pass serves
the batch. Every other net takes the general way, `vmap(grad)`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from unlearning.gradients import losses_of, parameters_of
from unlearning.problem import Problem


def per_sample_squared_norms(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, create_graph: bool = False
) -> Tensor:
    """squared_norms_B: ||grad loss(z, theta)||^2 of each sample, over all trainable parameters together.

    Units: (loss per unit of weight)^2; not reduced. In the mode the model is in. With `create_graph` the result can be
    differentiated again. Source: the GR term of Liu et al. 2025 (arXiv:2507.23257).

    Raises:
        ValueError: a BatchNorm layer is in training mode, so that no sample has a gradient of its own.
    """
    return losses_and_squared_norms(model, problem, inputs, targets, create_graph)[1]


def losses_and_squared_norms(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """losses_B and squared_norms_B (see `per_sample_squared_norms`) for one forward pass's price."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise ValueError(
                f"{name or 'the model'} is {type(module).__name__} in training mode: it mixes the samples of a batch,"
                " so no sample has a gradient of its own. Use restriction 'batch-norm', or GroupNorm instead."
            )
    with torch.enable_grad():
        if len(targets) == 0:
            losses_B = losses_of(problem, model(inputs), targets)
            return losses_B, torch.zeros_like(losses_B)
        if layerwise_applies(model):
            return _layerwise(model, problem, inputs, targets, create_graph)
        return _general(model, problem, inputs, targets, create_graph)


def layerwise_applies(model: nn.Module) -> bool:
    """Whether every parameter is the own weight or bias of a Linear or an ungrouped, zero-padded Conv2d."""
    owners = [module for module in model.modules() if list(module.parameters(recurse=False))]
    shared = sum(len(list(m.parameters(recurse=False))) for m in owners) != len(list(model.parameters()))
    trainable = all(parameter.requires_grad for parameter in model.parameters())
    return not shared and trainable and all(_known(module) for module in owners)


def _known(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear


def _layerwise(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, create_graph: bool
) -> tuple[Tensor, Tensor]:
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    written: list[tuple[Tensor, int]] = []

    def record(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        calls.append((module, args[0], output))
        written.extend((tensor, tensor._version) for tensor in (args[0], output))

    owners = [module for module in model.modules() if list(module.parameters(recurse=False))]
    handles = [module.register_forward_hook(record) for module in owners]
    try:
        losses_B = losses_of(problem, model(inputs), targets)
    finally:
        for handle in handles:
            handle.remove()
    once = sorted(id(module) for module, _, _ in calls) == sorted(map(id, owners))
    batched = all(x.ndim == (2 if isinstance(module, nn.Linear) else 4) for module, x, _ in calls)
    untouched = all(tensor._version == version for tensor, version in written)
    if not (once and batched and untouched):
        return _general(model, problem, inputs, targets, create_graph)
    outputs = [output for _, _, output in calls]
    gradients = torch.autograd.grad(losses_B.sum(), outputs, create_graph=create_graph, retain_graph=True)
    squared_B = torch.zeros_like(losses_B)
    for (module, layer_inputs, _), gradient in zip(calls, gradients, strict=True):
        squared_B = squared_B + _layer_squared_norms(module, layer_inputs, gradient)
    return losses_B, squared_B if create_graph else squared_B.detach()


def _layer_squared_norms(module: nn.Module, inputs: Tensor, gradients: Tensor) -> Tensor:
    """squared_B of one layer: inputs are what it was given, gradients are those of the summed losses at its output."""
    if isinstance(module, nn.Linear):
        squared_B = gradients.square().sum(1)
        return squared_B * inputs.square().sum(1) + (squared_B if _has_bias(module) else 0)
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str)
        patches_BKP = functional.unfold(inputs, module.kernel_size, module.dilation, module.padding, module.stride)
        gradients_BOP = gradients.flatten(2)
        weight_BOK = gradients_BOP @ patches_BKP.transpose(1, 2)
        squared_B = weight_BOK.square().sum((1, 2))
        return squared_B + (gradients_BOP.sum(2).square().sum(1) if _has_bias(module) else 0)
    raise AssertionError(f"layerwise_applies admitted {type(module).__name__}")


def _has_bias(module: nn.Module) -> bool:
    return module.bias is not None


def _general(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, create_graph: bool
) -> tuple[Tensor, Tensor]:
    parameters = dict(parameters_of(model))
    places = _places(model)
    fixed = dict(model.named_buffers())

    def loss(weights: dict[str, Tensor], one_input: Tensor, one_target: Tensor) -> tuple[Tensor, Tensor]:
        swapped = {place: weights[name] for place, name in places.items()}
        outputs = functional_call(model, {**fixed, **swapped}, (one_input.unsqueeze(0),), tie_weights=False)
        value = losses_of(problem, outputs, one_target.unsqueeze(0)).squeeze(0)
        return value, value

    per_sample: Callable[..., tuple[dict[str, Tensor], Tensor]] = vmap(
        grad(loss, has_aux=True), in_dims=(None, 0, 0), randomness="different"
    )
    with torch.set_grad_enabled(create_graph):
        gradients, losses_B = per_sample(parameters, inputs, targets)
        squared_B = torch.zeros_like(losses_B)
        for value in gradients.values():
            squared_B = squared_B + value.flatten(1).square().sum(1)
    return losses_B, squared_B


def _places(model: nn.Module) -> dict[str, str]:
    """Every place a trainable parameter is read from, by the name `parameters_of` gives it.

    Modules are visited once each: `functional_call` told of one module under two names would not put its own weights
    back. A parameter that two modules share is listed at both.
    """
    names = {id(parameter): name for name, parameter in parameters_of(model).items()}
    return {
        f"{prefix}.{own}" if prefix else own: names[id(parameter)]
        for prefix, module in model.named_modules()
        for own, parameter in module.named_parameters(recurse=False)
        if id(parameter) in names
    }
