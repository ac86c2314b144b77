"""The squared gradient norm of every single sample of a batch, differentiable when asked.

Two ways to the same number. Where all trainable parameters sit in layers `layer_norms` covers, each used once, a layer's
share comes from its input and the gradient at its output, so one backward pass serves the batch and no sample's gradient
need exist. Every other net takes the general way, `vmap(grad)`; what that cannot do either is refused by name.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from unlearning.gradients import losses_of, parameters_of
from unlearning.layer_norms import batched, known, layer_squared_norms
from unlearning.problem import Problem

Call = tuple[nn.Module, Tensor, Tensor]


def per_sample_squared_norms(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, create_graph: bool = False
) -> Tensor:
    """squared_norms_B: ||grad loss(z, theta)||^2 of each sample, over all trainable parameters together.

    Units: (loss per unit of weight)^2; not reduced. In the mode the model is in. With `create_graph` the result can be
    differentiated once more. Source: the GR term of Liu et al. 2025 (arXiv:2507.23257).

    Raises:
        ValueError: a layer mixes the samples of a batch (BatchNorm in training mode or without running statistics,
            Embedding that counts tokens over the batch), is a fused recurrence, or neither way covers the net; the
            message names the layer.
    """
    return losses_and_squared_norms(model, problem, inputs, targets, create_graph)[1]


def losses_and_squared_norms(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """losses_B and squared_norms_B (see `per_sample_squared_norms`) for one forward pass's price."""
    for name, module in model.named_modules():
        refuse(name or "the model", module)
    layers = _layers(model)
    with torch.enable_grad():
        if len(targets) == 0:
            losses_B = losses_of(problem, model(inputs), targets)
            return losses_B, torch.zeros_like(losses_B)
        if layers is not None:
            found = _layerwise(model, layers, problem, inputs, targets, create_graph)
            if found is not None:
                return found
        return general_losses_and_squared_norms(model, problem, inputs, targets, create_graph)


def refuse(name: str, module: nn.Module) -> None:
    """Raises `ValueError` where `module`, called `name`, is of a kind that gives no sample a gradient of its own."""
    if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
        why = "in training mode" if module.training else "without running statistics"
        raise ValueError(
            f"{name} is {type(module).__name__} {why}: it mixes the samples of a batch, so no sample has a gradient of"
            " its own. Use eval mode with running statistics, GroupNorm, or restriction 'batch-norm'."
        )
    if isinstance(module, nn.RNNBase):
        raise ValueError(  # noqa: TRY004  the model is at fault for what it computes, not for being of a wrong type
            f"{name} is {type(module).__name__}, a fused recurrent layer: torch.func has no rule for it. Write the"
            " recurrence out of Linear layers, or use restriction 'batch-norm' or 'none'."
        )
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        for setting in ("max_norm", "scale_grad_by_freq", "sparse"):
            if getattr(module, setting) not in (None, False):
                raise ValueError(
                    f"{name} is {type(module).__name__} with {setting}: per-sample gradients are not defined or not"
                    f" differentiable with it. Leave {setting} out."
                )


def layerwise_applies(model: nn.Module) -> bool:
    """Whether every trainable parameter is the own weight or bias of one layer that `layer_norms` covers."""
    return _layers(model) is not None


def _layers(model: nn.Module) -> dict[nn.Module, list[nn.Parameter]] | None:
    """The layers with their own trainable parameters, where `layerwise_applies`."""
    owners: dict[nn.Module, list[nn.Parameter]] = {}
    for module in model.modules():
        own = [value for value in module.parameters(recurse=False) if value.requires_grad]
        if own:
            owners[module] = own
    each_once = sum(map(len, owners.values())) == len(parameters_of(model))
    return owners if each_once and all(map(known, owners)) else None


def _layerwise(
    model: nn.Module,
    layers: dict[nn.Module, list[nn.Parameter]],
    problem: Problem,
    inputs: Tensor,
    targets: Tensor,
    create_graph: bool,
) -> tuple[Tensor, Tensor] | None:
    """None where the forward pass shows that the layers' formulas would leave something out.

    What was run is looked at, not what was declared: each layer called once at most, on (B, ...), its tensors not
    written over; and in the graph each trainable parameter read exactly as often as its layer was called, so that a
    weight which some function reads beside its layer is not missed.
    """
    calls: list[Call] = []
    versions: list[int] = []
    by_keyword: list[nn.Module] = []

    def record(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if len(args) != 1:
            by_keyword.append(module)
            return
        calls.append((module, args[0], output))
        versions.extend((args[0]._version, output._version))

    handles = [module.register_forward_hook(record, prepend=True) for module in layers]
    try:
        losses_B = losses_of(problem, model(inputs), targets)
    finally:
        for handle in handles:
            handle.remove()
    called = [module for module, _, _ in calls]
    single = len(set(map(id, called))) == len(called)
    fits = all(made.requires_grad and batched(module, given, len(targets)) for module, given, made in calls)
    untouched = versions == [tensor._version for _, given, made in calls for tensor in (given, made)]
    if by_keyword or not (calls and single and fits and untouched) or not losses_B.requires_grad:
        return None
    reads = _reads(losses_B)
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
        losses_B.sum(), [made for _, _, made in calls], create_graph=create_graph, retain_graph=True, allow_unused=True
    )
    expected = {id(value): 0 for own in layers.values() for value in own}
    squared_B = torch.zeros_like(losses_B)
    for (module, given, _), gradient in zip(calls, gradients, strict=True):
        if gradient is None:
            continue
        expected |= {id(value): 1 for value in layers[module]}
        squared_B = squared_B + layer_squared_norms(module, given if create_graph else given.detach(), gradient)
    if any(reads.get(identity, 0) != count for identity, count in expected.items()):
        return None
    return losses_B, squared_B if create_graph else squared_B.detach()


def _reads(losses_B: Tensor) -> dict[int, int]:
    """How often the graph that leads to the losses reads each leaf, by the leaf's id."""
    counts: dict[int, int] = {}
    assert losses_B.grad_fn is not None
    waiting, seen = [losses_B.grad_fn], {losses_B.grad_fn}
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is None:
                continue
            if hasattr(node, "variable"):
                counts[id(node.variable)] = counts.get(id(node.variable), 0) + 1
            elif node not in seen:
                seen.add(node)
                waiting.append(node)
    return counts


def general_losses_and_squared_norms(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, create_graph: bool
) -> tuple[Tensor, Tensor]:
    """The same by `vmap(grad)`, whatever the layers; see `losses_and_squared_norms`, which falls back to it.

    Raises:
        ValueError: torch.func cannot take the net; names the layer.
    """
    parameters = dict(parameters_of(model))
    places = _places(model)
    fixed = {name: value for name, value in (*model.named_buffers(), *model.named_parameters()) if name not in places}

    def loss(weights: dict[str, Tensor], one_input: Tensor, one_target: Tensor) -> tuple[Tensor, Tensor]:
        swapped = {place: weights[name] for place, name in places.items()}
        outputs = functional_call(model, {**fixed, **swapped}, (one_input.unsqueeze(0),), tie_weights=False)
        value = losses_of(problem, outputs, one_target.unsqueeze(0)).squeeze(0)
        return value, value

    per_sample: Callable[..., tuple[dict[str, Tensor], Tensor]] = vmap(
        grad(loss, has_aux=True), in_dims=(None, 0, 0), randomness="different"
    )
    try:
        with torch.set_grad_enabled(create_graph):
            gradients, losses_B = per_sample(parameters, inputs, targets)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"{_where(model, error.__traceback__)} has no per-sample gradients by torch.func ({_first_line(error)})."
            " Replace that layer, or use restriction 'batch-norm' or 'none'."
        ) from error
    squared_B = torch.zeros_like(losses_B)
    with torch.set_grad_enabled(create_graph):
        for value in gradients.values():
            squared_B = squared_B + value.flatten(1).square().sum(1)
    return losses_B, squared_B


def _where(model: nn.Module, trace: TracebackType | None) -> str:
    """The innermost module that was running, by its name in the model and its type."""
    names = {id(module): name for name, module in model.named_modules()}
    found = f"the model ({type(model).__name__})"
    while trace is not None:
        running = trace.tb_frame.f_locals.get("self")
        if isinstance(running, nn.Module) and names.get(id(running)):
            found = f"{names[id(running)]} ({type(running).__name__})"
        trace = trace.tb_next
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0][:200].rstrip(".")


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
