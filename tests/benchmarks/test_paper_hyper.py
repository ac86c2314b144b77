"""The update over its settings, on a problem that trains in a moment."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.paper import hyper, hyper_report
from benchmarks.paper.case import Case
from benchmarks.paper.cells import Cells
from benchmarks.paper.figures import against, retrain_against_retrain
from benchmarks.paper.forget import forget_set
from benchmarks.paper.table import run_trial
from benchmarks.paper.tuning import Trial
from benchmarks.problems import OutlierProblem
from tests.unlearning.problems import Blobs
from unlearning.methods.registry import make

SETTINGS = {"samples": None, "width": None, "epochs": None, "seeds": [0], "retrains": 2, "command": "hyper"}


def case_in(folder: Path, done: list[str]) -> Case:
    problem = Blobs()
    return Case(problem, forget_set(problem, 0.1, 0), 0, 2, Cells(folder, done.append))


def resized(case: Case, count: int) -> Case:
    forget, folder = forget_set(case.problem, count / 60, case.seed), case.cells.folder / f"{count}"
    return replace(case, forget=forget, cells=Cells(folder, case.cells.done), base=case)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Case, list[str]]:
    done: list[str] = []
    case = case_in(tmp_path_factory.mktemp("hyper"), done)

    def trained(alpha: float) -> list[Case]:
        return [replace(case, cells=Cells(case.cells.folder / f"a{alpha}", done.append))] if alpha else [case]

    return hyper.run(hyper.OVER, [case], trained, lambda count: [resized(case, count)]), case, list(done)


def test_the_sizes_of_forget_sets_come_once_and_leave_something() -> None:
    assert hyper.counts_of(10_000) == [1, 10, 100, 500, 2000]
    assert hyper.counts_of(60) == [1, 3, 10, 12]
    assert hyper.counts_of(2) == [1]


def test_fixed_steps_are_multiples_of_the_one_that_is_searched(ran: tuple[dict[str, Any], Case, list[str]]) -> None:
    record, case, _ = ran
    eta = record["over"]["eta"]
    searched = run_trial(case, Trial(make("iau"), "", 1.0))
    assert eta["searched"] == [searched["eta"]]
    at_one = {key: eta["curves"]["iau"][key][hyper.FACTORS.index(1.0)]["mean"] for key in hyper.DRAWN}
    found = against(searched, case.retrains)
    for key in ("mu", "ue_threshold", "ks", "auc"):
        assert at_one[key] == found[key], "the very step that the search ended with"
    by_hand = run_trial(case, hyper.FixedStep(make("iau", eta=searched["eta"] * 10), "eta", 10.0))
    assert eta["curves"]["iau"]["ks"][-1]["mean"] == against(by_hand, case.retrains)["ks"]
    assert by_hand["eta"] == searched["eta"] * 10
    assert set(eta["flat"]) == {"nothing", "retrain", hyper.SEARCHED, "iau-calibrated"}


def test_every_value_is_held_against_retrains_of_its_own(ran: tuple[dict[str, Any], Case, list[str]]) -> None:
    record, case, _ = ran
    ratio = record["over"]["ratio"]
    assert ratio["x"] == ["1", "3", "10", "12"]
    for number, count in enumerate(hyper.counts_of(60)):
        own = resized(case, count)
        assert len(own.retrains[0]["phi_forget"]) == count
        floor = retrain_against_retrain(own.retrains)
        assert ratio["curves"]["retrain"]["ks"][number]["mean"] == floor["ks"]
    assert record["over"]["alpha"]["x"] == ["0", "0.001", "0.005", "0.02"]
    assert all(len(row[key]) == 4 for row in record["over"]["alpha"]["curves"].values() for key in hyper.DRAWN)


def test_the_original_is_trained_once_for_all_sizes_and_progress_counts_each_cell(
    ran: tuple[dict[str, Any], Case, list[str]],
) -> None:
    _, _, done = ran
    trainings = 1 + 3  # the plain one, and one an alpha
    assert done.count("original") == done.count("attack") == trainings
    assert len(done) == hyper.cells_of(hyper.OVER, 60, 0.1, 2)


def test_a_step_that_diverges_leaves_a_gap() -> None:
    some = dict.fromkeys(hyper.DRAWN, 0.5)
    curves = hyper._curves([[{"iau": some}, {"iau": some}], [{"iau": some}, {"iau": None}]])
    assert curves["iau"]["ks"][0] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert curves["iau"]["ks"][1] is None


def test_sizes_are_not_varied_where_the_forget_set_is_of_another_kind() -> None:
    blobs = Blobs()
    spoiled = OutlierProblem(blobs.train, blobs.holdout, blobs.test, blobs.recipe, blobs.build_model, np.arange(3), 3)
    for problem, kind in ((blobs, "class"), (spoiled, "random")):
        with pytest.raises(ValueError, match="--over ratio"):
            hyper.check(["ratio"], problem, kind)  # type: ignore[arg-type]  # kinds as text
        hyper.check(["eta", "alpha"], problem, kind)  # type: ignore[arg-type]  # kinds as text


def test_the_page_has_a_table_and_a_drawing_for_each(ran: tuple[dict[str, Any], Case, list[str]]) -> None:
    record = ran[0] | {"name": "paper-hyper-x"}
    record["over"]["eta"]["curves"]["iau"]["ks"][0] = None
    text = hyper_report.section(record, "blobs", "how")
    assert "| iau | ×0.1 |" in text
    assert "diverged |" in text
    assert "| retrain against retrain | all |" in text
    drawn = hyper_report.plots(record, "blobs")
    assert sorted(drawn) == [f"paper-hyper-x-{over}.svg" for over in ("alpha", "eta", "ratio")]
    for name, drawing in drawn.items():
        ElementTree.fromstring(drawing)
        assert f"results/{name}" in text
