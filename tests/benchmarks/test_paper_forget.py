"""What an experiment forgets: at random, of one class, whole subjects."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.paper.__main__ import case_of, drawn, parser
from benchmarks.paper.captions import command, place
from benchmarks.paper.case import Case
from benchmarks.paper.cells import Cells
from benchmarks.paper.forget import KINDS, ForgetKind, forget_set, forgotten
from benchmarks.problems import OutlierProblem
from tests.unlearning.problems import Blobs
from unlearning.problem import TensorSamples


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_forgotten_is_drawn_by_the_seed(kind: ForgetKind) -> None:
    sets = [forget_set(Blobs(), 0.2, seed, kind) for seed in (1, 1, 2, 3, 4, 5)]
    assert np.array_equal(sets[0], sets[1])
    assert any(not np.array_equal(sets[0], other) for other in sets[2:])
    for found in sets:
        assert np.array_equal(found, np.unique(found))
        assert found.dtype == np.int64


def test_at_random_is_a_part_of_one_permutation_so_that_larger_sets_hold_the_smaller() -> None:
    order = np.random.default_rng(3).permutation(60)
    assert np.array_equal(forget_set(Blobs(), 0.1, 3), np.sort(order[:6]))


def test_a_class_is_one_and_the_ratio_is_its_share() -> None:
    problem = Blobs()
    seen = set()
    for seed in range(16):
        forget = forget_set(problem, 0.5, seed, "class")
        [label] = set(problem.train.targets[forget].tolist())
        assert forgotten(problem, forget, "class") == {"samples": 10, "class": label, "class_samples": 20}
        seen.add(label)
    assert seen == {0, 1, 2}
    assert len(forget_set(problem, 1.0, 0, "class")) == 20, "a whole class may go"
    for ratio in (0.01, 1.1):
        with pytest.raises(ValueError, match="leaves nothing"):
            forget_set(problem, ratio, 0, "class")


def test_a_class_too_small_for_the_share_is_not_drawn() -> None:
    problem = Blobs()
    targets = problem.train.targets.clone()
    targets[:] = 2
    targets[:3] = 1
    object.__setattr__(problem, "train", replace(problem.train, targets=targets))
    for seed in range(8):
        assert (targets[forget_set(problem, 0.1, seed, "class")] == 2).all()


def test_subjects_go_whole_until_the_share_is_reached() -> None:
    problem = Blobs()
    forget = forget_set(problem, 0.2, 0, "subject")
    owners = {problem.train.subjects[position] for position in forget}
    assert {p for p, owner in enumerate(problem.train.subjects) if owner in owners} == set(forget.tolist())
    assert 12 <= len(forget) < 12 + 9, "a subject has 8 or 9 samples, and the last one may reach beyond the share"
    assert forgotten(problem, forget, "subject") == {"samples": len(forget), "subjects": len(owners)}


def test_samples_of_nobody_are_not_forgotten_with_subjects() -> None:
    problem = Blobs()
    nobody = replace(problem.train, subjects=[s if i % 2 else None for i, s in enumerate(problem.train.subjects)])
    object.__setattr__(problem, "train", nobody)
    assert (forget_set(problem, 0.3, 0, "subject") % 2 == 1).all()
    with pytest.raises(ValueError, match="belong to subjects"):
        forget_set(problem, 0.6, 0, "subject")


def test_what_a_setting_cannot_forget_is_refused_by_name() -> None:
    problem = Blobs()
    options = parser().parse_args(["table", "--setting", "mlp-flights", "--forget", "subject"])
    object.__setattr__(problem, "train", replace(problem.train, subjects=[None] * 60))
    with pytest.raises(ValueError, match="setting 'mlp-flights': no 3 of its training samples belong to subjects"):
        drawn(problem, options)
    real = TensorSamples(problem.train.ids, problem.train.subjects, problem.train.inputs, problem.train.inputs)
    object.__setattr__(problem, "train", real)
    with pytest.raises(ValueError, match="no class numbers"):
        forget_set(problem, 0.1, 0, "class")


def test_spoiled_samples_are_forgotten_as_they_are() -> None:
    blobs, spoiled = Blobs(), np.array([5, 2, 9])
    problem = OutlierProblem(
        blobs.train, blobs.holdout, blobs.test, blobs.recipe, blobs.build_model, forget=spoiled, mislabelled=1
    )
    assert forget_set(problem, 0.5, 0).tolist() == [2, 5, 9]
    with pytest.raises(ValueError, match="spoiled samples"):
        forget_set(problem, 0.5, 0, "class")
    with pytest.raises(ValueError, match=r"setting 'lenet-fashion-outliers'.*--forget class"):
        drawn(problem, parser().parse_args(["table", "--setting", "lenet-fashion-outliers", "--forget", "class"]))


def test_cells_of_another_kind_lie_apart_and_those_at_random_where_they_lay(tmp_path: Path) -> None:
    folders = []
    for kind in (None, *KINDS):
        given = [] if kind is None else ["--forget", kind]
        options = parser().parse_args(["table", "--cache", str(tmp_path), *given])
        case = case_of(Blobs(), "lenet-fashion-10k", 0, options, print)
        assert len(case.forget)
        folders.append(case.cells.folder)
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3


def test_a_case_with_another_forget_set_is_held_by_the_same_original(tmp_path: Path) -> None:
    problem = Blobs()
    base = Case(problem, forget_set(problem, 0.1, 0), 0, 2, Cells(tmp_path / "a", lambda _: None))
    other = replace(base, forget=forget_set(problem, 0.2, 0), cells=Cells(tmp_path / "b", lambda _: None), base=base)
    assert other.parent.state_dict().keys() == base.parent.state_dict().keys()
    alone = replace(other, base=None)
    for name, value in other.original["state"].items():
        assert value.equal(alone.original["state"][name]), "the forget set has no say in the original's weights"
    assert other.job.records is not None
    assert base.job.records is not None
    assert base.job.records.journal is not None
    assert other.job.records.journal is None, "the journal was watched for another forget set"


def test_the_page_says_which_kind() -> None:
    settings = {"forget": "class", "ratio": 0.05, "samples": None, "width": None, "epochs": None, "seeds": [0]}
    settings |= {"retrains": 3, "command": "table", "threads": 1}
    facts = [{"seed": 0, "samples": 50, "class": 7, "class_samples": 1000}]
    record = {"setting": "x", "settings": settings, "machine": {"cpu": "c"}, "forgotten": facts}
    assert place(record) == "x, forgetting from one class"
    assert "3 --forget class`; 5% of one class to forget, drawn by the seed (50 of 1,000 of class 7)" in command(record)
    settings |= {"forget": "subject", "ratio": 0.2}
    record["forgotten"] = [{"seed": 0, "samples": 55, "subjects": 9}]
    assert "--retrains 3 --ratio 0.2 --forget subject`; subjects with 20% of the samples" in command(record)
    assert "(55 samples of 9 subjects)" in command(record)
