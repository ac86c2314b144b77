"""What gradient restriction does to a training: plain loss, GR in its forms, clipping and SignSGD, each to early stopping.

The paper says that a training with GR stops sooner, and that its gradients are small afterwards as those of a training by
clipping or SignSGD are not: these two change the step that is taken, not the gradient that remains. What GR is for, the
update that follows, is the ablation's.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.paper import steps
from benchmarks.paper.cells import Cells, digest_of, engine_digest
from benchmarks.paper.figures import spread
from benchmarks.paper.steps import Change, Clock, before_steps, clip, sign
from benchmarks.paper.variant import Variant
from benchmarks.problems import watched
from unlearning.gradients import NonFinite, chunks, evaluating, scores
from unlearning.problem import Problem, Recipe, Restriction, Samples
from unlearning.sample_norms import per_sample_squared_norms
from unlearning.splits import split_unseen
from unlearning.training import Diverged, TrainedModel, restore, train

Measured = dict[str, Any]
ALPHA, SHARE, BOUNDS, RATES = 0.005, 0.25, (1.0, 0.1), (1e-3, 1e-4)
PATIENCE, LONGEST = 10, 200  # of the released training script
QUANTILES = (5, 25, 50, 75, 95, 99)
SETS = ("seen", "unseen")
ALONG = ("epochs", "best_epoch", "accuracy", "seconds_per_epoch", "times_plain")
NORMS = (*(f"q{share}" for share in QUANTILES), "mean", "cv")


@dataclass(frozen=True)
class Training:
    """One way to train: its recipe, and what is done to a batch's gradients before each step, which may be nothing."""

    name: str
    recipe: Recipe
    change: Change | None = None

    @property
    def cell(self) -> str:
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower())


def stopping(recipe: Recipe, epochs: int | None, patience: int | None) -> Recipe:
    """The recipe with early stopping and no restriction.

    Its own patience and number of epochs where it stops early. Where it does not, those of the released training script:
    10 epochs of patience, at most 200. That script watches accuracy and begins to count anew at a tie; here, as in the
    product, it is the mean loss on tuning data. `epochs` and `patience` that are given come before both.
    """
    free = replace(recipe, alpha=0.0, restriction="none", restriction_share=1.0)
    if recipe.patience is None:
        free = replace(free, epochs=LONGEST, patience=PATIENCE)
    given: dict[str, Any] = {
        name: value for name, value in (("epochs", epochs), ("patience", patience)) if value is not None
    }
    return replace(free, **given)


def trainings(plain: Recipe, alpha: float, bounds: Sequence[float], rates: Sequence[float]) -> list[Training]:
    """What is compared, plain loss first. `bounds` are those of clipping, `rates` the learning rates of SignSGD."""

    def restricted(restriction: Restriction, share: float = 1.0) -> Recipe:
        return replace(plain, alpha=alpha, restriction=restriction, restriction_share=share)

    return [
        Training("plain loss", plain),
        Training(f"GR per sample at {alpha:g}", restricted("per-sample")),
        Training(f"GR on a quarter at {alpha:g}", restricted("per-sample", SHARE)),
        Training(f"GR as released at {alpha:g}", restricted("batch-norm")),
        *(Training(f"clipping at {bound:g}", plain, partial(clip, bound=bound)) for bound in bounds),
        *(Training(f"SignSGD at {r:g}", replace(plain, optimizer="sgd", learning_rate=r), sign) for r in rates),
    ]


def run_seed(
    problem: Problem, compared: Sequence[Training], seed: int, cells: Cells, device: str, working: Callable[[str], None]
) -> dict[str, Measured]:
    """What each training gave by name; found in its cell, or trained. `working` is told of every few steps."""

    def make(training: Training) -> Measured:
        return measure(problem, training, seed, device, lambda text: working(f"{training.name}, {text}"))

    return {training.name: cells.table(training.cell, partial(make, training)) for training in compared}


def measure(
    problem: Problem, training: Training, seed: int, device: str, working: Callable[[str], None] = lambda _: None
) -> Measured:
    """Train once on everything; then what the weights show that were kept, those of the epoch with the lowest tuning loss.

    `epochs` are all that were trained, those of patience among them; `stopped` says whether it was patience that ended
    them. `seconds_per_epoch` is the median, with watching the tuning data. `seen` and `unseen` are the distributions of gradient
    norms over the training samples and over the audit half of the holdout, which nothing was chosen on.
    """
    of = Variant(problem, replace(training.recipe, seed=seed), problem.train)
    everything = np.arange(len(problem.train))
    clock = Clock()
    try:
        with nullcontext() if training.change is None else before_steps(training.change):
            trained = train(of, everything, watched(of), lambda _, text: working(text), device=device, observer=clock)
        model = restore(of, trained.state, device)
        _, audit = split_unseen(of)
        size = of.recipe.batch_size
        return {
            **_epochs(trained, of.recipe),
            "seconds_per_epoch": clock.median,
            "accuracy": float(scores(model, of, of.test).correct_N.mean()),
            "seen": distribution(norms(model, of, of.train, size)),
            "unseen": distribution(norms(model, of, audit.holdout, size)),
        }
    except (Diverged, NonFinite) as error:
        return {"diverged": str(error)}


def _epochs(trained: TrainedModel, recipe: Recipe) -> Measured:
    losses = [epoch.tuning_loss for epoch in trained.history if epoch.tuning_loss is not None]
    assert len(losses) == len(trained.history)
    assert recipe.patience is not None
    best = int(np.argmin(losses)) + 1
    stopped = len(losses) - best >= recipe.patience
    return {"epochs": len(losses), "best_epoch": best, "stopped": stopped, "tuning_loss": min(losses)}


def norms(model: nn.Module, problem: Problem, samples: Samples, batch_size: int) -> NDArray[np.float64]:
    """norms_N: the Euclidean norm of every sample's own gradient over all parameters, in loss per unit of weight.

    Of the loss without its restriction, in eval mode. Squares are summed in the model's precision.

    Raises:
        NonFinite: a norm is infinite or NaN.
        ValueError: the net has no per-sample gradients; names the layer.
    """
    device = next(model.parameters()).device
    squared: list[Tensor] = []
    with evaluating(model):
        for inputs, targets in chunks(samples, np.arange(len(samples)), batch_size, device):
            squared.append(per_sample_squared_norms(model, problem, inputs, targets).detach().double().cpu())
    norms_N: NDArray[np.float64] = torch.cat(squared).sqrt().numpy()
    if not np.isfinite(norms_N).all():
        raise NonFinite("a sample's gradient is infinite or NaN: the weights are unusable")
    return norms_N


def distribution(norms_N: NDArray[np.float64]) -> dict[str, float]:
    """Quantiles by linear interpolation, the mean, and the coefficient of variation (standard deviation over mean)."""
    mean = float(norms_N.mean())
    found = {f"q{share}": float(np.percentile(norms_N, share)) for share in QUANTILES}
    return found | {"mean": mean, "cv": float(norms_N.std()) / mean if mean > 0 else 0.0}


def summary(compared: Sequence[Training], seeds: Sequence[Mapping[str, Measured]]) -> dict[str, Any]:
    """Mean and range over seeds of every training that no seed saw diverge; `times_plain` is the ratio of seconds.

    Raises:
        ValueError: plain loss diverged, so that there is nothing to compare with.
    """
    regimes, missing = [], {}
    if any("diverged" in seed[compared[0].name] for seed in seeds):
        raise ValueError(f"{compared[0].name} diverged: there is nothing to compare with")
    for training in compared:
        found = [seed[training.name] for seed in seeds]
        gone = [one["diverged"] for one in found if "diverged" in one]
        if gone:
            missing[training.name] = gone[0]
            continue
        along = {
            name: spread([_along(name, one, seed) for one, seed in zip(found, seeds, strict=True)]) for name in ALONG
        }
        regimes.append(
            {
                "name": training.name,
                "recipe": repr(training.recipe),
                "stopped": [one["stopped"] for one in found],
                "along": along,
                **{part: {name: spread([one[part][name] for one in found]) for name in NORMS} for part in SETS},
            }
        )
    plain = compared[0].recipe
    return {"regimes": regimes, "missing": missing, "patience": plain.patience, "longest": plain.epochs}


def _along(name: str, one: Measured, seed: Mapping[str, Measured]) -> float:
    if name != "times_plain":
        return float(one[name])
    plain = next(iter(seed.values()))
    return float(one["seconds_per_epoch"] / plain["seconds_per_epoch"])


def cells_in(folder: Path, facts: dict[str, Any], recipe: Recipe, seed: int, done: Callable[[str], None]) -> Cells:
    """The cells of one seed: under the digest of the code, of how trainings differ, and of what the run was asked for."""
    own = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (__file__, steps.__file__))).hexdigest()
    key = digest_of(facts | {"seed": seed, "recipe": repr(recipe), "code": engine_digest(), "gr": own})
    return Cells(folder / f"gr-seed-{seed}-{key[:16]}", done)
