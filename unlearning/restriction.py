"""Gradient restriction (GR): the training loss that keeps each sample's gradient small, so that later updates can be.

The paper and its released code mean different quantities by it. Both are here, each under its own name:

- `per-sample` (the paper): mean over the batch of loss(z) + alpha * ||grad loss(z)||^2, the squared Euclidean norm over
  all parameters of one sample's own gradient. It may be taken over a random part of the batch, with the same expectation.
- `batch-norm` (the released code): mean over the batch of loss(z), plus alpha * the sum over parameter tensors of the
  Euclidean norm (not squared) of the gradient of that mean. It restricts the batch's gradient, not any sample's.

In training mode a net with BatchNorm has no per-sample gradient. There the loss is that of the training mode, and
`per-sample` restricts the gradient that the same weights have with the running statistics, which is the one that later
updates take: BatchNorm layers alone are switched, and it costs a second forward pass. A net to be restricted had better
take GroupNorm (`norm="group"`), where the loss and its restriction speak of one function: a step costs about the same,
and the restriction closes more of the gap between seen and unseen samples (`make bench-gr` measures both).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearning.gradients import losses_of, parameters_of
from unlearning.problem import Indices, Problem, Restriction
from unlearning.sample_norms import losses_and_squared_norms


def drawn(share: float, count: int, order: np.random.Generator) -> Indices | None:
    """Positions of a random ceil(share * count) of a batch's samples, each subset as likely; None for all of them.

    The mean of the penalty over such a part has the mean over the batch as its expectation, whatever the share.

    Raises:
        ValueError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the restriction's share is {share}: use a number above 0 and at most 1")
    size = ceil(share * count)
    return None if size == count else np.sort(order.choice(count, size, replace=False)).astype(np.int64)


def restricted_loss(
    model: nn.Module,
    problem: Problem,
    inputs: Tensor,
    targets: Tensor,
    restriction: Restriction,
    alpha: float,
    part: Indices | None = None,
) -> Tensor:
    """The scalar training loss of one batch, to be differentiated with respect to the model's parameters.

    In loss units, averaged over the batch; for `restriction` see the module's text. `part` are the positions whose mean
    squared norm stands for the batch's under `per-sample` (see `drawn`). Source: the GR term of Liu et al. 2025
    (arXiv:2507.23257) and of its released training script; the part is ours.

    Raises:
        ValueError: the batch or the part is empty; a part under another restriction; an unknown restriction; a net
            without per-sample gradients under `per-sample`, with the layer's name.
    """
    if len(inputs) == 0:
        raise ValueError("an empty batch has no loss")
    if part is not None and (restriction != "per-sample" or len(part) == 0):
        raise ValueError("a part of the batch is for restriction 'per-sample', and holds at least one sample")
    if restriction == "none":
        return losses_of(problem, model(inputs), targets).mean()
    if restriction == "per-sample":
        return _per_sample(model, problem, inputs, targets, alpha, part)
    if restriction == "batch-norm":
        loss = losses_of(problem, model(inputs), targets).mean()
        gradients = torch.autograd.grad(loss, list(parameters_of(model).values()), create_graph=True)
        return loss + alpha * torch.stack([gradient.norm() for gradient in gradients]).sum()
    raise ValueError(f"restriction is {restriction!r}: use 'per-sample', 'batch-norm' or 'none'")


def _per_sample(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, alpha: float, part: Indices | None
) -> Tensor:
    chosen = None if part is None else torch.from_numpy(part).to(inputs.device)
    some_inputs, some_targets = (inputs, targets) if chosen is None else (inputs[chosen], targets[chosen])
    batch_norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    if batch_norms:
        loss = losses_of(problem, model(inputs), targets).mean()
        with _frozen(batch_norms):
            _, squared_P = losses_and_squared_norms(model, problem, some_inputs, some_targets, create_graph=True)
        return loss + alpha * squared_P.mean()
    losses_R = None
    if part is not None and len(part) < len(inputs):
        # Before the part: backward goes the other way round, so it finds the part's many tensors still in the cache.
        rest = torch.from_numpy(np.delete(np.arange(len(inputs)), part)).to(inputs.device)
        losses_R = losses_of(problem, model(inputs[rest]), targets[rest])
    losses_P, squared_P = losses_and_squared_norms(model, problem, some_inputs, some_targets, create_graph=True)
    losses_B = losses_P if losses_R is None else torch.cat((losses_R, losses_P))
    return losses_B.mean() + alpha * squared_P.mean()


@contextmanager
def _frozen(modules: list[_BatchNorm]) -> Iterator[None]:
    """These modules in eval mode, then back in training mode. Their buffers are read after the loss's own forward pass."""
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True
