"""Where a network looks for a class: Grad-CAM maps, and how far the maps of two networks lie apart.

A map says which places of an image raise the score of its class. An update that moves these maps as little as a retrain
does leaves fewer traces of what was deleted than one that moves them more.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearning.gradients import NonFinite, evaluating


def last_convolution(model: nn.Module) -> str:
    """The name of the last Conv2d among the model's modules, in the order in which they were set.

    Raises:
        ValueError: the model has none.
    """
    last: str | None = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            last = name
    if last is None:
        raise ValueError(f"{type(model).__name__} has no Conv2d layer: an activation map needs one")
    return last


def activation_maps(model: nn.Module, inputs_BCHW: Tensor, targets_B: Tensor, layer: str | None = None) -> Tensor:
    """maps_Bhw: for each image, which places of a layer's output raise the logit of its class; none is negative.

        weight_k = mean over places of d logit[target] / d A_k        map = relu(sum over k of weight_k A_k)

    A_Bkhw is the output of the layer called `layer`, by default the last Conv2d; h and w are that layer's own, nothing is
    scaled up. In units of logits; only the shape of a map compares between networks, see `map_distances`. On the model's
    device and in its precision, detached. Eval mode (BatchNorm frozen), so that no image depends on the others of its
    batch; parameters may be frozen; nothing is left on `.grad`, and the model is left without a hook.

    Source: Selvaraju et al. 2017 (Grad-CAM, arXiv:1610.02391), equations 1 and 2, with y^c before the softmax. Where we
    differ: they take what follows the ReLU of a layer; the default here is the convolution's own output, before norm
    and ReLU. Name the module of a ReLU or of a block as `layer` to have theirs.

    Args:
        model: gives logits_BC.
        inputs_BCHW: images.
        targets_B: the class of each whose logit is explained; integers in [0, C).
        layer: a module's name as in `named_modules()`.

    Raises:
        ValueError: no convolution, no layer of this name, one that runs more or less than once or whose output is not of
            shape (B, k, h, w) or not used for the logits; a BatchNorm without running statistics; outputs that are no
            logits_BC, or targets that are no classes of theirs.
        NonFinite: a map is infinite or NaN.
    """
    name = last_convolution(model) if layer is None else layer
    _check(model, name)
    device = next(model.parameters()).device
    targets = targets_B.to(device)
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: object) -> Tensor:  # noqa: ARG001 - the hook is given all three
        """Cuts the graph at the layer: what lies before it needs no gradient. The copy may be written over in place."""
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise ValueError(f"layer {name!r} ({type(module).__name__}) does not give one tensor of shape (B, k, h, w)")
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    hook = model.get_submodule(name).register_forward_hook(keep)
    try:
        with evaluating(model), torch.enable_grad():
            logits_BC = model(inputs_BCHW.to(device))
            if len(kept) != 1:
                raise ValueError(f"layer {name!r} runs {len(kept)} times in a forward pass: name one that runs once")
            gradients_Bkhw = _gradients(logits_BC, targets, kept[0], name)
    finally:
        hook.remove()
    weights_Bk = gradients_Bkhw.mean(dim=(2, 3))
    maps_Bhw = torch.einsum("bk,bkhw->bhw", weights_Bk, kept[0].detach()).relu()
    if not bool(maps_Bhw.isfinite().all()):
        raise NonFinite(f"an activation map of layer {name!r} is infinite or NaN: the weights are unusable")
    return maps_Bhw


def map_distances(maps_Nhw: Tensor, others_Nhw: Tensor) -> tuple[Tensor, Tensor]:
    """cosine_N and l2_N: how far each map lies from the one in the same place; float64, on the CPU.

    cosine is 1 - cos of the angle between two maps, in [0, 1] as none is negative; l2 the Euclidean distance of the maps
    normalised to sum one, in [0, sqrt 2]. Both are blind to a map's scale. A map of zeros stays one: at cosine 0 from
    another of zeros and 1 from any other.

    Raises:
        ValueError: shapes differ or are not (N, h, w), or a value is negative.
    """
    if maps_Nhw.shape != others_Nhw.shape or maps_Nhw.ndim != 3:
        raise ValueError(f"maps of shape {tuple(maps_Nhw.shape)} and {tuple(others_Nhw.shape)}: give two of (N, h, w)")
    ours_NP, theirs_NP = normalised(maps_Nhw).flatten(1), normalised(others_Nhw).flatten(1)
    l2_N = (ours_NP - theirs_NP).norm(dim=1)
    norms_N = ours_NP.norm(dim=1) * theirs_NP.norm(dim=1)
    both_zero_N = (ours_NP.sum(1) + theirs_NP.sum(1)) == 0
    cosine_N = 1 - (ours_NP * theirs_NP).sum(1) / norms_N.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(both_zero_N, 0.0, cosine_N.clamp(0, 1)), l2_N


def normalised(maps_Nhw: Tensor) -> Tensor:
    """Each map over its sum, in float64 on the CPU; a map of zeros stays one.

    Raises:
        ValueError: a value is negative.
    """
    maps_Nhw = maps_Nhw.detach().double().cpu()
    if bool((maps_Nhw < 0).any()):
        raise ValueError("an activation map has no negative values")
    sums_N = maps_Nhw.sum(dim=(1, 2), keepdim=True)
    return maps_Nhw / torch.where(sums_N > 0, sums_N, 1.0)


def in_levels(values: Tensor, most: int, lowest: float = 0.0) -> Tensor:
    """From `lowest` as 0 to the largest value as `most`, rounded, of any shape; integers on the CPU. What is nowhere above
    `lowest` is all 0."""
    above = values.detach().double().cpu() - lowest
    return (most * above / max(float(above.max()), 1e-300)).round().to(torch.uint8)


def _check(model: nn.Module, layer: str) -> None:
    modules = dict(model.named_modules())
    if layer not in modules:
        raise ValueError(f"{type(model).__name__} has no layer {layer!r}")
    for name, module in modules.items():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{name} is {type(module).__name__} without running statistics, which mixes the samples of a batch:"
                " an image has no map of its own"
            )


def _gradients(logits_BC: Tensor, targets_B: Tensor, features_Bkhw: Tensor, layer: str) -> Tensor:
    """d logit[target] / d A of each image, all at once: in eval mode no logit depends on another image."""
    if logits_BC.ndim != 2 or targets_B.shape != logits_BC.shape[:1] or targets_B.is_floating_point():
        raise ValueError(
            f"outputs of shape {tuple(logits_BC.shape)} and targets of shape {tuple(targets_B.shape)} and"
            f" {targets_B.dtype}: an activation map needs logits (B, C) and integer classes (B,)"
        )
    if len(targets_B) and not 0 <= int(targets_B.min()) <= int(targets_B.max()) < logits_BC.shape[1]:
        raise ValueError(f"a target lies outside the {logits_BC.shape[1]} classes of the model")
    chosen = logits_BC.gather(1, targets_B.long().unsqueeze(1)).sum()
    if not chosen.requires_grad:
        raise ValueError(f"layer {layer!r} is not used for the logits: name another")
    found = torch.autograd.grad(chosen, features_Bkhw, allow_unused=True)[0]
    if found is None:
        raise ValueError(f"layer {layer!r} is not used for the logits: name another")
    return found
