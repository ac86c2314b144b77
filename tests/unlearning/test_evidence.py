"""What a validation reads: scored on the samples that it says, without those that may not be read, and kept whole."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from tests.unlearning.problems import Blobs
from unlearning.difficulty import Difficulty, fit_difficulty
from unlearning.evidence import Evidence, Standing, gather, stand, unleaked
from unlearning.gradients import scores
from unlearning.problem import Recipe
from unlearning.signals import Signals
from unlearning.splits import AuditData, TuningData, split_unseen
from unlearning.training import restore, train
from unlearning.validation import validate

LIVE, FORGET, OTHERS = np.arange(5, 155), np.arange(10, 30), np.arange(60, 80)
Made = tuple[Blobs, TuningData, AuditData, nn.Module, nn.Module, Difficulty, Standing]


@cache
def made() -> Made:
    """A problem, its parent and an updated model, and the parent's standing."""
    problem = Blobs(count=200, noise=2.0, hidden=(32, 16), recipe=Recipe("adam", 0.01, 30, 16))
    tuning, audit = split_unseen(problem)
    parent = restore(problem, train(problem, LIVE).state)
    updated = restore(problem, train(problem, np.setdiff1d(LIVE, FORGET)).state)
    difficulty = fit_difficulty(parent, problem, LIVE, tuning)
    assert difficulty is not None
    return problem, tuning, audit, parent, updated, difficulty, stand(parent, problem, LIVE, tuning, audit, difficulty)


def gathered(**rest: Any) -> Evidence:
    problem, _, audit, parent, updated, _, standing = made()
    return gather(standing, parent, updated, problem, rest.pop("forget", FORGET), audit, **rest)


def same(one: Signals, other: Signals) -> bool:
    left, right = one.tensors(), other.tensors()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class TestStanding:
    def test_it_is_written_and_read_alike(self) -> None:
        standing = made()[-1]
        again = Standing.from_tensors(load(save(standing.tensors())))
        assert again.ease_M is not None
        assert standing.ease_M is not None
        for name in ("fitting_N", "rating_N", "anchor_T", "ease_M"):
            assert np.array_equal(getattr(again, name), getattr(standing, name))
        for name in ("rating", "holdout", "test"):
            assert same(getattr(again, name), getattr(standing, name))
        for name in ("fitting", "tuning_holdout"):
            assert same(Signals(getattr(again, name)), Signals(getattr(standing, name)))
        problem, _, audit, parent, updated, difficulty, _ = made()
        both = [gather(s, parent, updated, problem, FORGET, audit, difficulty=difficulty) for s in (standing, again)]
        assert validate(both[0]) == validate(both[1])

    def test_without_early_features_too(self) -> None:
        problem, tuning, audit, parent, *_ = made()
        plain = stand(parent, problem, LIVE, tuning, audit)
        assert plain.ease_M is None
        assert Standing.from_tensors(plain.tensors()).ease_M is None

    @pytest.mark.parametrize("name", ["anchor_T", "fitting_N", "tuning_holdout.scores.losses_N"])
    def test_what_is_missing_is_said(self, name: str) -> None:
        flat = made()[-1].tensors()
        del flat[name]
        with pytest.raises(ValueError, match="missing"):
            Standing.from_tensors(flat)

    def test_the_anchor_is_the_last_trained_version_s(self) -> None:
        problem, tuning, audit, parent, updated, *_ = made()
        first = stand(parent, problem, LIVE, tuning, audit)
        assert np.array_equal(first.anchor_T, first.test.scores.correct_N)
        later = stand(updated, problem, LIVE, tuning, audit, anchor_T=first.anchor_T)
        assert np.array_equal(later.anchor_T, first.anchor_T)
        assert not np.array_equal(later.test.scores.correct_N, first.anchor_T)

    def test_fitting_rating_and_tuning_are_apart(self) -> None:
        problem, tuning, _, parent, _, _, standing = made()
        assert len(np.intersect1d(standing.fitting_N, standing.rating_N)) == 0
        assert np.isin(np.union1d(standing.fitting_N, standing.rating_N), LIVE).all()
        wanted = scores(parent, problem, tuning.holdout).losses_N
        assert np.array_equal(standing.tuning_holdout.losses_N, wanted)


def test_gather_scores_what_it_says() -> None:
    problem, _, audit, parent, updated, _, standing = made()
    found = gathered(forget=FORGET[::-1])
    assert np.array_equal(found.forget_N, FORGET)
    for model, when in ((parent, "before"), (updated, "after")):
        for name, samples, rows in (
            ("forget", problem.train, FORGET),
            ("holdout", audit.holdout, None),
            ("test", audit.test, None),
        ):
            wanted = scores(model, problem, samples, rows)
            shown = getattr(found, f"{name}_{when}").scores
            np.testing.assert_allclose(shown.losses_N, wanted.losses_N, rtol=1e-5, atol=1e-7)
            assert np.array_equal(shown.correct_N, wanted.correct_N)
    assert found.forget_before.features_ND is not None
    assert np.array_equal(found.fitted_N, np.isin(FORGET, standing.fitting_N))
    assert found.ease_N is None
    assert found.bank is None
    stays = np.setdiff1d(standing.rating_N, FORGET)
    wanted = scores(updated, problem, problem.train, stays)
    np.testing.assert_allclose(found.neighbours_after.scores.losses_N, wanted.losses_N, rtol=1e-5, atol=1e-7)


def test_ease_comes_from_features_without_the_samples_themselves() -> None:
    difficulty, standing = made()[5:]
    found = gathered(difficulty=difficulty)
    assert found.ease_N is not None
    assert len(found.ease_N) == len(FORGET)
    assert found.ease_M is standing.ease_M
    alone = gathered(forget=FORGET[:1], difficulty=difficulty)
    assert alone.ease_N is not None
    assert alone.ease_N[0] != found.ease_N[0]  # more of its like were taken out


def test_the_attack_reads_no_sample_that_is_to_be_forgotten_or_that_others_asked_to_forget() -> None:
    problem, _, _, parent, _, _, standing = made()
    kept = np.setdiff1d(LIVE, np.union1d(FORGET, OTHERS))
    threshold, rating = standing.attack(np.union1d(FORGET, OTHERS))
    assert threshold.n_members == np.isin(standing.fitting_N, kept).sum() < len(standing.fitting_N)
    wanted = scores(parent, problem, problem.train, np.intersect1d(standing.rating_N, kept))
    np.testing.assert_allclose(rating.losses_N, wanted.losses_N, rtol=1e-5, atol=1e-7)
    found = gathered(left_out=OTHERS)
    assert (found.threshold, len(found.retained)) == (threshold, len(rating))
    assert len(found.neighbours_before) == len(found.neighbours_after) == len(rating)
    with pytest.raises(ValueError, match="no retained training sample is left"):
        standing.attack(LIVE)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda e: {f"forget_{w}": e.forget_before.rows([]) for w in ("before", "after")}, "forget is empty"),
        (lambda e: {"test_after": e.forget_after}, "test: the scores before and after are not of the same samples"),
        (lambda e: {"holdout_after": e.holdout_after.rows(slice(1, None))}, "holdout: the scores"),
        (lambda e: {"forget_N": e.forget_N[1:]}, "positions and anchor"),
        (lambda e: {"anchor_T": e.anchor_T[1:]}, "positions and anchor"),
        (lambda e: {"ease_N": np.zeros(len(e.forget_N))}, "of both D_f and the holdout"),
    ],
)
def test_what_does_not_go_together_is_refused(broken: Callable[[Evidence], dict[str, Any]], words: str) -> None:
    evidence = gathered()
    bare = replace(
        evidence,
        forget_before=replace(evidence.forget_before, features_ND=None),
        holdout_after=replace(evidence.holdout_after, features_ND=None),
    )
    with pytest.raises(ValueError, match=words):
        replace(bare, **broken(bare))


class TestUnleaked:
    """Members and unseen data are drawn alike: by what members' margins exceed unseen ones' they show that they were learnt."""

    RANDOM = np.random.default_rng(0)
    UNSEEN = RANDOM.normal(size=4000)

    def test_a_shift_is_taken_off_everywhere(self) -> None:
        learnt = self.RANDOM.normal(size=4000) + 0.7
        asked = np.array([-1.3, 0.0, 0.7, 2.4])
        assert unleaked(asked, learnt, self.UNSEEN) == pytest.approx(asked - 0.7, abs=0.12)

    def test_a_stretch_is_taken_off_by_place(self) -> None:
        learnt = 2 * self.RANDOM.normal(size=4000)
        asked = np.array([-2.0, 0.0, 2.0])
        assert unleaked(asked, learnt, self.UNSEEN) == pytest.approx(asked / 2, abs=0.12)

    def test_where_there_is_none_nothing_is_taken(self) -> None:
        learnt = self.RANDOM.normal(size=4000)
        asked = np.linspace(-3, 3, 13)
        assert unleaked(asked, learnt, self.UNSEEN) == pytest.approx(asked, abs=0.15)

    def test_beyond_either_end_the_trace_is_that_of_the_last_hundredth(self) -> None:
        learnt = self.UNSEEN + 0.7
        assert unleaked(np.array([-50.0, 50.0]), learnt, self.UNSEEN) == pytest.approx([-50.7, 49.3])

    def test_without_learnt_samples_nothing_is_known_of_it(self) -> None:
        asked = np.array([0.1, 0.2])
        assert unleaked(asked, np.empty(0), self.UNSEEN) is asked
