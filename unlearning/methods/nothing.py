"""Do nothing: the other end of every scale. A measure that cannot tell this from a retrain measures nothing."""

from dataclasses import dataclass
from typing import ClassVar

from unlearning.methods.descent import forget_of, outcome
from unlearning.methods.protocol import Cost, Job, Need, Outcome, Sizes


@dataclass(frozen=True)
class Nothing:
    """The parent's weights as they are, BatchNorm's running statistics among them."""

    name: ClassVar[str] = "nothing"
    source: ClassVar[str] = "no paper: the floor that every method is held against"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def cost(self, sizes: Sizes) -> Cost:  # noqa: ARG002 - the protocol gives the sizes; nothing costs nothing
        return Cost(0.0)

    def unlearn(self, job: Job) -> Outcome:
        forget_of(job)
        return outcome(job, job.parent)
