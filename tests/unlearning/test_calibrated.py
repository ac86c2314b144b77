from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.unlearning.problems import Blobs
from unlearning.calibrated import CalibratedSettings, assurance, takes_float64, unlearn_calibrated
from unlearning.difficulty import fit_difficulty
from unlearning.gradients import NonFinite, scores
from unlearning.membership import confidence
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


def test_a_way_that_does_not_pay_ends_after_one_more_stretch_and_one_that_does_goes_on() -> None:
    """A step too short to close anything gets three stretches; the count of them bounds a way that always pays."""
    small = run(settings=replace(SETTINGS, learning_rate=1e-7))
    assert small.stopped == "further steps did not pay"
    assert len(small.trace) == 4
    bounded = run(settings=replace(SETTINGS, learning_rate=1e-4, stretches=2))
    assert bounded.stopped == "the count of steps was spent"
    assert [look.step for look in bounded.trace] == [0, bounded.steps // 2, bounded.steps]


def test_an_overshoot_is_taken_back_to_where_the_gap_would_be_zero() -> None:
    """A step far too large passes the target at the first look; what is kept of it is the part that the gaps say."""
    result = run(settings=replace(SETTINGS, learning_rate=0.05, warm_up=1, stretches=1, minimum_steps=3, passes=0.1))
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
        tuning, _ = split_unseen(problem)
        prepared = fit_difficulty(parent, problem, np.arange(count), tuning)
        counting = Counting(problem.train)
        object.__setattr__(problem, "train", counting)
        settings = CalibratedSettings(sample=100, retain_batch=40)
        unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), tuning, settings, difficulty=prepared)
        counts.append(len(counting.read))
    assert counts[1] <= counts[0] * 1.1


def test_what_was_prepared_gives_the_same_as_what_is_made_on_the_spot() -> None:
    problem, parent = memorised()
    tuning, _ = split_unseen(problem)
    prepared = fit_difficulty(parent, problem, np.arange(len(problem.train)), tuning)
    one = unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), tuning, SETTINGS, difficulty=prepared)
    assert all(torch.equal(one.state[k], v) for k, v in run().state.items())
    assert prepared is not None
    assert one.layer == prepared.layer


def test_mislabelled_samples_are_forgotten_as_a_retrain_would() -> None:
    """The model knows them by heart; a retrain is sure that they are something else."""
    clean, _ = memorised()
    targets = clean.train.targets.clone()
    targets[FORGET] = (targets[FORGET] + 1) % int(targets.max() + 1)
    problem = replace(clean)
    object.__setattr__(problem, "train", replace(clean.train, targets=targets))
    parent = restore(problem, train(problem, np.arange(len(targets))).state)
    retrained = restore(problem, train(problem, others(problem, FORGET)).state)
    tuning, _ = split_unseen(problem)
    updated = restore(
        problem, unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), tuning, SETTINGS).state
    )
    before, after, truth = (called_right(m, problem, FORGET) for m in (parent, updated, retrained))
    assert before > 0.9
    assert truth < 0.2
    assert after < 0.3


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


@pytest.mark.parametrize(("rate", "kept"), [(0.3, {"25%", "50%", "75%"}), (30.0, {"0%"})])
def test_accuracy_that_is_spent_is_given_back(rate: float, kept: set[str]) -> None:
    """Steps that wreck the model end where they had not yet: a part of the way on, or before the first."""
    problem, parent = memorised()
    wild = CalibratedSettings(learning_rate=rate, strength=1e-6, passes=0.1, warm_up=1, stretches=1, minimum_steps=3)
    result = run(settings=wild)
    said, share = result.stopped.split(" of the way")[0].split(": ")
    assert said == "the accuracy budget was spent"
    assert share in kept
    assert result.trace[-1].spent
    tuning, _ = split_unseen(problem)
    before, after = (scores(m, problem, tuning.holdout) for m in (parent, restore(problem, result.state)))
    lost = before.correct_N.astype(float) - after.correct_N
    assert lost.mean() - 2 * lost.std() / np.sqrt(len(lost)) <= wild.accuracy_budget
    if share == "0%":
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
    [{"strength": 0.0}, {"learning_rate": float("inf")}, {"passes": -1.0}, {"stretches": 0}, {"accuracy_budget": 0.0}],
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


def test_assurance_is_the_probability_of_the_target() -> None:
    losses = np.array([1e-3, np.log(2), 20.0])
    assert assurance(confidence(losses)) == pytest.approx(np.exp(-losses))


@dataclass(frozen=True)
class Weighted(Blobs):
    """Class weights are float32 tensors of the problem's own, which cross entropy does not mix with float64."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weight = torch.ones(outputs.shape[1], dtype=torch.float32)
        return functional.cross_entropy(outputs, targets, weight=weight, reduction="none")


def test_a_problem_whose_losses_insist_on_float32_is_served_in_it() -> None:
    problem = Weighted(count=200, hidden=(16,))
    parent = restore(problem, train(problem, np.arange(200)).state)
    assert not takes_float64(problem, parent, FORGET[:1])
    assert takes_float64(Blobs(count=200, hidden=(16,)), parent, FORGET[:1])
    tuning, _ = split_unseen(problem)
    result = unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), tuning, CalibratedSettings())
    assert result.update_norm > 0


def test_tuning_data_may_be_small() -> None:
    problem, parent = memorised()
    tuning, _ = split_unseen(problem)
    small = TuningData(TensorSamples(*cut(problem.holdout, 15)), tuning.test)
    result = unlearn_calibrated(parent, problem, FORGET, others(problem, FORGET), small, SETTINGS)
    assert result.trace


def cut(samples: TensorSamples, count: int) -> tuple[list[str], list[str | None], Tensor, Tensor]:
    return list(samples.ids[:count]), list(samples.subjects[:count]), samples.inputs[:count], samples.targets[:count]
