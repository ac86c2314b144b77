import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unlearning.problems import Blobs
from unlearning.difficulty import fit_difficulty
from unlearning.gradients import scores
from unlearning.membership import confidence
from unlearning.splits import split_unseen
from unlearning.targets import DOUBT, Unseen, _others, stand
from unlearning.training import restore, train

COUNT = 120
FORGET, RETAIN = np.arange(20, dtype=np.int64), np.arange(20, COUNT, dtype=np.int64)


@given(st.lists(st.sampled_from([1, 4, 9]), min_size=1, max_size=50), st.integers(0, 9))
def test_a_wrong_label_is_a_class_and_never_ones_own(strata: list[int], seed: int) -> None:
    others = _others(np.array(strata), np.array([1, 4, 9]), np.random.default_rng(seed))
    assert set(others.tolist()) <= {1, 4, 9}
    assert (others != np.array(strata)).all()


def made(sample: int = 500, *, difficult: bool = True):
    problem = Blobs(count=COUNT)
    parent = restore(problem, train(problem, np.arange(COUNT)).state)
    tuning, _ = split_unseen(problem)
    unseen = Unseen(problem, tuning, sample)
    difficulty = fit_difficulty(parent, problem, np.arange(COUNT), tuning) if difficult else None
    found = stand(parent, problem, FORGET, RETAIN, unseen, difficulty, np.random.default_rng(0))
    return problem, parent, tuning, unseen, found


def test_unseen_data_stands_under_its_own_labels_and_lightly_under_wrong_ones() -> None:
    problem, parent, tuning, unseen, _ = made()
    pool, correct = unseen.seen(parent)
    count = len(tuning.holdout)
    assert len(pool.margins_P) == 2 * count
    assert pool.weights_P.sum() == pytest.approx(count)
    own = scores(parent, problem, tuning.holdout)
    assert sorted(pool.confidence_P[pool.weights_P > DOUBT]) == pytest.approx(sorted(confidence(own.losses_N)))
    assert np.array_equal(correct, own.correct_N)
    wrong = pool.weights_P <= DOUBT
    assert np.median(pool.margins_P[wrong]) < np.median(pool.margins_P[~wrong])


def test_without_a_difficulty_all_are_held_against_all_unseen_data() -> None:
    problem, parent, tuning, unseen, found = made(difficult=False)
    pool, _ = unseen.seen(parent)
    assert not found.margins_N.any()
    assert len(pool.margins_P) == len(tuning.holdout)
    wanted = pool.at(found.margins_N, np.full(len(FORGET), 0.5))
    assert wanted == pytest.approx(np.median(confidence(scores(parent, problem, tuning.holdout).losses_N)), abs=0.5)


def test_a_place_needs_samples_that_stay() -> None:
    """Where D_r holds none of those whose margins were kept, every place is the middle."""
    problem = Blobs(count=COUNT)
    parent = restore(problem, train(problem, np.arange(COUNT)).state)
    tuning, _ = split_unseen(problem)
    part = fit_difficulty(parent, problem, np.arange(60), tuning)
    unseen = Unseen(problem, tuning, 50)
    found = stand(parent, problem, FORGET, np.arange(60, COUNT), unseen, part, np.random.default_rng(0))
    assert (found.places_N == 0.5).all()
    assert len(unseen.strata_M) <= 50
