"""What a training leaves, what that costs before it begins, and what the deletion of a sample takes out of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tests.unlearning.problems import Blobs
from unlearning.methods.diagonals import fisher_sum, importance
from unlearning.problem import Recipe
from unlearning.recorder import Recorder, RecorderSettings, TooLarge, quote
from unlearning.records import Records
from unlearning.splits import split_unseen
from unlearning.training import TrainedModel, restore, train

RECIPE = Recipe("adam", 3e-3, epochs=3, batch_size=16, seed=3)
PROBLEM = Blobs(noise=1.5, recipe=RECIPE)
LIVE = np.arange(50)
ALL = RecorderSettings(initial=True, journal="all", fisher=True, importance=True, importance_batch=8)


def recorded(settings: RecorderSettings, problem: Blobs = PROBLEM) -> tuple[Records, TrainedModel]:
    recorder = Recorder(settings, problem, LIVE)
    tuning, _ = split_unseen(problem)
    trained = train(problem, LIVE, tuning, observer=recorder)
    return recorder.records, trained


@pytest.fixture(scope="module")
def everything() -> tuple[Records, TrainedModel]:
    return recorded(ALL)


def test_it_changes_nothing_about_the_training(everything: tuple[Records, TrainedModel]) -> None:
    plain = train(PROBLEM, LIVE)
    assert all(torch.equal(everything[1].state[name], value) for name, value in plain.state.items())
    assert everything[1].history == plain.history


def test_initial_weights_and_the_journal_add_up_to_the_final_weights(everything: tuple[Records, TrainedModel]) -> None:
    records, trained = everything
    assert records.initial is not None
    assert records.journal is not None
    assert sorted(records.journal) == list(range(12))
    for name, value in trained.state.items():
        total = records.initial[name] + sum(delta[name] for delta in records.journal.values())
        torch.testing.assert_close(total, value, rtol=1e-5, atol=1e-6)
    with torch.random.fork_rng():
        torch.manual_seed(RECIPE.seed)
        built = PROBLEM.build_model().state_dict()
    assert all(torch.equal(records.initial[name], value) for name, value in built.items())


def test_membership_is_what_each_step_learned_from(everything: tuple[Records, TrainedModel]) -> None:
    records, _ = everything
    assert records.steps is not None
    order = np.random.default_rng(RECIPE.seed)
    for epoch in range(3):
        shuffled = order.permutation(LIVE)
        for step in range(4):
            assert records.steps[4 * epoch + step].tolist() == shuffled[16 * step : 16 * (step + 1)].tolist()
    assert records.visits(7) == 3
    assert len(records.touched(np.array([7]))) == 3
    assert (records.epochs, records.batch_size) == (3, 16)


def test_the_sums_are_those_of_the_final_weights(everything: tuple[Records, TrainedModel]) -> None:
    records, trained = everything
    model = restore(PROBLEM, trained.state)
    fisher = fisher_sum(model, PROBLEM, PROBLEM.train, LIVE)
    squares = importance(model, PROBLEM, PROBLEM.train, LIVE, 8)
    assert records.fisher is not None
    assert records.importance is not None
    assert records.fisher.count == 50
    assert all(torch.equal(records.fisher.vector[name], value) for name, value in fisher.vector.items())
    assert all(torch.equal(records.importance.vector[name], value) for name, value in squares.vector.items())


@pytest.mark.parametrize(
    "settings",
    [
        RecorderSettings(),
        RecorderSettings(initial=True),
        RecorderSettings(membership=True),
        RecorderSettings(journal="all"),
        RecorderSettings(journal="watched", watched=(3,)),
        RecorderSettings(fisher=True, importance=True),
        ALL,
    ],
)
def test_the_quote_is_kept(settings: RecorderSettings) -> None:
    quoted = quote(settings, PROBLEM.build_model(), len(LIVE), RECIPE)
    records, _ = recorded(settings)
    numbers = 64 + 8 * (settings.fisher + 2 * settings.importance)  # the few counts beside the tensors
    assert records.nbytes <= quoted.total + numbers
    assert records.nbytes >= 0.9 * quoted.total


def test_too_much_is_refused_before_the_first_step_with_the_figure() -> None:
    quoted = quote(ALL, PROBLEM.build_model(), len(LIVE), RECIPE)
    steps: list[int] = []

    class Counting(Recorder):
        def stepping(self, epoch: int, chosen: np.ndarray) -> None:
            steps.append(epoch)
            super().stepping(epoch, chosen)

    with pytest.raises(TooLarge, match=f"{quoted.total:,} bytes .*limit is {quoted.total - 1:,}"):
        train(PROBLEM, LIVE, observer=Counting(replace(ALL, limit_bytes=quoted.total - 1), PROBLEM, LIVE))
    assert steps == []
    train(PROBLEM, LIVE, observer=Counting(replace(ALL, limit_bytes=quoted.total), PROBLEM, LIVE))
    assert len(steps) == 12


def test_a_journal_of_watched_samples_covers_them_and_no_others() -> None:
    records, _ = recorded(RecorderSettings(journal="watched", watched=(3, 8)))
    assert records.journal is not None
    assert sorted(records.journal) == records.touched(np.array([3, 8]))
    assert records.covers(np.array([3]))
    assert records.covers(np.array([3, 8]))
    strangers = [i for i in LIVE if set(records.touched(np.array([i]))) - set(records.journal)]
    assert strangers
    assert not any(records.covers(np.array([i])) for i in strangers)
    assert not records.covers(np.array([59]))  # never trained on
    with pytest.raises(ValueError, match="not among those that are trained on"):
        Recorder(RecorderSettings(journal="watched", watched=(59,)), PROBLEM, LIVE)


def test_early_stopping_drops_the_steps_after_the_weights_that_were_kept() -> None:
    recipe = Recipe("adam", 0.03, 50, 16, patience=3)
    problem = Blobs(noise=3.0, hidden=(64,), recipe=recipe)
    records, trained = recorded(RecorderSettings(initial=True, journal="all"), problem)
    assert records.initial is not None
    assert records.journal is not None
    assert records.steps is not None
    assert records.epochs == len(trained.history) - 3
    assert len(records.steps) == len(records.journal) == 4 * records.epochs
    for name, value in trained.state.items():
        total = records.initial[name] + sum(delta[name] for delta in records.journal.values())
        torch.testing.assert_close(total, value, rtol=1e-4, atol=1e-5)


def test_purging_takes_out_what_is_kept_of_a_sample(everything: tuple[Records, TrainedModel]) -> None:
    records, _ = everything
    gone, steps = np.array([7, 20]), records.touched(np.array([7, 20]))
    for undone in (True, False):
        left = records.purge(gone, undone)
        assert left.steps is not None
        assert left.journal is not None
        assert not any(np.isin(step, gone).any() for step in left.steps)
        assert sum(len(step) for step in left.steps) == 3 * 48
        assert sorted(left.journal) == [n for n in range(12) if n not in steps]
        assert left.fisher is None
        assert left.importance is None
        assert left.initial is records.initial
        assert not left.covers(gone)
        shared = [i for i in LIVE if i not in gone and set(records.touched(np.array([i]))) & set(steps)]
        assert len(shared) > 10
        assert all(left.covers(np.array([i])) == undone for i in shared)
    assert records.journal is not None
    assert len(records.journal) == 12  # the records that were purged are as they were


def test_a_step_is_not_taken_back_twice(everything: tuple[Records, TrainedModel]) -> None:
    records, _ = everything
    left = records.purge(np.array([7]), undone=True)
    first = set(records.touched(np.array([7])))
    for other in range(8, 20):
        assert set(left.touched(np.array([other]))) == set(records.touched(np.array([other]))) - first


def test_records_without_membership_say_so_and_purge_their_sums() -> None:
    records, _ = recorded(RecorderSettings(initial=True, fisher=True))
    assert not records.covers(np.array([1]))
    for ask in (lambda: records.touched(np.array([1])), lambda: records.visits(1)):
        with pytest.raises(ValueError, match="record the membership"):
            ask()
    left = records.purge(np.array([1]))
    assert left.fisher is None
    assert left.initial is not None


@pytest.mark.parametrize("purged", [False, True])
def test_records_survive_safetensors(everything: tuple[Records, TrainedModel], purged: bool) -> None:
    records = everything[0].purge(np.array([7]), undone=True).purge(np.array([9])) if purged else everything[0]
    back = Records.from_tensors(load(save(records.tensors())))
    assert _equal(back.tensors(), records.tensors())
    assert (back.epochs, back.batch_size, back.undone, back.lost) == (3, 16, records.undone, records.lost)
    assert back.steps is not None
    assert records.steps is not None
    assert [step.tolist() for step in back.steps] == [step.tolist() for step in records.steps]
    assert (back.fisher is None) == (back.importance is None) == purged
    bare = Records(2, 8)
    assert Records.from_tensors(load(save(bare.tensors()))) == bare
    emptied = Records(2, 8, steps=(np.empty(0, dtype=np.int64),), journal={}, undone=frozenset({0}))
    back = Records.from_tensors(load(save(emptied.tensors())))
    assert (back.journal, back.undone, back.parts) == ({}, {0}, ("membership", "journal"))
    with pytest.raises(ValueError, match="no records"):
        Records.from_tensors({})


def test_a_longer_journal_makes_no_more_tensors(everything: tuple[Records, TrainedModel]) -> None:
    """Every tensor has its line in a safetensors header, and that may not grow without bound."""
    records = everything[0]
    assert records.journal is not None
    shorter = replace(records, journal={number: records.journal[number] for number in (3, 7)})
    assert len(shorter.tensors()) == len(records.tensors())
    assert Records.from_tensors(shorter.tensors()).touched(LIVE) == records.touched(LIVE)
    assert sorted(Records.from_tensors(shorter.tensors()).journal or {}) == [3, 7]


def test_weights_in_another_memory_format_survive_safetensors() -> None:
    """Convolutions may hold theirs with the channels last; a file has one order."""
    weights = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    records = Records(1, 8, {"w": weights}, (np.arange(8),), {0: {"w": 2 * weights}})
    back = Records.from_tensors(load(save(records.tensors())))
    assert back.initial is not None
    assert back.journal is not None
    assert torch.equal(back.initial["w"], weights)
    assert torch.equal(back.journal[0]["w"], 2 * weights)


def test_parts_are_named_as_in_the_quote(everything: tuple[Records, TrainedModel]) -> None:
    assert everything[0].parts == ("initial", "membership", "journal", "fisher", "importance")
    assert everything[0].purge(np.array([7])).parts == ("initial", "membership", "journal")
    assert Records(2, 8).parts == ()


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_recorder_serves_one_training() -> None:
    recorder = Recorder(RecorderSettings(membership=True), PROBLEM, LIVE)
    with pytest.raises(ValueError, match="has not finished"):
        _ = recorder.records
    train(PROBLEM, LIVE, observer=recorder)
    with pytest.raises(ValueError, match="serves one training"):
        train(PROBLEM, LIVE, observer=recorder)


@pytest.mark.parametrize(
    "faulty",
    [{"journal": "some"}, {"journal": "watched"}, {"watched": (1,)}, {"importance_batch": 0}, {"limit_bytes": -1}],
)
def test_settings_that_contradict_themselves_are_refused(faulty: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"use|exactly|at least"):
        RecorderSettings(**faulty)  # type: ignore[arg-type]  # what is under test
