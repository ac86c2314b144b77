"""Influence Approximation Unlearning as methods: the paper's update, its first part alone, and the released step."""

from dataclasses import asdict, dataclass
from typing import ClassVar

from unlearning.iau import SEARCH_SIZE, IauSettings, Variant, Weights, unlearn
from unlearning.methods.descent import covers_all, forget_of
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes

PAPER = "Liu et al. 2025 (arXiv:2507.23257)"


@dataclass(frozen=True)
class Iau:
    """IA+GC: theta - eta (G(D_r) - G(D_f)), one step; `weights` "sums" as in the paper, "means" as in its released code.

    `eta` None is searched on tuning data (see `unlearning.iau.IauSettings`); the paper takes a fixed one. Meant for a
    parent trained with gradient restriction, and works on any. Eval mode; BatchNorm's running statistics stay.
    """

    name: ClassVar[str] = "iau"
    source: ClassVar[str] = f"{PAPER}, IA with GC"
    variant: ClassVar[Variant] = "ia+gc"

    weights: Weights = "means"
    eta: float | None = None
    eta_max: float = 100.0
    evaluations: int = 12
    accuracy_budget: float = 0.02

    def __post_init__(self) -> None:
        self._settings()

    def _settings(self) -> IauSettings:
        return IauSettings(
            variant=self.variant,
            weights=self.weights,
            eta=self.eta,
            eta_max=self.eta_max,
            evaluations=self.evaluations,
            accuracy_budget=self.accuracy_budget,
        )

    @property
    def needs(self) -> frozenset[Need]:
        unseen = {Need.TUNING_DATA} if self.eta is None else set()
        return frozenset({Need.GRADIENT_SUM, *unseen})

    def cost(self, sizes: Sizes) -> Cost:
        """|D_f| gradients; for each trial of eta, forward passes over D_f and a bounded part of tuning data."""
        trials = 0 if self.eta is not None else self.evaluations + 1
        return _cost(sizes, trials)

    def unlearn(self, job: Job) -> Outcome:
        return _unlearn(job, self._settings())


@dataclass(frozen=True)
class Ia(Iau):
    """IA alone: theta + eta G(D_f), without the correction. The paper's ablation; for the rest see `Iau`."""

    name: ClassVar[str] = "ia"
    source: ClassVar[str] = f"{PAPER}, IA"
    variant: ClassVar[Variant] = "ia"


@dataclass(frozen=True)
class IauReleased:
    """The released code's step: one step of a fresh Adam on mean grad(D_r) - mean grad(D_f).

    That is lr * g / (|g| + 1e-8), nearly lr * sign(g), whatever the size of D_f. `eta` is its lr, 0.001. Where we differ:
    the released script runs in train mode with all of D_r as one batch, so that it also rewrites BatchNorm's running
    statistics; here they stay.
    """

    name: ClassVar[str] = "iau-released"
    source: ClassVar[str] = f"{PAPER}, released code (Lolo1222/IAU)"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENT_SUM})

    eta: float = 1e-3

    def __post_init__(self) -> None:
        self._settings()

    def _settings(self) -> IauSettings:
        return IauSettings("ia+gc", "means", "adam", eta=self.eta)

    def cost(self, sizes: Sizes) -> Cost:
        return _cost(sizes, 0)

    def unlearn(self, job: Job) -> Outcome:
        return _unlearn(job, self._settings())


def _cost(sizes: Sizes, trials: int) -> Cost:
    looked = float(trials * (sizes.forget + min(sizes.tuning, 2 * SEARCH_SIZE)))
    return Cost(float(sizes.forget), looked, 8 * sizes.vector_bytes, 2 * sizes.vector_bytes)


def _unlearn(job: Job, settings: IauSettings) -> Outcome:
    forget_N = forget_of(job)
    if job.total is None:
        raise ValueError("the gradient sum G(D) of the parent is not there: compute it once a version and pass it")
    covers_all(job, job.total.count, "gradient sum")
    result = unlearn(job.parent, job.problem, forget_N, job.total, job.tuning, settings, progress=job.progress)
    return Outcome(
        result.state,
        {
            "settings": asdict(result.settings),
            "eta": result.eta,
            "within_budget": result.within_budget,
            "trace": [asdict(trial) for trial in result.trace],
            "update_norm": result.update_norm,
        },
    )
