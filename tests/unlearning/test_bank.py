"""The bank's table: whole groups, growth that keeps what there is, and rows that leave."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unlearning.problems import Blobs
from unlearning.bank import NEVER, Bank, Reference, assemble, reseeded
from unlearning.division import GROUP, left_out, quarters
from unlearning.gradients import Scores
from unlearning.problem import Indices
from unlearning.training import train

SAMPLES, UNSEEN = 24, 10


def scored(count: int, seed: int, classes: int = 3) -> Scores:
    random = np.random.default_rng(seed)
    return Scores(random.random(count), random.random(count) < 0.5, np.arange(count) % classes)


def reference(number: int, live: Indices | None = None) -> Reference:
    """One whose quarter is every fourth sample, shifted by its place in the group and turned by its group."""
    group, part = divmod(number, GROUP)
    live = np.arange(SAMPLES) if live is None else live
    out = live[(live // (group + 1)) % GROUP == part]
    train = scored(len(out), number)
    return Reference(
        number, out, replace(train, strata_N=out % 3), scored(UNSEEN, 100 + number), scored(UNSEEN, 200 + number)
    )


def references(*groups: int, live: Indices | None = None) -> list[Reference]:
    return [reference(GROUP * group + part, live) for group in groups for part in range(GROUP)]


def same(one: Bank, other: Bank) -> bool:
    return all(
        np.array_equal(value, vars(other)[name], equal_nan=value.dtype.kind == "f") for name, value in vars(one).items()
    )


def test_a_table_extended_is_the_table_of_all() -> None:
    assert same(assemble(references(0), SAMPLES).extended(references(1, 2)), assemble(references(0, 1, 2), SAMPLES))


def test_groups_that_come_in_another_order_are_placed_as_they_come() -> None:
    table = assemble(references(1), SAMPLES).extended(references(0))
    wanted = assemble(references(0, 1), SAMPLES)
    assert np.array_equal(table.losses_GN, wanted.losses_GN[[1, 0]])
    for sample in range(SAMPLES):
        for group, number in enumerate((1, 0)):
            place = int(table.reference_GN[group, sample])
            assert place // GROUP == group
            assert sample in reference(GROUP * number + place % GROUP).out_N


def test_an_incomplete_group_waits() -> None:
    table = assemble(references(0), SAMPLES)
    assert same(table.extended([*references(1), reference(8)]), table.extended(references(1)))
    with pytest.raises(ValueError, match="a group of 4"):
        table.extended(references(1)[:3])


def test_rows_that_have_left_stay_gone_and_others_come_to_be_known() -> None:
    gone, new = np.array([2, 3]), np.array([7])
    live = np.setdiff1d(np.arange(SAMPLES), new)
    table = assemble(references(0, live=live), SAMPLES).without(gone)
    grown = table.extended([r.without(gone) for r in references(1)])
    assert (grown.reference_GN[:, gone] == NEVER).all()
    assert (grown.strata_N[gone] == NEVER).all()
    assert grown.strata_N[7] == 7 % 3
    assert list(np.flatnonzero(~grown.known(np.arange(SAMPLES)))) == [2, 3, 7]


def test_what_does_not_go_together_is_refused() -> None:
    table = assemble(references(0), SAMPLES)
    other = [replace(r, holdout=scored(UNSEEN, 1, classes=2)) for r in references(1)]
    with pytest.raises(ValueError, match="other unseen data"):
        table.extended(other)
    relabelled = [replace(r, train=replace(r.train, strata_N=r.train.strata_N + 1)) for r in references(1)]
    with pytest.raises(ValueError, match="other classes"):
        table.extended(relabelled)


def test_scores_lose_the_rows_of_some_samples() -> None:
    whole, gone = reference(1), np.array([1, 5, 6])
    left = whole.without(gone)
    assert list(left.out_N) == [n for n in whole.out_N if n not in (1, 5, 6)]
    kept = np.isin(whole.out_N, left.out_N)
    assert np.array_equal(left.train.losses_N, whole.train.losses_N[kept])
    assert left.holdout is whole.holdout
    again = Reference.from_tensors(left.tensors())
    assert np.array_equal(again.train.strata_N, left.train.strata_N)


def test_a_reference_has_a_seed_of_its_own_and_the_problem_s_everything_else() -> None:
    problem = Blobs()
    first, second = reseeded(problem, 0), reseeded(problem, 1)
    assert first.train is problem.train
    assert replace(first.recipe, seed=problem.recipe.seed) == problem.recipe
    assert len({problem.recipe.seed, first.recipe.seed, second.recipe.seed}) == 3
    assert reseeded(problem, 0).recipe == first.recipe
    some = np.arange(40)
    states = [train(each, some).state for each in (first, second, reseeded(problem, 0))]
    name = next(iter(states[0]))
    assert not np.array_equal(states[0][name], states[1][name])
    assert np.array_equal(states[0][name], states[2][name])


def test_a_sample_s_quarter_is_its_own_whoever_else_is_live() -> None:
    samples = Blobs().train
    everything = np.arange(len(samples))
    some = everything[::3]
    for number in range(8):
        assert np.array_equal(
            left_out(samples, some, number), np.intersect1d(left_out(samples, everything, number), some)
        )
    assert set(quarters(samples, everything, 0).tolist()) == {0, 1, 2, 3}
