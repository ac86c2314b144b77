"""Quarters of the subjects: each sample in one, all of a subject's in the same, whoever else is named."""

import numpy as np
import pytest
import torch

from unlearning.division import GROUP, left_out, quarters
from unlearning.problem import TensorSamples


def owned(subjects: list[str | None]) -> TensorSamples:
    count = len(subjects)
    return TensorSamples([f"s{i}" for i in range(count)], subjects, torch.zeros(count, 1), torch.zeros(count))


MIXED = owned([None if i % 3 == 0 else f"p{i % 200}" for i in range(1200)])
EVERYTHING = np.arange(len(MIXED))


@pytest.mark.parametrize("group", range(3))
def test_the_four_of_a_group_leave_out_every_sample_once(group: int) -> None:
    out = [left_out(MIXED, EVERYTHING, GROUP * group + part) for part in range(GROUP)]
    assert np.array_equal(np.sort(np.concatenate(out)), EVERYTHING)
    for indices in out:
        assert (np.diff(indices) > 0).all()
        assert 200 < len(indices) < 400  # a quarter by chance, not by design


def test_all_of_a_subject_s_samples_are_left_out_together() -> None:
    for number in range(2 * GROUP):
        out = {MIXED.subjects[i] for i in left_out(MIXED, EVERYTHING, number)} - {None}
        learnt = np.setdiff1d(EVERYTHING, left_out(MIXED, EVERYTHING, number))
        assert out
        assert out.isdisjoint(MIXED.subjects[i] for i in learnt)


def test_samples_without_a_subject_are_divided_one_by_one() -> None:
    lonely = owned([None] * 400)
    counts = np.bincount(quarters(lonely, np.arange(400), 0), minlength=GROUP)
    assert counts.sum() == 400
    assert counts.min() > 60


def test_a_subject_named_like_a_sample_is_someone_else() -> None:
    """Of 64 pairs the quarters agree about one time in four, not always."""
    ids = [f"x{i}" for i in range(64)]
    samples = TensorSamples(
        [*ids, *(f"y{i}" for i in range(64))], [None] * 64 + ids, torch.zeros(128, 1), torch.zeros(128)
    )
    found = quarters(samples, np.arange(128), 0)
    assert 5 < (found[:64] == found[64:]).sum() < 30


def test_quarters_do_not_depend_on_which_others_are_named_nor_on_their_order() -> None:
    whole = quarters(MIXED, EVERYTHING, 1)
    some = np.random.default_rng(0).permutation(EVERYTHING)[:100]
    assert np.array_equal(quarters(MIXED, some, 1), whole[some])


def test_groups_divide_anew_and_the_salt_decides() -> None:
    """Two independent divisions put a sample into the same quarter one time in four; subjects make that coarse."""
    first, second = quarters(MIXED, EVERYTHING, 0), quarters(MIXED, EVERYTHING, 1)
    assert 0.18 < (first == second).mean() < 0.32
    assert 0.18 < (first == quarters(MIXED, EVERYTHING, 0, salt="other")).mean() < 0.32


def test_too_few_subjects_are_refused() -> None:
    one = owned(["p"] * 10)
    for number in range(GROUP):
        with pytest.raises(ValueError, match="10 samples have too few subjects"):
            left_out(one, np.arange(10), number)
