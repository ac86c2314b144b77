"""Trainings with and without GR, by clipping and SignSGD, on a problem that trains in a moment."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.paper import gr, gr_plot, gr_report
from benchmarks.paper.__main__ import main
from benchmarks.paper.cells import Cells
from benchmarks.paper.steps import Change, before_steps, clip, sign
from benchmarks.problems import Setting, watched
from tests.unlearning.problems import Blobs
from unlearning.problem import Recipe
from unlearning.training import State, restore, train

PLAIN = gr.stopping(Recipe("adam", 0.02, 40, 16), 40, 3)
COMPARED = gr.trainings(PLAIN, 0.005, [0.5], [0.005])


def cells_of(folder: Path) -> Cells:
    return Cells(folder, lambda _: None)


def run(folder: Path, compared: list[gr.Training] = COMPARED, seed: int = 0) -> dict[str, gr.Measured]:
    return gr.run_seed(Blobs(), compared, seed, cells_of(folder), "cpu", lambda _: None)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("cells")
    found = gr.summary(COMPARED, [run(folder / str(seed), seed=seed) for seed in (0, 1)])
    asked: dict[str, Any] = {"samples": 60, "width": None, "epochs": 40, "patience": 3, "clip": [0.5], "rates": [0.005]}
    asked |= {"alpha": 0.005, "seeds": [0, 1], "threads": 1}
    facts: dict[str, Any] = {"setting": "blobs", "name": "paper-gr-blobs", "machine": {"cpu": "some"}}
    facts |= {"settings": asked, "stops_early": False}
    return json.loads(json.dumps(found | facts))  # type: ignore[no-any-return]  # as the page reads it


def weights_after(recipe: Recipe, change: Change | None = None) -> State:
    problem = Blobs(recipe=recipe)
    if change is None:
        return train(problem, np.arange(60), watched(problem)).state
    with before_steps(change):
        return train(problem, np.arange(60), watched(problem)).state


def test_a_setting_stops_by_its_own_rule_and_else_by_the_released_scripts() -> None:
    own = Recipe("adam", 1e-3, 100, 64, 0.005, "per-sample", patience=5)
    assert gr.stopping(own, None, None) == Recipe("adam", 1e-3, 100, 64, patience=5)
    assert gr.stopping(Recipe("adam", 1e-3, 40, 64), None, None) == Recipe("adam", 1e-3, 200, 64, patience=10)
    assert gr.stopping(Recipe("adam", 1e-3, 40, 64), 30, 2) == Recipe("adam", 1e-3, 30, 64, patience=2)
    with pytest.raises(ValueError, match="patience"):
        gr.stopping(own, None, 0)


def test_every_training_differs_from_plain_loss_by_what_its_name_says() -> None:
    plain, whole, quarter, released, clipped, signed = COMPARED
    assert (plain.recipe, plain.change) == (PLAIN, None)
    assert whole.recipe == replace(PLAIN, alpha=0.005, restriction="per-sample")
    assert quarter.recipe == replace(whole.recipe, restriction_share=0.25)
    assert released.recipe == replace(PLAIN, alpha=0.005, restriction="batch-norm")
    assert clipped.recipe == PLAIN
    assert signed.recipe == replace(PLAIN, optimizer="sgd", learning_rate=0.005)
    assert len({training.cell for training in COMPARED}) == len(COMPARED)
    with pytest.raises(ValueError, match="alpha"):
        gr.trainings(PLAIN, 0.0, [], [])


def test_signsgd_moves_every_weight_by_its_rate() -> None:
    recipe = Recipe("sgd", 0.25, epochs=1, batch_size=60, patience=1)
    after = weights_after(recipe, sign)
    torch.manual_seed(recipe.seed)
    before = Blobs(recipe=recipe).build_model().state_dict()
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    assert set(moved.abs().mul(1e4).round().tolist()) <= {0.0, 2500.0}
    assert (moved != 0).float().mean() > 0.5


@pytest.mark.parametrize("bound", [0.1, 100.0])
def test_a_clipped_gradient_is_no_longer_than_its_bound_and_points_where_it_did(bound: float) -> None:
    layer = nn.Linear(3, 2)
    (layer(torch.ones(4, 3)) ** 2).sum().backward()
    before_P = torch.cat([p.grad.flatten() for p in layer.parameters() if p.grad is not None])
    clip(list(layer.parameters()), bound)
    after_P = torch.cat([p.grad.flatten() for p in layer.parameters() if p.grad is not None])
    assert float(after_P.norm()) == pytest.approx(min(bound, float(before_P.norm())), rel=1e-4)
    assert torch.allclose(after_P / after_P.norm(), before_P / before_P.norm(), atol=1e-6)
    with pytest.raises(ValueError, match="positive norm"):
        clip(list(layer.parameters()), 0.0)


def test_a_bound_that_nothing_reaches_changes_nothing_and_a_small_one_does() -> None:
    recipe = replace(PLAIN, optimizer="sgd", epochs=2)
    plain, loose, tight = (
        weights_after(recipe, c) for c in (None, partial(clip, bound=1e6), partial(clip, bound=0.01))
    )
    assert all(torch.equal(plain[name], loose[name]) for name in plain)
    assert not all(torch.allclose(plain[name], tight[name], atol=1e-4) for name in plain)


def test_nothing_is_left_of_a_change_after_it_even_when_a_training_fails() -> None:
    before = weights_after(replace(PLAIN, epochs=2))

    def refuse(_: list[nn.Parameter]) -> None:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError, match="no"):
        weights_after(replace(PLAIN, epochs=2), refuse)
    after = weights_after(replace(PLAIN, epochs=2))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_norms_are_those_of_each_sample_by_itself() -> None:
    problem = Blobs()
    model = restore(problem, train(problem, np.arange(60)).state)
    slow = []
    for i in range(60):
        inputs, targets = problem.train.batch(np.array([i]))
        gradients = torch.autograd.grad(problem.losses(model(inputs), targets).sum(), list(model.parameters()))
        slow.append(sum(float(g.double().square().sum()) for g in gradients) ** 0.5)
    assert gr.norms(model, problem, problem.train, 16) == pytest.approx(slow, rel=1e-4)


def test_a_distribution_in_figures() -> None:
    found = gr.distribution(np.arange(101.0))
    assert {share: found[f"q{share}"] for share in gr.QUANTILES} == pytest.approx({s: float(s) for s in gr.QUANTILES})
    assert found["mean"] == pytest.approx(50)
    assert found["cv"] == pytest.approx(np.arange(101.0).std() / 50)
    assert gr.distribution(np.zeros(3))["cv"] == 0


def test_a_training_that_its_epochs_ended_did_not_stop() -> None:
    short = gr.measure(Blobs(), gr.Training("short", replace(PLAIN, epochs=2)), 0, "cpu")
    assert (short["epochs"], short["stopped"]) == (2, False)
    stopped = gr.measure(Blobs(), COMPARED[0], 0, "cpu")
    assert stopped["stopped"]
    assert stopped["epochs"] == stopped["best_epoch"] + 3 < 40


def test_restricted_gradients_are_smaller_than_those_of_plain_loss() -> None:
    plain, restricted = gr.trainings(replace(PLAIN, epochs=10, patience=10), 0.1, [], [])[:2]
    norms = [gr.measure(Blobs(), training, 0, "cpu")["seen"]["mean"] for training in (plain, restricted)]
    assert norms[1] < 0.8 * norms[0]


def test_a_comparison_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(gr, "train", refused)
    assert run(tmp_path) == first
    (tmp_path / f"{COMPARED[2].cell}.json").unlink()
    with pytest.raises(AssertionError, match="again"):
        run(tmp_path)


def test_cells_are_told_apart_by_what_was_asked_for() -> None:
    def folder(facts: dict[str, Any], recipe: Recipe, seed: int) -> Path:
        return gr.cells_in(Path("x"), facts, recipe, seed, print).folder

    one = folder({"threads": 1}, PLAIN, 0)
    assert one == folder({"threads": 1}, PLAIN, 0)
    others = [({"threads": 2}, PLAIN, 0), ({"threads": 1}, replace(PLAIN, patience=4), 0), ({"threads": 1}, PLAIN, 1)]
    assert len({one, *(folder(*other) for other in others)}) == 4


def test_a_training_that_diverged_is_named_and_left_out(tmp_path: Path) -> None:
    wild = gr.Training("wild", replace(PLAIN, optimizer="sgd", learning_rate=1e30))
    record = gr.summary([COMPARED[0], wild], [run(tmp_path, [COMPARED[0], wild])])
    assert [regime["name"] for regime in record["regimes"]] == ["plain loss"]
    assert "not finite" in record["missing"]["wild"] or "unusable" in record["missing"]["wild"]
    with pytest.raises(ValueError, match="wild diverged"):
        gr.summary([wild], [run(tmp_path, [wild])])


def test_a_summary_has_every_training_and_its_ratio_to_plain_loss(record: dict[str, Any]) -> None:
    assert [regime["name"] for regime in record["regimes"]] == [training.name for training in COMPARED]
    assert record["regimes"][0]["along"]["times_plain"] == {"mean": 1, "low": 1, "high": 1}
    for regime in record["regimes"]:
        for part in gr.SETS:
            quantiles = [regime[part][f"q{share}"]["mean"] for share in gr.QUANTILES]
            assert quantiles == sorted(quantiles)


def test_tables_and_section_say_what_was_measured(record: dict[str, Any]) -> None:
    text = gr_report.section(record)
    for regime, line in zip(record["regimes"], gr_report.along_lines(record), strict=True):
        assert line[0] == regime["name"]
        assert f"| {regime['name']} | training | {regime['seen']['q5']['mean']:.3g} |" in text
        assert ("not stopped" in line[1]) == (not all(regime["stopped"]))
        assert "| " + " | ".join(line) + " |" in text
    assert "--patience 3 --clip 0.5 --rates 0.005 --alpha 0.005 --seeds 0 1" in text
    assert "results/paper-gr-blobs.svg" in text
    assert "released training script" not in text, "the patience was asked for"
    of_the_script = gr_report.section(record | {"settings": record["settings"] | {"patience": None}})
    assert "never stops early; its patience here is that of the released training script" in of_the_script
    assert f"plain loss: {record['regimes'][0]['along']['epochs']['mean']:.3g};" in text


@pytest.mark.parametrize("vanished", [False, True])
def test_the_plot_is_well_formed_also_for_gradients_that_vanished(record: dict[str, Any], vanished: bool) -> None:
    copied = json.loads(json.dumps(record))
    if vanished:
        copied["regimes"][0]["seen"] = {name: {"mean": 0.0} for name in gr.NORMS}
    root = ElementTree.fromstring(gr_plot.drawing(copied))
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {regime["name"] for regime in record["regimes"]} <= set(words)
    width = float(root.attrib["width"])
    ends = [float(e.attrib[k]) for e in root.iter("{http://www.w3.org/2000/svg}line") for k in ("x1", "x2")]
    assert all(0 <= end <= width for end in ends)


def test_the_command_writes_what_it_measured_and_asks_for_nothing_to_forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def blobs(train_size: int = 60, epochs: int = 5) -> Blobs:
        return Blobs(count=train_size, recipe=Recipe("adam", 0.02, epochs, 16))

    monkeypatch.setattr("benchmarks.paper.__main__.SETTINGS", (Setting("lenet-fashion", "none", "blobs", blobs),))
    monkeypatch.setattr("benchmarks.paper.report.RESULTS", tmp_path)
    asked = ["gr", "--setting", "lenet-fashion", "--cache", str(tmp_path / "cache"), "--rates", "0.01", "--clip"]
    threads = torch.get_num_threads()
    try:
        assert main([*asked, "--samples", "30", "--epochs", "3", "--patience", "2", "--seeds", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    record = json.loads((tmp_path / "paper-gr-lenet-fashion.json").read_text())
    names = [regime["name"] for regime in record["regimes"]]
    assert names == [training.name for training in gr.trainings(PLAIN, 0.005, [], [0.01])]
    assert record["stops_early"] is False
    assert (record["patience"], record["longest"], record["settings"]["samples"]) == (2, 3, 30)
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    with pytest.raises(SystemExit):
        main([*asked, "--ratio", "0.1"])
