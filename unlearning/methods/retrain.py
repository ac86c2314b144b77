"""Retrain from scratch without D_f: exact by construction, and what every other method is measured by."""

from dataclasses import dataclass, replace
from typing import ClassVar

from unlearning.methods.descent import sets_of
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes
from unlearning.problem import Reseeded
from unlearning.training import train


@dataclass(frozen=True)
class Retrain:
    """The problem's own recipe on D_r from new initial weights.

    The recipe's seed has the job's seed added: seed 0 is the recipe as it stands, others are the spread of retrains.
    BatchNorm's running statistics begin anew. Early stopping, where the recipe asks for it, watches tuning data.
    """

    name: ClassVar[str] = "retrain"
    source: ClassVar[str] = (
        "the definition of exact unlearning (Cao and Yang 2015; Bourtoule et al. 2021, arXiv:1912.03817)"
    )
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA})

    def cost(self, sizes: Sizes) -> Cost:
        """An upper bound where the recipe stops early. A gradient restriction makes each of these samples dearer."""
        return Cost(float(sizes.epochs * sizes.retain), memory_bytes=4 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        _, retain_N = sets_of(job)
        recipe = replace(job.problem.recipe, seed=job.problem.recipe.seed + job.seed)
        trained = train(Reseeded(job.problem, recipe), retain_N, job.tuning, job.progress, device=job.device)
        return Outcome(trained.state, {"epochs": len(trained.history), "seed": recipe.seed})
