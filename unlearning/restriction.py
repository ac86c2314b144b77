"""Gradient restriction (GR): the training loss that keeps each sample's gradient small, so that later updates can be.

The paper and its released code mean different quantities by it. Both are here, each under its own name:

- `per-sample` (the paper): mean over the batch of loss(z) + alpha * ||grad loss(z)||^2, the squared Euclidean norm over
  all parameters of one sample's own gradient.
- `batch-norm` (the released code): mean over the batch of loss(z), plus alpha * the sum over parameter tensors of the
  Euclidean norm (not squared) of the gradient of that mean. It restricts the batch's gradient, not any sample's.
"""

import torch
from torch import Tensor, nn

from unlearning.gradients import losses_of, parameters_of
from unlearning.problem import Problem, Restriction
from unlearning.sample_norms import losses_and_squared_norms


def restricted_loss(
    model: nn.Module, problem: Problem, inputs: Tensor, targets: Tensor, restriction: Restriction, alpha: float
) -> Tensor:
    """The scalar training loss of one batch, to be differentiated with respect to the model's parameters.

    In loss units, averaged over the batch; for `restriction` see the module's text. Source: the GR term of Liu et al.
    2025 (arXiv:2507.23257) and of its released training script.

    Raises:
        ValueError: the batch is empty; a BatchNorm layer is in training mode under `per-sample`; an unknown restriction.
    """
    if len(inputs) == 0:
        raise ValueError("an empty batch has no loss")
    if restriction == "none":
        return losses_of(problem, model(inputs), targets).mean()
    if restriction == "per-sample":
        losses_B, squared_norms_B = losses_and_squared_norms(model, problem, inputs, targets, create_graph=True)
        return losses_B.mean() + alpha * squared_norms_B.mean()
    if restriction == "batch-norm":
        loss = losses_of(problem, model(inputs), targets).mean()
        gradients = torch.autograd.grad(loss, list(parameters_of(model).values()), create_graph=True)
        return loss + alpha * torch.stack([gradient.norm() for gradient in gradients]).sum()
    raise ValueError(f"restriction is {restriction!r}: use 'per-sample', 'batch-norm' or 'none'")
