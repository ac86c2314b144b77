"""Made-up trainings whose chances are known: how sure each is of a sample that it never saw.

phi = ability of the sample + `own` noise of the sample in this training + `common` noise of the training as a whole, in
nats; the loss is that of a target with the confidence phi. The attack calls a sample a member where phi is at least 0, so
its share over trainings is Phi(ability / sqrt(own^2 + common^2)).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]  # scipy has no stubs

from unlearning.bank import Bank, Reference, assemble
from unlearning.division import GROUP
from unlearning.gradients import Scores
from unlearning.membership import Threshold
from unlearning.problem import Indices

Floats = NDArray[np.float64]
THRESHOLD = Threshold(float(np.log(2)), 0.5, 100, 100)


def loss(phi_N: Floats) -> Floats:
    """loss_N of a confidence in nats; the inverse of `membership.confidence`."""
    loss_N: Floats = np.log1p(np.exp(-phi_N))
    return loss_N


@dataclass(frozen=True)
class World:
    """N samples to learn from, M unseen ones, and what two trainings that saw neither differ by."""

    ability_N: Floats
    strata_N: Indices
    ability_M: Floats
    strata_M: Indices
    own: float = 1.0
    common: float = 0.1

    @staticmethod
    def of(
        random: np.random.Generator, n: int, m: int, own: float = 1.0, common: float = 0.1, classes: int = 4
    ) -> "World":
        """Abilities 1.5 nats apart, classes at levels of their own."""

        def drawn(count: int) -> tuple[Floats, Indices]:
            strata = random.integers(0, classes, count)
            return 0.4 * (strata - 1.5) + 0.5 + 1.5 * random.normal(size=count), strata

        return World(*drawn(n), *drawn(m), own, common)

    def training(self, random: np.random.Generator, lesson: float = 0.0, hidden: float = 0.0) -> tuple[Floats, Floats]:
        """losses_N and losses_M of one training that saw none of them, `lesson` nats surer than others. `hidden` is noise of
        the training that unseen data does not show."""
        together = self.common * random.normal() + lesson
        apart = hidden * random.normal()

        def shown(ability: Floats, shift: float) -> Floats:
            return loss(ability + shift + self.own * random.normal(size=len(ability)))

        return shown(self.ability_N, together + apart), shown(self.ability_M, together)

    def share_N(self, rows_N: Indices) -> Floats:
        """The chance that a training calls each of these a member."""
        share_N: Floats = norm.cdf(self.ability_N[rows_N] / np.hypot(self.own, self.common))
        return share_N

    def bank(self, random: np.random.Generator, groups: int, hidden: float = 0.0) -> Bank:
        """A table of as many groups, each with a division of its own."""
        references = []
        for group in range(groups):
            quarter_N = random.permutation(len(self.ability_N)) % GROUP
            for part in range(GROUP):
                out_N = np.flatnonzero(quarter_N == part)
                losses_N, losses_M = self.training(random, hidden=hidden)
                unseen = Scores(losses_M, losses_M < THRESHOLD.loss, self.strata_M)
                seen = Scores(losses_N[out_N], losses_N[out_N] < THRESHOLD.loss, self.strata_N[out_N])
                references.append(Reference(GROUP * group + part, out_N, seen, unseen, unseen))
        return assemble(references, len(self.ability_N))
