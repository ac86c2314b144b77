"""The paper's experiments, on a problem that trains in a moment."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks.paper import ablation, everything, sequence, svg
from benchmarks.paper.__main__ import build, main, parser
from benchmarks.paper.attack import called_members
from benchmarks.paper.case import Case
from benchmarks.paper.cells import Cells, digest_of
from benchmarks.paper.figures import against, average_ranks, retrain_against_retrain, spread
from benchmarks.paper.forget import forget_set
from benchmarks.paper.page import PAGE, PLOTS, page, plots
from benchmarks.paper.report import data_digest, figure
from benchmarks.paper.table import run_seed, summary
from benchmarks.paper.tuning import FACTORS, compared, trials
from benchmarks.problems import SETTINGS
from benchmarks.problems_from_files import SETTINGS_FROM_FILES
from tests.unlearning.problems import RECIPE, Blobs
from unlearning.attacks import fit_network


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return case_in(tmp_path)


def case_in(folder: Path) -> Case:
    problem = Blobs()
    return Case(problem, forget_set(problem, 0.1, 0), 0, 2, Cells(folder, lambda _: None))


def shown(accuracy: float, share: float, phi: list[float], seconds: float) -> dict[str, Any]:
    shares = {"attack_forget": share, "threshold_forget": share}
    return {"accuracy": accuracy, "phi_forget": phi, "phi_unseen": [0.0, 1.0], "seconds": seconds, **shares}


def test_a_retrain_held_against_itself_is_at_no_distance() -> None:
    one = shown(0.8, 0.5, [0.0, 1.0], 2.0)
    figures = against(one, [one])
    assert [figures[name] for name in ("mu", "ue", "ue_threshold", "ks")] == [0, 0, 0, 0]
    assert figures["auc"] == 0.5
    assert figures["speedup"] == 1


def test_figures_are_means_of_distances_not_distances_to_means() -> None:
    low, high = shown(0.7, 0.4, [0.0, 1.0], 1.0), shown(0.9, 0.6, [0.0, 1.0], 3.0)
    figures = against(shown(0.8, 0.5, [5.0, 6.0], 0.5), [low, high])
    assert figures["mu"] == pytest.approx(0.1)
    assert figures["ue"] == pytest.approx(0.1)
    assert figures["ks"] == 1
    assert figures["auc"] == 1, "D_f is known by 5 nats better than retrains know it, unseen data is not"
    assert figures["speedup"] == pytest.approx(4)
    assert retrain_against_retrain([low, high])["mu"] == pytest.approx(0.2)


def test_distances_need_retrains() -> None:
    one = shown(0.8, 0.5, [0.0], 1.0)
    with pytest.raises(ValueError, match="at least one"):
        against(one, [])
    with pytest.raises(ValueError, match="at least two"):
        retrain_against_retrain([one])


def test_ranks_share_ties() -> None:
    a, b = {"mu": 0.1, "ue": 0.2, "seconds": 1.0}, {"mu": 0.1, "ue": 0.1, "seconds": 3.0}
    assert average_ranks({"a": a, "b": b}) == {"a": 1.5, "b": 1.5}
    assert average_ranks({"a": a, "c": b | {"mu": 0.3}}) == pytest.approx({"a": 4 / 3, "c": 5 / 3})


@pytest.mark.service
def test_the_attack_tells_what_can_be_told_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    others = torch.randn((300, 6), generator=generator)
    apart = fit_network(others + 3, others, seed=0)
    assert called_members(apart, others + 3) > 0.95
    assert called_members(apart, others) < 0.05
    alike, fresh = fit_network(others[:150], others[150:], seed=0), torch.randn((2000, 6), generator=generator)
    assert abs(called_members(alike, fresh[:1000]) - called_members(alike, fresh[1000:])) < 0.1


def test_tuning_tries_the_authors_defaults_first_and_gives_all_the_same_budget() -> None:
    for name in compared():
        tried = trials(name, RECIPE)
        assert tried[0].factor == 1
        assert [trial.factor for trial in tried] in ([1.0], list(FACTORS))
        if len(tried) > 1:
            values = [getattr(trial.method, trial.setting) for trial in tried]
            assert values == pytest.approx([values[0], values[0] / 10, values[0] * 10])
    assert not {"nothing", "retrain"} & set(compared())


def test_a_table_has_its_floor_and_says_what_is_missing(case: Case) -> None:
    record = summary([run_seed(case, ["iau", "fine-tune", "ct"])])
    assert [row["name"] for row in record["rows"]] == ["nothing", "retrain", "iau", "fine-tune"]
    assert record["missing"] == {"ct": "The network has no convolution that it could reset."}
    [nothing, floor, iau, tuned] = record["rows"]
    assert nothing["rank"] is None
    assert floor["rank"] is None
    assert sorted([iau["rank"]["mean"], tuned["rank"]["mean"]])[0] >= 1
    assert iau["defaults"] == iau["figures"]
    assert tuned["factors"][0] in FACTORS


def test_tuning_never_looks_at_the_audits_data(case: Case) -> None:
    tuning, audit = set(case.job.tuning.holdout.ids), set(case.problem.test.ids)
    assert not tuning & audit
    assert set(case.job.tuning.test.ids) == tuning


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_seed(case_in(tmp_path), ["iau"])
    monkeypatch.setattr("benchmarks.paper.case.train", _refused)
    monkeypatch.setattr("benchmarks.paper.case.Retrain", _refused)
    assert run_seed(case_in(tmp_path), ["iau"]).rows == first.rows
    (tmp_path / "retrain-0.pt").unlink()
    with pytest.raises(AssertionError, match="again"):
        run_seed(case_in(tmp_path), ["iau"])


def _refused(*_: object, **__: object) -> None:
    raise AssertionError("trained again")


def test_the_same_case_gives_the_same_figures(tmp_path: Path) -> None:
    rows = [run_seed(case_in(tmp_path / name), ["iau"]).rows["iau"] for name in ("a", "b")]
    timeless = [{k: v for k, v in row.items() if k not in ("seconds", "speedup")} for row in rows]
    assert timeless[0] == timeless[1]


def test_the_ablation_holds_each_training_against_its_own_retrains(case: Case) -> None:
    record = ablation.run({"one": [case], "two": [case]})
    assert [part["training"] for part in record["trainings"]] == ["one", "two"]
    assert [row["name"] for row in record["trainings"][0]["rows"]][2:] == list(ablation.PARTS)


def test_a_chain_ends_with_all_of_the_forget_set_gone(case: Case) -> None:
    record = sequence.run([case], 3)
    at_once = run_seed(case, []).rows["nothing"]
    last = {name: record["lines"]["nothing"][name][-1]["mean"] for name in ("mu", "ue_threshold", "ks", "auc")}
    assert last == pytest.approx({name: at_once[name] for name in last})
    assert all(len(steps) == 3 for chain in record["lines"].values() for steps in chain.values())
    with pytest.raises(ValueError, match="7 parts"):
        sequence.run([case], 7)


def test_what_is_forgotten_is_drawn_by_the_seed() -> None:
    problem = Blobs()
    assert np.array_equal(forget_set(problem, 0.1, 1), forget_set(problem, 0.1, 1))
    assert not np.array_equal(forget_set(problem, 0.1, 1), forget_set(problem, 0.1, 2))
    with pytest.raises(ValueError, match="leaves nothing"):
        forget_set(problem, 0.0, 1)


def test_a_size_that_a_setting_does_not_have_is_refused_by_name() -> None:
    options = parser().parse_args(["table", "--setting", "lenet-fashion-10k", "--width", "4"])
    with pytest.raises(ValueError, match="takes no width"):
        build(next(s for s in SETTINGS if s.name == "lenet-fashion-10k"), options)
    with pytest.raises(SystemExit):
        main(["table", "--setting", "no-such-setting"])


def test_digests_tell_settings_and_data_apart() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
    assert data_digest(Blobs()) == data_digest(Blobs()) != data_digest(Blobs(noise=2.0))


def test_a_figure_shows_its_range_where_seeds_differ() -> None:
    assert figure("mu", spread([0.1, 0.3])) == "0.200 (0.100–0.300)"
    assert figure("speedup", spread([1234.0])) == "1,234"


@pytest.mark.parametrize(("value", "top"), [(0.0, 1.0), (0.1, 0.1), (0.11, 0.2), (3.0, 5.0), (7.0, 10.0)])
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert svg.nice(value) == pytest.approx(top)


def test_plots_are_well_formed_and_escape_names() -> None:
    some = spread([0.1, 0.2])
    drawn = svg.dots("a < b", "note", ["x&y"], [svg.Panel("MU", [some], 0.05)], ["x&y"])
    lines = svg.lines("t", "n", [svg.Lines("MU", {"one": [0.0, 0.1], "two": [0.0, 0.1]})])
    for text in (drawn, lines):
        ElementTree.fromstring(text)
    assert "x&amp;y" in drawn


def test_the_page_and_its_plots_are_those_of_the_results() -> None:
    """After a run: `python -m benchmarks.paper.page`."""
    assert PAGE.read_text() == page()
    assert {path.name: path.read_text() for path in PLOTS.glob("paper-*.svg")} == plots()


def test_all_runs_every_command_of_the_plan_and_the_tables_of_files_that_are_there(tmp_path: Path) -> None:
    options = parser().parse_args(["all", "--seeds", "3", "4", "--cache", str(tmp_path), "--folder", str(tmp_path)])
    asked: list[list[str]] = []
    told: list[str] = []

    def one(arguments: list[str]) -> int:
        asked.append(arguments)
        parsed = parser().parse_args(arguments)
        if parsed.folder is not None and parsed.setting != "mlp-purchase100":
            raise ValueError("no such file")
        return 0

    assert everything.run(options, one, told.append) == 0
    assert [" ".join(line).split(" --seeds")[0] for line in asked[: len(everything.PLAN)]] == list(everything.PLAN)
    assert all(line[line.index("--seeds") + 1 :][:2] == ["3", "4"] for line in asked)
    assert {line[0] for line in asked} == {"table", "ablation", "gr", "hyper", "maps", "sequence"}
    assert len(asked) == len(everything.PLAN) + len(SETTINGS_FROM_FILES)
    assert told.count("left out: no such file") == len(SETTINGS_FROM_FILES) - 1
