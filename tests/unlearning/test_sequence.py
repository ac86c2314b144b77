"""Neighbours of D_f and the way since the last training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unlearning.memorised import LEARNT, memorised
from unlearning.gradients import Scores
from unlearning.intervals import bonett_price
from unlearning.membership import match, placements
from unlearning.sequence import beside, cumulative_mu, exposure_of_neighbours, neighbours
from unlearning.signals import observe
from unlearning.statistics import Statistic

LEVEL = 0.9


def test_neighbours_are_those_of_the_largest_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    forget_FD, retained_ND = (torch.randn((n, 6), generator=generator) for n in (9, 40))
    retained_ND[7] = 0  # all units silent: near to nothing
    cosine_NF = [[float(torch.cosine_similarity(r, f, dim=0)) for f in forget_FD] for r in retained_ND]
    slow = np.sort(np.argsort([-max(row) for row in cosine_NF], kind="stable")[:5])
    assert neighbours(forget_FD, retained_ND, 5).tolist() == slow.tolist()
    monkeypatch.setattr("unlearning.sequence.BLOCK", 2)
    assert neighbours(forget_FD, retained_ND, 5).tolist() == slow.tolist()
    assert neighbours(forget_FD, retained_ND, 99).tolist() == list(range(40))
    twins = neighbours(torch.ones((1, 3)), torch.ones((6, 3)), 2)
    assert twins.tolist() == [0, 1]
    for wrong in ((forget_FD, retained_ND[:, :3]), (forget_FD[:0], retained_ND), (forget_FD, retained_ND[:0])):
        with pytest.raises(ValueError, match=r"both sides|samples that stay"):
            neighbours(*wrong)


def test_neighbours_in_a_network_are_mostly_of_the_same_class() -> None:
    known = memorised()
    assert known.shown(np.arange(4)).features_ND is None  # kept only where asked for
    forget, retained = (
        observe(known.model, known.problem, known.problem.train, indices, known.attacks, features=True)
        for indices in (np.arange(0, 40, 4), np.setdiff1d(np.arange(LEARNT), np.arange(0, 40, 4)))
    )
    assert forget.features_ND is not None
    assert retained.features_ND is not None
    chosen = neighbours(forget.features_ND, retained.features_ND, 30)
    assert (retained.scores.strata_N[chosen] == 0).mean() > 0.8  # D_f is of class 0
    same = exposure_of_neighbours(
        retained.scores.rows(chosen), retained.scores.rows(chosen), known.unseen.scores, known.unseen.scores, LEVEL
    )
    assert same.estimate == 0
    assert same.low < 0 < same.high


def scored(losses_N: object, strata_N: object) -> Scores:
    losses = np.asarray(losses_N, dtype=np.float64)
    return Scores(losses, np.ones(len(losses), dtype=bool), np.asarray(strata_N, dtype=np.int64))


def test_exposure_is_the_paired_change_of_places_and_its_interval_covers() -> None:
    """Losses of the neighbours fall by `gap`: the truth is Phi(gap / sqrt 2) - 1/2, all spreads being one."""
    from scipy.stats import norm

    rng, hits = np.random.default_rng(1), {0.0: 0, 0.5: 0}
    for gap in hits:
        for _ in range(200):
            classes_N, classes_M = rng.integers(0, 3, 60), rng.integers(0, 3, 300)
            base_N, base_M = rng.normal(size=60), rng.normal(size=300)
            before, unseen = scored(base_N, classes_N), scored(base_M, classes_M)
            after = scored(0.8 * base_N + 0.6 * rng.normal(size=60) - gap, classes_N)
            unseen_after = scored(0.8 * base_M + 0.6 * rng.normal(size=300), classes_M)
            found = exposure_of_neighbours(before, after, unseen, unseen_after, LEVEL)
            hits[gap] += found.low <= norm.cdf(gap / 2**0.5) - 0.5 <= found.high
        matching = match(classes_N, classes_M)
        places_after_N, _ = placements(after.losses_N, unseen_after.losses_N, matching)
        places_before_N, _ = placements(before.losses_N, unseen.losses_N, matching)
        assert found.estimate == pytest.approx(places_after_N.mean() - places_before_N.mean())
    assert min(hits.values()) / 200 >= 0.86, hits
    exposed = exposure_of_neighbours(before, replace(before, losses_N=before.losses_N - 9), unseen, unseen, LEVEL)
    assert exposed.low > 0.3
    with pytest.raises(ValueError, match="not of the same samples"):
        exposure_of_neighbours(before, after.rows(np.arange(3)), unseen, unseen_after, LEVEL)


def test_the_way_since_the_last_training_is_a_paired_change() -> None:
    anchor_N, after_N = np.repeat([True, False], [80, 20]), np.repeat([False, True, False], [7, 75, 18])
    found = cumulative_mu(anchor_N, after_N, LEVEL)
    assert found.name == "cumulative_mu"
    assert found.estimate == pytest.approx((2 - 7) / 100)
    assert (found.low, found.high) == pytest.approx(bonett_price(2, 7, 100, LEVEL))
    assert cumulative_mu(anchor_N, anchor_N, LEVEL).estimate == 0
    with pytest.raises(ValueError, match="same test samples"):
        cumulative_mu(anchor_N, after_N[:3], LEVEL)


def test_what_happens_to_all_that_stays_is_not_the_neighbours() -> None:
    def statistic(estimate: float, half: float) -> Statistic:
        return Statistic(
            "neighbours", estimate, estimate - half, estimate + half, 0.9, 50, "holdout", "DeLong", "change"
        )

    found = beside(statistic(0.2, 0.03), statistic(0.15, 0.04))
    assert (found.estimate, found.low, found.high) == pytest.approx((0.05, 0.0, 0.1))
    assert "+0.1500" in found.note
