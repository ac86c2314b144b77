"""The bounded steps of `unlearning.calibrated` as a method."""

from dataclasses import asdict, dataclass
from typing import ClassVar

from unlearning.calibrated import CalibratedSettings, unlearn_calibrated
from unlearning.methods.descent import sets_of
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes


@dataclass(frozen=True)
class IauCalibrated(CalibratedSettings):
    """Descend on D_r, draw D_f to what unseen data of its difficulty shows, and stop there; see `unlearning.calibrated`.

    Ours, after IA+GC of Liu et al. 2025 (arXiv:2507.23257). Eval mode; BatchNorm's running statistics stay.
    """

    name: ClassVar[str] = "iau-calibrated"
    source: ClassVar[str] = "this project, after IA with GC of Liu et al. 2025 (arXiv:2507.23257)"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.RETAIN_DATA, Need.TUNING_DATA})

    def cost(self, sizes: Sizes) -> Cost:
        """As a rule: three stretches of steps, each over a batch of either set; before them and after each a bounded forward
        pass. Nothing grows with D."""
        steps = 3 * self.stretch(sizes.forget, 0.0)
        batch = min(self.forget_batch, sizes.forget) + min(self.retain_batch, sizes.retain)
        look = min(self.sample, sizes.forget) + min(self.sample, sizes.tuning)
        before = sizes.forget + min(self.sample, sizes.tuning)
        # beside the parent: the model, Adam's two moments, a gradient, and the weights of the last looks
        return Cost(float(steps * batch), float(before + 3 * look), 6 * sizes.vector_bytes)

    def unlearn(self, job: Job) -> Outcome:
        forget_N, retain_N = sets_of(job)
        result = unlearn_calibrated(
            job.parent,
            job.problem,
            forget_N,
            retain_N,
            job.tuning,
            self,
            seed=job.seed,
            progress=job.progress,
            difficulty=job.difficulty,
        )
        return Outcome(
            result.state,
            {
                "steps": result.steps,
                "stopped": result.stopped,
                "layer": result.layer,
                "looks": [asdict(look) for look in result.trace],
                "update_norm": result.update_norm,
            },
        )
