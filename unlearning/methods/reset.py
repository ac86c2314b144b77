"""Reset and repair: break part of the network, then fine-tune on what stays. MSG and CT, of the NeurIPS 2023 challenge."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unlearning.gradients import gradient_sum
from unlearning.methods.descent import fit, outcome, positive, seeded, sets_of, sgd, share, student_of
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes

Layers = Literal["conv", "all"]
SLOWED = 0.1


@dataclass(frozen=True)
class Msg:
    """Masked small gradients. g = gradient of (loss on as many samples of D_r as D_f has) - (loss on D_f), at the parent.
    In each layer the `reset_share` of weights with the smallest |g| is drawn anew (Kaiming normal, fan out); then epochs
    on D_r, in which the other weights of these layers learn at a tenth of the gradient.

    Source: second place of the NeurIPS 2023 unlearning challenge, read in DeepUnlearn's port (Cadet et al. 2024,
    arXiv:2410.01276), whose defaults these are: 30 %, SGD 1e-3 with momentum 0.9 and weight decay 5e-4, batches of 64, 5
    epochs with a learning rate that rises linearly for the first half and falls after. Where we differ: biases keep
    their values and learn at full rate (the port gives convolutions new biases; its nets have none); g is a sum over
    samples in eval mode; `layers` "all" treats Linear weights like convolutions, for nets that have none.

    Repair is in train mode: dropout on, BatchNorm's running statistics follow D_r.
    """

    name: ClassVar[str] = "msg"
    source: ClassVar[str] = "NeurIPS 2023 unlearning challenge, 2nd place; Cadet et al. 2024 (arXiv:2410.01276)"

    reset_share: float = 0.3
    layers: Layers = "conv"
    learning_rate: float = 1e-3
    epochs: int = 5
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.layers not in ("conv", "all"):
            raise ValueError(f"layers is {self.layers!r}: use 'conv' or 'all'")
        share(reset_share=self.reset_share)
        positive(learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)

    @property
    def needs(self) -> frozenset[Need]:
        shape = {Need.CONVOLUTIONS} if self.layers == "conv" else set()
        return frozenset({Need.RETAIN_DATA, *shape})

    def cost(self, sizes: Sizes) -> Cost:
        compared = sizes.forget + min(sizes.forget, sizes.retain)
        return Cost(float(compared + self.epochs * sizes.retain), memory_bytes=7 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N, retain_N = sets_of(job)
        kinds = (nn.Conv2d,) if self.layers == "conv" else (nn.Conv2d, nn.Linear)
        train = job.problem.train
        with seeded(job) as rng:
            student = student_of(job)
            chosen = [(name, module) for name, module in student.named_modules() if isinstance(module, kinds)]
            if not chosen:
                raise ValueError("the network has no Conv2d layer to reset: take layers='all' for its Linear layers")
            compared_N = np.sort(rng.choice(retain_N, min(len(forget_N), len(retain_N)), replace=False))
            stay = gradient_sum(job.parent, job.problem, train, compared_N).vector
            go = gradient_sum(job.parent, job.problem, train, forget_N).vector
            scale: dict[str, Tensor] = {}
            for prefix, module in chosen:
                name = f"{prefix}.weight" if prefix else "weight"
                if name in stay:
                    scale[name] = self._reset(module.weight, (stay[name] - go[name]).abs())
            optimizer = sgd(student, self.learning_rate, self.momentum, self.weight_decay)
            steps = fit(job, student, optimizer, retain_N, self.epochs, self.batch_size, rng, self._rate, scale)
            reset = sum(int((value == 1).sum()) for value in scale.values())
            return outcome(job, student, steps=steps, reset=reset)

    def _reset(self, weight: Tensor, size: Tensor) -> Tensor:
        """Draw the smallest anew, in place; returns what gradients are multiplied by from now on."""
        count = round(self.reset_share * weight.numel())
        smallest = torch.sort(size.flatten(), stable=True).indices[:count]
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[smallest] = True
        mask = mask.view_as(weight)
        fresh = nn.init.kaiming_normal_(torch.empty_like(weight), mode="fan_out", nonlinearity="relu")
        with torch.no_grad():
            weight.copy_(torch.where(mask, fresh, weight))
        return torch.where(mask, 1.0, SLOWED).to(weight.dtype)

    def _rate(self, epoch: int) -> float:
        count, rise = epoch + 1, (self.epochs + 1) // 2
        if count <= rise:
            return self.learning_rate * count / rise
        return self.learning_rate * (self.epochs + 1 - count) / (self.epochs + 1 - rise)


@dataclass(frozen=True)
class Ct:
    """Convolution transpose. Swap height and width of every convolution's kernel; then epochs on D_r.

    Source: fifth place of the NeurIPS 2023 unlearning challenge, read in DeepUnlearn's port (Cadet et al. 2024,
    arXiv:2410.01276), whose defaults these are: SGD 1e-3 with momentum 0.9 and weight decay 5e-4, batches of 64, 3 epochs
    with a cosine learning rate. D_f itself is not read. No difference in the rule; a kernel that is not square is refused.

    Repair is in train mode: dropout on, BatchNorm's running statistics follow D_r.
    """

    name: ClassVar[str] = "ct"
    source: ClassVar[str] = "NeurIPS 2023 unlearning challenge, 5th place; Cadet et al. 2024 (arXiv:2410.01276)"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA, Need.CONVOLUTIONS})

    learning_rate: float = 1e-3
    epochs: int = 3
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        positive(learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size)

    def cost(self, sizes: Sizes) -> Cost:
        return Cost(float(self.epochs * sizes.retain), memory_bytes=3 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        _, retain_N = sets_of(job)
        with seeded(job) as rng:
            student = student_of(job)
            convolutions = [module for module in student.modules() if isinstance(module, nn.Conv2d)]
            if not convolutions:
                raise ValueError("the network has no Conv2d layer: there is nothing to transpose")
            for module in convolutions:
                if module.kernel_size[0] != module.kernel_size[1]:
                    raise ValueError(
                        f"a kernel of {module.kernel_size} is not square and cannot be transposed in place"
                    )
                with torch.no_grad():
                    module.weight.copy_(module.weight.transpose(2, 3).clone())
            optimizer = sgd(student, self.learning_rate, self.momentum, self.weight_decay)
            rate_of = cosine(self.learning_rate, self.epochs)
            steps = fit(job, student, optimizer, retain_N, self.epochs, self.batch_size, rng, rate_of)
            return outcome(job, student, steps=steps, transposed=len(convolutions))


def cosine(rate: float, epochs: int) -> Callable[[int], float]:
    """Half a cosine from `rate` in epoch 0 towards 0 in epoch `epochs`."""
    return lambda epoch: rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
