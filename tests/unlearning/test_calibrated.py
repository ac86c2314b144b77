from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.unlearning.problems import Blobs
from unlearning.calibrated import CalibratedSettings, losses_at, places, surprise, unlearn_calibrated
from unlearning.gradients import NonFinite, Scores, scores
from unlearning.problem import Indices, Recipe, TensorSamples
from unlearning.splits import TuningData, split_unseen
from unlearning.training import restore, state_of, train

FORGET = np.arange(0, 60, dtype=np.int64)
SETTINGS = CalibratedSettings(passes=60)


@lru_cache
def memorised() -> tuple[Blobs, nn.Module]:
    """Noisy blobs that a wide net has learnt by heart: members are answered right, unseen samples often are not."""
    problem = Blobs(count=600, features=20, hidden=(256,), recipe=Recipe("adam", 3e-3, 60, 32, seed=1))
    return problem, restore(problem, train(problem, np.arange(600)).state)


def others(problem: Blobs, forget: Indices) -> Indices:
    return np.setdiff1d(np.arange(len(problem.train)), forget)


def run(forget: Indices = FORGET, settings: CalibratedSettings = SETTINGS, seed: int = 0):
    problem, parent = memorised()
    tuning, _ = split_unseen(problem)
    return unlearn_calibrated(parent, problem, forget, others(problem, forget), tuning, settings, seed)


def called_right(model: nn.Module, problem: Blobs, rows: Indices) -> float:
    return float(scores(model, problem, problem.train, rows).correct_N.mean())


def test_forgotten_samples_come_to_look_like_unseen_ones_and_the_others_stay() -> None:
    problem, parent = memorised()
    retrained = restore(problem, train(problem, others(problem, FORGET)).state)
    updated = restore(problem, run().state)
    before, after, truth = (called_right(m, problem, FORGET) for m in (parent, updated, retrained))
    assert before == 1.0
    assert truth < 0.9
    assert abs(after - truth) < 0.1
    assert called_right(updated, problem, others(problem, FORGET)) > 0.9
    unseen = [float(scores(m, problem, problem.test).correct_N.mean()) for m in (updated, retrained)]
    assert unseen[0] > unseen[1] - 0.03


def test_it_stops_by_itself_near_its_target() -> None:
    result = run(settings=replace(SETTINGS, learning_rate=6e-3))
    assert result.stopped == "the target was reached"
    assert result.steps < 60 * len(FORGET) / SETTINGS.forget_batch
    assert result.trace[0].gap > 0.05
    assert result.trace[-2].gap > 0 >= result.trace[-1].gap


def test_an_overshoot_is_taken_back_to_where_the_gap_would_be_zero() -> None:
    """A step far too large passes the target at the first look; what is kept of it is the part that the gaps say."""
    result = run(settings=replace(SETTINGS, learning_rate=0.02, warm_up=1, checks=1, minimum_steps=12, passes=0.1))
    first, last = result.trace[0].gap, result.trace[-1].gap
    assert len(result.trace) == 2
    assert first > 0 > last
    problem, parent = memorised()
    assert called_right(restore(problem, result.state), problem, FORGET) > 0.3
    assert result.update_norm > 0
    assert result.parent_norm == pytest.approx(
        float(torch.cat([p.detach().flatten() for p in parent.parameters()]).norm()), rel=1e-5
    )


def test_the_parent_stays_as_it_is_and_the_same_seed_gives_the_same_bytes() -> None:
    _, parent = memorised()
    before = state_of(parent)
    one, same, other = run(), run(), run(seed=1)
    assert all(torch.equal(before[k], v) for k, v in state_of(parent).items())
    assert all(torch.equal(one.state[k], v) for k, v in same.state.items())
    assert not all(torch.equal(one.state[k], v) for k, v in other.state.items())
    assert not any(parameter.grad is not None for parameter in parent.parameters())


def test_a_set_that_is_named_in_another_order_is_the_same_set() -> None:
    one, other = run(FORGET), run(FORGET[::-1].copy())
    assert all(torch.equal(one.state[k], v) for k, v in other.state.items())


def test_one_sample_is_forgotten_without_harm() -> None:
    problem, parent = memorised()
    retrained = restore(problem, train(problem, others(problem, FORGET)).state)
    truth = scores(retrained, problem, problem.train, FORGET).losses_N
    hardest = FORGET[[int(np.argmax(truth))]]
    updated = restore(problem, run(hardest).state)
    losses = [float(scores(m, problem, problem.train, hardest).losses_N[0]) for m in (parent, updated)]
    assert losses[1] > 3 * losses[0]
    accuracy = [float(scores(m, problem, problem.test).correct_N.mean()) for m in (parent, updated)]
    assert accuracy[1] > accuracy[0] - 0.02


def test_one_class_does_not_pay_for_its_members() -> None:
    """Forgetting a third of a class costs the class something, as it does in a retrain, but not more than that."""
    problem, parent = memorised()
    targets = problem.train.targets.numpy()
    forget = np.flatnonzero(targets == 1)[:60]
    retrained = restore(problem, train(problem, others(problem, forget)).state)
    updated = restore(problem, run(forget).state)
    of_class = np.flatnonzero(problem.test.targets.numpy() == 1)
    right = [float(scores(m, problem, problem.test, of_class).correct_N.mean()) for m in (updated, retrained)]
    assert right[0] > right[1] - 0.1
    assert called_right(updated, problem, forget) < called_right(parent, problem, forget)


@dataclass(frozen=True)
class Counting:
    """Samples that note how many of them were read, and which."""

    inner: TensorSamples
    read: list[int] = field(default_factory=list)

    @property
    def ids(self):
        return self.inner.ids

    @property
    def subjects(self):
        return self.inner.subjects

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        self.read.extend(indices.tolist())
        return self.inner.batch(indices)


def test_what_it_reads_grows_with_the_forget_set_and_not_with_the_training_set() -> None:
    counts = []
    for count in (600, 2400):
        problem = Blobs(count=count, hidden=(8,))
        parent = restore(problem, train(problem, np.arange(50)).state)
        counting = Counting(problem.train)
        object.__setattr__(problem, "train", counting)
        tuning, _ = split_unseen(problem)
        settings = CalibratedSettings(sample=100, retain_batch=40)
        unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), tuning, settings)
        counts.append(len(counting.read))
    assert counts[1] <= counts[0] * 1.1


def test_the_audits_half_is_never_read() -> None:
    problem = Blobs(count=200, hidden=(8,))
    parent = restore(problem, train(problem, np.arange(200)).state)
    holdout, test = Counting(problem.holdout), Counting(problem.test)
    object.__setattr__(problem, "holdout", holdout)
    object.__setattr__(problem, "test", test)
    tuning, audit = split_unseen(problem)
    unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), tuning, CalibratedSettings())
    assert holdout.read
    assert not set(holdout.read) & set(audit.holdout.indices.tolist())
    assert not test.read


def test_accuracy_that_is_spent_is_given_back() -> None:
    """Steps that wreck the model end where they had not yet: here, before the first."""
    _, parent = memorised()
    wild = CalibratedSettings(learning_rate=1.0, strength=1e-6, passes=0.1, warm_up=1, checks=1, minimum_steps=3)
    result = run(settings=wild)
    assert result.stopped.startswith("the accuracy budget was spent")
    assert result.trace[-1].spent
    assert all(torch.equal(result.state[k], v) for k, v in state_of(parent).items())


@pytest.mark.parametrize(
    ("forget", "retain", "message"),
    [
        ([], [1, 2], "forget set is empty"),
        ([1, 2], [], "whole training set"),
        ([1, 2], [2, 3], "both in the forget set and in the retain set"),
        ([1, 1], [2, 3], "named twice"),
        ([9999], [2, 3], "must lie in"),
    ],
)
def test_sets_that_make_no_sense_are_refused(forget: list[int], retain: list[int], message: str) -> None:
    problem, parent = memorised()
    tuning, _ = split_unseen(problem)
    with pytest.raises(ValueError, match=message):
        unlearn_calibrated(parent, problem, np.array(forget, np.int64), np.array(retain, np.int64), tuning, SETTINGS)


@pytest.mark.parametrize(
    "given_settings",
    [{"strength": 0.0}, {"learning_rate": float("inf")}, {"passes": -1.0}, {"checks": 0}, {"accuracy_budget": 0.0}],
)
def test_settings_out_of_range_are_refused_by_name(given_settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(given_settings))):
        CalibratedSettings(**given_settings)


def test_weights_that_are_not_finite_are_refused() -> None:
    problem, parent = memorised()
    broken = restore(problem, {k: v * float("nan") for k, v in state_of(parent).items()})
    tuning, _ = split_unseen(problem)
    with pytest.raises(NonFinite):
        unlearn_calibrated(broken, problem, FORGET, others(problem, FORGET), tuning, SETTINGS)


def made(losses: list[float], strata: list[int]) -> Scores:
    return Scores(np.array(losses), np.zeros(len(losses), dtype=bool), np.array(strata, dtype=np.int64))


@given(st.lists(st.floats(1e-6, 20), min_size=20, max_size=60, unique=True))
def test_a_place_leads_back_to_its_loss(losses: list[float]) -> None:
    """Among themselves: the inverse of the rank is the sample, up to the spacing of its neighbours."""
    scored = made(losses, [0] * len(losses))
    places_N = places(scored, scored)
    assert ((places_N > 0) & (places_N < 1)).all()
    found, ordered_N = losses_at(places_N, scored.strata_N, scored), np.sort(losses)
    rank_N = np.searchsorted(ordered_N, scored.losses_N)
    assert (found >= ordered_N[np.maximum(rank_N - 1, 0)]).all()
    assert (found <= ordered_N[np.minimum(rank_N + 1, len(losses) - 1)]).all()


def test_places_are_by_class_and_small_classes_are_held_against_all() -> None:
    among = made([*range(1, 11), *range(101, 111), 50.0], [0] * 10 + [1] * 10 + [2])
    scored = made([5.0, 105.0, 50.0], [0, 1, 2])
    by_class = places(scored, among)
    assert by_class[0] == by_class[1] == pytest.approx(10 / 22)
    assert by_class[2] == pytest.approx((10 + 11 + 1) / 44)


def test_surprise_is_what_other_answers_get() -> None:
    assert surprise(np.array([0.0, np.log(2), 50.0])) == pytest.approx([0.0, 0.5, 1.0])
    assert surprise(np.array([-0.5]))[0] == 0.0


def test_tuning_data_may_be_small() -> None:
    problem, parent = memorised()
    tuning, _ = split_unseen(problem)
    small = TuningData(TensorSamples(*cut(problem.holdout, 15)), tuning.test)
    result = unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), small, SETTINGS)
    assert result.trace


def cut(samples: TensorSamples, count: int) -> tuple[list[str], list[str | None], Tensor, Tensor]:
    return list(samples.ids[:count]), list(samples.subjects[:count]), samples.inputs[:count], samples.targets[:count]
