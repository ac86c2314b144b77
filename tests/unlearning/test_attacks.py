"""The attacks see what was learnt by heart and nothing else; their figures against slow forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from tests.unlearning.memorised import LEARNT, memorised
from tests.unlearning.problems import Blobs
from unlearning.attack_statistics import attack_statistics, recall_at
from unlearning.attacks import Attacks, fit_attacks, fit_centres
from unlearning.gradients import Scores
from unlearning.intervals import wilson
from unlearning.membership import match
from unlearning.problem import Indices
from unlearning.signals import Signals
from unlearning.splits import split_unseen
from unlearning.statistics import Statistic

LEVEL = 0.9
FORGET = np.arange(150)


def by_name(found: list[Statistic]) -> dict[str, Statistic]:
    names = {statistic.name: statistic for statistic in found}
    assert len(names) == len(found)
    for statistic in found:
        assert statistic.low <= statistic.estimate <= statistic.high
    return names


def power(indices: Indices) -> dict[str, Statistic]:
    """Of a model that did not change."""
    known = memorised()
    shown, unseen = known.shown(indices), known.unseen
    return by_name(attack_statistics(shown, shown, unseen, unseen, known.attacks.knows(indices), LEVEL))


def signals(losses_N: object, strata_N: Indices | None = None, network_N: object = None) -> Signals:
    losses = np.asarray(losses_N, dtype=np.float64)
    strata = np.zeros(len(losses), dtype=np.int64) if strata_N is None else strata_N
    network = None if network_N is None else np.asarray(network_N, dtype=np.float64)
    return Signals(Scores(losses, np.ones(len(losses), dtype=bool), strata), network_N=network)


def test_every_attack_sees_members_and_the_idle_update_changes_nothing() -> None:
    found = power(FORGET)
    assert found["auc_loss"].low > 0.65
    assert found["auc_network"].low > 0.6
    assert found["auc_distance"].low > 0.5
    assert found["paper_recall"].low > found["paper_fpr"].high
    assert found["auc_loss"].n == 150
    assert found["auc_network"].n == found["auc_distance"].n == 100
    assert "without 50 of D_f" in found["auc_network"].note
    for name, statistic in found.items():
        if not name.endswith("_before"):
            before = found[f"{name}_before"]
            assert (before.estimate, before.low, before.high) == (statistic.estimate, statistic.low, statistic.high)


def test_no_attack_sees_members_where_there_are_none() -> None:
    found = power(np.arange(LEARNT, 800))
    for attack in ("loss", "network", "distance"):
        assert found[f"auc_{attack}"].low < 0.5 < found[f"auc_{attack}"].high
        assert found[f"recall_{attack}_fpr5"].low < 0.05 < found[f"recall_{attack}_fpr5"].high
    assert found["paper_recall"].estimate == pytest.approx(found["paper_fpr"].estimate, abs=0.06)


def test_an_attack_that_calls_everybody_a_member_knows_nothing() -> None:
    forget, unseen = signals(np.zeros(40), network_N=np.ones(40)), signals(np.zeros(400), network_N=np.ones(400))
    found = by_name(attack_statistics(forget, forget, unseen, unseen, np.zeros(40, dtype=bool), LEVEL))
    for attack in ("loss", "network"):
        assert found[f"auc_{attack}"].estimate == 0.5
        assert found[f"recall_{attack}_fpr1"].estimate == pytest.approx(0.01)
        assert found[f"recall_{attack}_fpr5"].estimate == pytest.approx(0.05)
    assert [found[name].estimate for name in ("paper_recall", "paper_fpr")] == pytest.approx([1, 1])
    assert not any("distance" in name for name in found)


def test_recall_is_that_of_the_lot_among_ties() -> None:
    """Against the mean of many attacks that each call the ties of the threshold members by lot."""
    rng = np.random.default_rng(0)
    forget_N, unseen_M = rng.integers(0, 6, 70).astype(float), rng.integers(2, 12, 90).astype(float)
    weights_M = rng.random(90)
    weights_M /= weights_M.sum()
    for rate in (0.01, 0.05, 0.3, 0.97):
        recalls = []
        for point in (np.arange(2000) + 0.5) / 2000:
            # tie-breaking numbers in (0, 1): an unseen sample of rank `point` among its ties is called first
            threshold = next(t for t in np.unique(unseen_M) if weights_M[unseen_M <= t].sum() >= rate - 1e-12)
            below, at = weights_M[unseen_M < threshold].sum(), weights_M[unseen_M == threshold].sum()
            recalls.append(((forget_N < threshold) | ((forget_N == threshold) & (point < (rate - below) / at))).mean())
        assert recall_at(forget_N, unseen_M, weights_M, rate) == pytest.approx(np.mean(recalls), abs=1e-3)


def test_the_intervals_of_recall_cover() -> None:
    from scipy.stats import norm

    rng, hits = np.random.default_rng(1), {"auc_loss": 0, "recall_loss_fpr1": 0, "recall_loss_fpr5": 0}
    truth = {"auc_loss": norm.cdf(1 / 2**0.5), "recall_loss_fpr1": norm.cdf(norm.ppf(0.01) + 1)}
    truth["recall_loss_fpr5"] = norm.cdf(norm.ppf(0.05) + 1)
    for _ in range(200):
        classes_F, classes_H = rng.integers(0, 3, 100), rng.integers(0, 3, 300)
        forget = signals(rng.normal(size=100) - 1, classes_F)
        unseen = signals(rng.normal(size=300), classes_H)
        found = by_name(attack_statistics(forget, forget, unseen, unseen, np.zeros(100, dtype=bool), LEVEL))
        for name, value in truth.items():
            hits[name] += found[name].low <= value <= found[name].high
    assert min(hits.values()) / 200 >= 0.86, hits


def test_too_few_unseen_samples_show_no_rare_rate_and_the_note_says_so() -> None:
    forget, unseen = signals(np.arange(20.0)), signals(np.arange(100.0))
    found = by_name(attack_statistics(forget, forget, unseen, unseen, np.zeros(20, dtype=bool), LEVEL))
    assert "recall_loss_fpr5" in found
    assert "recall_loss_fpr1" not in found
    assert "no recall at 1% false positives, which needs 200 unseen samples" in found["auc_loss"].note
    # of 250 unseen samples only 25 are of the one class of D_f
    other = signals(np.arange(250.0), np.arange(250) % 10)
    assert set(by_name(attack_statistics(forget, forget, other, other, np.zeros(20, dtype=bool), LEVEL))) == {
        "auc_loss_before",
        "auc_loss",
    }


def test_figures_are_matched_by_class() -> None:
    """One class has higher losses throughout: D_f of that class alone must not look unlike unseen data."""
    rng = np.random.default_rng(2)
    classes_H = np.repeat([0, 1], 200)
    unseen = signals(rng.normal(size=400) + 5 * classes_H, classes_H, -rng.normal(size=400) + 5 * classes_H)
    forget = signals(rng.normal(size=300) + 5, np.ones(300, dtype=np.int64), 5 - rng.normal(size=300))
    found = by_name(attack_statistics(forget, forget, unseen, unseen, np.zeros(300, dtype=bool), LEVEL))
    assert found["auc_loss"].low < 0.5 < found["auc_loss"].high
    assert found["recall_loss_fpr5"].low < 0.05 < found["recall_loss_fpr5"].high
    expected = float((unseen.network_N[200:] > 0).mean()) if unseen.network_N is not None else -1
    assert found["paper_fpr"].estimate == pytest.approx(expected)
    assert (found["paper_fpr"].low, found["paper_fpr"].high) == pytest.approx(wilson(expected, 200, LEVEL))
    assert match(forget.scores.strata_N, unseen.scores.strata_N).weights_M[:200].sum() == 0


def test_where_the_attacks_were_fitted_on_all_of_them_the_loss_alone_is_asked() -> None:
    assert {name.removesuffix("_before") for name in power(np.arange(0, LEARNT, 3))} == {
        "auc_loss",
        "recall_loss_fpr1",
        "recall_loss_fpr5",
    }


def test_the_wrong_rows_are_refused() -> None:
    forget, unseen = signals(np.arange(20.0)), signals(np.arange(100.0))
    nobody = np.zeros(20, dtype=bool)
    with pytest.raises(ValueError, match="not of the same samples"):
        attack_statistics(forget, unseen, unseen, unseen, nobody, LEVEL)
    with pytest.raises(ValueError, match="one value a sample"):
        attack_statistics(forget, forget, unseen, unseen, np.zeros(3, dtype=bool), LEVEL)
    with pytest.raises(ValueError, match="both the forget set and the holdout"):
        attack_statistics(forget.rows(nobody), forget.rows(nobody), unseen, unseen, nobody[:0], LEVEL)


def test_distances_are_those_to_the_class_or_to_all() -> None:
    rng = np.random.default_rng(3)
    features_ND, strata_N = rng.normal(size=(60, 5)), np.arange(60) % 3 * 2
    features_ND[:, 4] = 7  # never varies, and must not make distances infinite
    found = fit_centres("layer", torch.from_numpy(features_ND), strata_N)
    pooled_D = sum(features_ND[strata_N == c].var(axis=0) * 20 for c in (0, 2, 4)) / 57
    shrunk_D = 0.9 * pooled_D + 0.1 * np.mean(pooled_D)
    asked_BD = rng.normal(size=(4, 5)).astype(np.float32)
    means = [features_ND[strata_N == 2].mean(0), features_ND[strata_N == 4].mean(0), *[features_ND.mean(0)] * 2]
    expected = [(((asked_BD[i] - means[i]) ** 2 / shrunk_D).sum()) ** 0.5 for i in range(4)]
    distances_B = found.distances(torch.from_numpy(asked_BD), np.array([2, 4, 3, 9]))  # 3 and 9 are no known classes
    np.testing.assert_allclose(distances_B.numpy(), expected)


def test_the_same_seed_gives_the_same_attacks_and_tensors_keep_them() -> None:
    problem = Blobs(count=200)
    tuning, _ = split_unseen(problem)
    model = problem.build_model()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (fit_attacks(model, problem, np.arange(60), tuning, seed) for seed in (1, 1))
    assert torch.equal(torch.get_rng_state(), before)
    again = Attacks.from_tensors(load(save(one.tensors())))
    other = fit_attacks(model, problem, np.arange(60), tuning, 2)
    for name, value in one.tensors().items():
        assert torch.equal(value, two.tensors()[name])
        assert torch.equal(value, again.tensors()[name])
    assert not torch.equal(one.tensors()["network/0.weight"], other.tensors()["network/0.weight"])
    neither = Attacks(None, None, np.arange(3))
    assert Attacks.from_tensors(neither.tensors()).network is None
    assert replace(one, centres=None).tensors().keys() < one.tensors().keys()
    with pytest.raises(ValueError, match="a part is missing"):
        Attacks.from_tensors({name: value for name, value in one.tensors().items() if name != "centres/means_CD"})
    with pytest.raises(ValueError, match="needs members"):
        fit_attacks(model, problem, np.empty(0, dtype=np.int64), tuning)


def test_members_the_attacks_were_fitted_on_are_known_in_ascending_order() -> None:
    known = memorised().attacks.knows(np.array([5, 0, 4, 3, 299]))
    assert known.tolist() == [True, True, False, False, False]
