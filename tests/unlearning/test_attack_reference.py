"""The likelihood-ratio attack by the bank's references."""

import numpy as np
import pytest

from unlearning.attack_statistics import reference_statistics
from unlearning.bank import NEVER, Bank
from unlearning.gradients import Scores

N, M, K, G = 400, 600, 8, 2


def scored(losses: np.ndarray) -> Scores:
    return Scores(losses, losses < 1, np.zeros(len(losses), dtype=np.int64))


def world(seed: int = 0) -> tuple[Bank, np.ndarray, np.ndarray, np.random.Generator]:
    """A bank over samples of very different hardness, and what any model that never saw them shows on average, in nats."""
    random = np.random.default_rng(seed)
    hard_N, hard_M = random.normal(0, 4, N), random.normal(0, 4, M)
    reference_GN = np.stack([random.integers(0, 4, N) + 4 * group for group in range(G)]).astype(np.int8)

    def losses(confidence: np.ndarray) -> np.ndarray:
        return np.log1p(np.exp(-confidence)).astype(np.float32)

    bank = Bank(
        reference_GN,
        losses(hard_N + random.normal(0, 1, (G, N))),
        np.zeros(N, dtype=np.int64),
        losses(hard_M + random.normal(0, 1, (K, M))),
        np.zeros(M, dtype=np.int64),
        np.ones((K, 10), dtype=np.float32),
        np.ones((K, 10), dtype=bool),
        np.zeros(10, dtype=np.int64),
    )
    return bank, hard_N, hard_M, random


def shown(hard: np.ndarray, random: np.random.Generator, learnt: float = 0.0) -> Scores:
    return scored(np.log1p(np.exp(-(hard + learnt + random.normal(0, 1, len(hard))))))


def test_it_finds_members_where_the_loss_alone_does_not_and_nothing_on_a_model_that_never_saw_them() -> None:
    bank, hard_N, hard_M, random = world()
    chosen = np.arange(200)
    before = shown(hard_N[chosen], random, learnt=2.0), shown(hard_M, random)
    after = shown(hard_N[chosen], random), shown(hard_M, random)
    found = {one.name: one for one in reference_statistics(bank, chosen, before, after, 0.9)}
    assert found["auc_reference_before"].low > 0.75
    assert found["auc_reference"].low < 0.5 < found["auc_reference"].high
    assert found["recall_reference_fpr5_before"].estimate > 0.25
    assert found["recall_reference_fpr5"].high < 0.15
    plain = (before[0].losses_N[:, None] < before[1].losses_N[None, :]).mean()
    assert found["auc_reference_before"].estimate > plain + 0.1


def test_samples_that_the_bank_does_not_know_are_left_out_and_counted() -> None:
    bank, hard_N, hard_M, random = world(1)
    bank.reference_GN[0, :50] = NEVER
    chosen = np.arange(200)
    pair = shown(hard_N[chosen], random), shown(hard_M, random)
    first = reference_statistics(bank, chosen, pair, pair, 0.9)[0]
    assert first.n == 150
    assert "without 50" in first.note
    with pytest.raises(ValueError, match="knows no sample"):
        reference_statistics(bank, chosen[:50], tuple(one.rows(chosen[:50]) for one in (pair[0], pair[0])), pair, 0.9)
