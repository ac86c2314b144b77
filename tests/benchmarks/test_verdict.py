"""The qualification of the verdict: what is counted, what is kept, and that a run goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.verdict import cost, plot, report
from benchmarks.verdict.__main__ import gathered, record
from benchmarks.verdict.cases import Setting
from benchmarks.verdict.judged import UES, Judged, judged, lines, parse, parsed
from benchmarks.verdict.page import PAGE, PLOTS, page, plots
from benchmarks.verdict.pool import spread
from benchmarks.verdict.run import rows_folder, run
from benchmarks.verdict.zoo import make, wanted
from tests.unlearning.problems import Blobs
from unlearning.problem import Recipe

FINE = {
    "mu": (0.0, -0.01, 0.01),
    "ue": (0.01, -0.03, 0.06),
    "ue_before": (0.15, 0.1, 0.2),
    "forgetting": (-0.1, -0.2, -0.05),
    "exposure_before": (0.1, 0.05, 0.15),
    "exposure": (0.01, -0.02, 0.04),
    "exposure_change": (-0.09, -0.12, -0.06),
    "residual": (-0.04, -0.06, -0.02),
    "overshoot": (0.06, 0.03, 0.09),
    "members": (0.0, 0.0, 0.02),
    "strangers": (0.0, 0.0, 0.02),
    "worst_class": (0.0, -0.01, 0.01),
    "attack_tpr": (0.95, 0.93, 0.97),
    "attack_fpr": (0.80, 0.78, 0.82),
}


def row(
    n: int = 500, arm: str = "iau", source: str | None = "bank", **changed: tuple[float, float, float]
) -> dict[str, Any]:
    """A row as `run` leaves it: an update that is published at UE 0.10 and that 0.05 does not let through."""
    found = {
        name: {"estimate": estimate, "low": low, "high": high, "n": n, "estimator": "bank"}
        for name, (estimate, low, high) in (FINE | changed).items()
    }
    cover = {"ue": {"low": -0.05, "high": 0.08}, "mu": {"low": -0.02, "high": 0.02}}
    return {
        "setting": "some", "original": 0, "set": "random-0.05-0-all", "label": "5%", "kind": "random", "n": n, "arm": arm,
        "source": source, "statistics": {"decide": found, "cover": cover}, "truth": {"mu": [0.0, 0.01], "ue": [0.02, 0.04]},
        "seconds": {"gather": 1.0, "validate": 0.1},
    }  # fmt: skip


def made(arm: str = "iau", decisions: str = "ppp", **changed: Any) -> Judged:
    return replace(judged(row(arm=arm)), decisions=decisions, **changed)


def test_a_row_is_judged_at_each_threshold() -> None:
    one = judged(row())
    assert UES == (0.05, 0.10, 0.15)
    assert one.decisions == "ipp"
    assert one.least == pytest.approx(0.06)
    assert (one.why, one.over, one.detectable) == ("publish", False, True)
    assert [one.published(ue) for ue in UES] == [one.least <= ue for ue in UES]  # type: ignore[operator]  # it has one


def test_the_least_threshold_is_none_where_something_else_speaks_against_it_and_nought_where_ue_has_no_rate() -> None:
    idle = judged(row(arm="nothing", exposure=(0.1, 0.05, 0.15), exposure_change=(0.0, -0.02, 0.02)))
    assert idle.least is None
    assert idle.why == "like-nothing"
    few = judged(row(n=10, ue=(0.3, -0.5, 0.9)))
    assert few.least == 0
    assert few.decisions == "ppp"


def test_over_forgetting_is_read_off_any_reason() -> None:
    far = judged(row(arm="ten-times", mu=(-0.3, -0.32, -0.28), ue=(-0.8, -0.9, -0.7), overshoot=(-0.3, -0.4, -0.2)))
    assert far.decisions == "eee"
    assert (far.why, far.over) == ("mu", True)


def test_a_line_gives_back_what_it_was_made_of() -> None:
    found = [
        judged(row()),
        judged(row(source=None, arm="ten-times")),
        judged(row(arm="nothing", exposure_change=(0, -1, 1))),
    ]
    assert parsed(lines(found)) == found
    assert found[1].diverged
    assert parse(found[0].line()).true_ue == (0.02, 0.04)
    with pytest.raises(ValueError, match="other fields"):
        parsed(["set other", "x 1"])


def test_a_wrong_publish_is_counted_and_a_retrain_is_never_one() -> None:
    beyond = made(true_ue=(0.2, 0.2))
    found = [beyond, made("nothing"), made("another", "iii"), made("retrain-0", true_ue=(0.2,)), made()]
    assert report.figures(found, 0.10)["wrong"] == (2, 3)
    assert report.figures(found, 0.10)["nothing"] == (1, 2)
    assert report.figures(found, 0.10)["rungs"]["iau"]["right"] == (1, 2)
    assert report.figures([made(true_ue=(0.12, 0.12))], 0.15)["wrong"] == (0, 0), (
        "within the wider threshold it is right"
    )
    assert report.figures([made(true_mu=(-0.04, -0.05))], 0.15)["wrong"] == (1, 1), "MU is a threshold too"


def test_fewer_samples_than_a_rate_needs_are_counted_apart() -> None:
    found = [made("nothing", n=10), made("retrain-0", "iii", n=10, why="undetectable"), made(n=10, true_ue=(0.9,))]
    figures = report.figures(found, 0.10)
    assert figures["wrong"] == (0, 0)
    assert figures["few"] == {"published": (2, 3), "wrong": (1, 1), "said": {"undetectable": 1}}


def test_retrains_are_counted_by_how_much_is_forgotten_and_a_class_apart() -> None:
    of_class = made("retrain-0", "iii", why="ue", set="class-0.02-0-all", label="2%", n=200)
    found = [made("retrain-0"), made("retrain-1", "iii", why="like-nothing"), of_class]
    assert report.figures(found, 0.10)["held_back"] == {"like-nothing": 1, "ue": 1}
    assert report.figures(found, 0.10)["retrain"] == {"5%": (1, 2), "class 2%": (0, 1)}


def test_coverage_counts_each_retrain_once_whatever_the_update() -> None:
    whole = made("nothing", true_ue=(0.07, 0.09), true_mu=(0.01, 0.03))
    part = replace(whole, set="random-0.05-0-100-0", n=100)
    found = [whole, part, replace(whole, set="random-0.05-0-10-0", n=10), made(true_ue=(0.5,), true_mu=(0.5,))]
    assert report.coverage(found) == {"ue": (2, 4), "mu": (1, 2), "all ue": (2, 4)}


def test_ten_times_the_step() -> None:
    far = made("ten-times", "eee", over=True, true_ue=(-0.9,))
    found = [far, made("ten-times", "ppp")]
    asked = report.figures(found, 0.10)["ten_times"]
    assert asked == {"escalated": (1, 2), "over": (1, 2), "published": (1, 2), "wrong": (0, 1)}


def test_aims_are_held_on_their_own_side() -> None:
    assert report.aim_of(report.STRONG, "nothing") == (0.0, True)
    assert report.aim_of("mlp-flights", "nothing") == (0.05, True)
    assert report.aim_of(report.ALL, "nothing") is None
    points = {"some": [made("retrain-0"), made("retrain-1", "iii"), made("nothing", "iii")]}
    rows = {row.name: row for row in report.rows(report.tabled(points, 0.10))}
    missed = rows["some, bank: published, of retrains, 5 %"]
    assert (missed.figure, missed.ratio, missed.aim, missed.met) == ("1 of 2", 0.5, 0.80, False)
    assert rows["some, bank: published, of updates that should not be"].met
    assert not any(name.startswith("some, holdout") for name in rows), "nothing was judged from it"
    assert not report.met((1, 48), (0.0, True))
    assert report.met((0, 0), (0.8, False)), "of none nothing can be missed"


def test_the_exact_interval_of_a_share() -> None:
    low, high = report.clopper_pearson((48, 48))
    assert (round(low, 3), high) == (0.926, 1.0)
    low, high = report.clopper_pearson((1, 10))
    assert (round(low, 4), round(high, 4)) == (0.0025, 0.4450), "Clopper and Pearson's table"
    with pytest.raises(ValueError, match="no share"):
        report.clopper_pearson((0, 0))


def test_plots_are_drawings_with_a_dot_for_every_update() -> None:
    points = {
        "some": [
            made(arm, source=source) for arm in ("nothing", "retrain-0", "iau-calibrated") for source in report.SOURCES
        ]
    }
    assert "verdict-published-some.svg" not in plot.plots("verdict", points), "of one size there is nothing to draw"
    points["some"].append(made("nothing", "iii", label="10", n=10))
    drawn = plot.plots("verdict", points)
    assert set(drawn) == {
        "verdict-ue-some.svg", "verdict-published-some.svg", "verdict-thresholds-bank.svg", "verdict-thresholds-holdout.svg",
    }  # fmt: skip
    for text in drawn.values():
        ElementTree.fromstring(text)
    assert drawn["verdict-ue-some.svg"].count('r="2.8"') == 6


def test_page_and_plots_say_what_was_measured_and_nothing_else() -> None:
    """After a run: `python -m benchmarks.verdict.page`."""
    assert PAGE.read_text() == page()
    drawn = plots()
    assert {path.name for path in PLOTS.glob("verdict*.svg")} == set(drawn)
    for name, text in drawn.items():
        assert (PLOTS / name).read_text() == text


def small(seed: int) -> Blobs:
    return Blobs(count=240, hidden=(16,), recipe=Recipe("adam", 0.01, epochs=12, batch_size=16, seed=seed))


SMALL = Setting("blobs", "blobs", small, {}, (("random", 0.05, 1),), references=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    run(SMALL, lambda _: None, folder)
    return folder


def test_what_exists_is_not_made_again(cache: Path) -> None:
    models = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    case = next(rows_folder(SMALL, cache).glob("*.json"))
    kept = case.read_text()
    case.write_text(json.dumps([json.loads(kept)[0] | {"arm": "marked"}]))
    try:
        done: list[str] = []
        rows = run(SMALL, done.append, cache)
        assert [row["arm"] for row in rows] == ["marked"], "what lies there is taken, whatever it is"
        assert len(done) == len(models) + 1
        assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == models
        case.unlink()
        run(SMALL, done.append, cache)
        assert len(json.loads(case.read_text())) == len(json.loads(kept)), "and what is missing is made"
        assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == models
    finally:
        case.write_text(kept)


def test_what_a_killed_run_left_hinders_nothing(cache: Path, tmp_path: Path) -> None:
    first = next(wanted(SMALL))
    there = next(path for path in cache.rglob("*.safetensors") if path.name.startswith(first.name))
    (tmp_path / SMALL.name).mkdir()
    for suffix in (".lock", ".part-1"):
        (tmp_path / SMALL.name / there.name).with_suffix(suffix).write_bytes(b"half")
    make(SMALL, lambda _: None, tmp_path)
    assert (tmp_path / SMALL.name / there.name).read_bytes() == there.read_bytes(), "trained anew, to the same bytes"


def test_the_record_holds_all_that_page_and_plots_need(cache: Path) -> None:
    found, there = gathered((SMALL,), cache)
    assert there == {"blobs": [1, 1]}
    rows, more = record((SMALL,), found, there, None)
    kept = json.loads(json.dumps(more))
    assert {name: parsed(each) for name, each in kept["verdicts"].items()} == found
    assert kept["tables"] == json.loads(json.dumps(report.by_threshold({"blobs": parsed(kept["verdicts"]["blobs"])})))
    assert any(row.name.startswith("blobs, bank") for row in rows)


def test_cost_is_measured_once_and_an_attack_that_calls_all_members_says_nothing(cache: Path) -> None:
    found = cost.cost(SMALL, cache, rounds=1)
    assert found["always_member_informative"] is False
    seconds, attack = cost.rows(found)
    assert seconds.ratio == pytest.approx(found["verdict"][0] / found["passes"][0])
    assert attack.met
    assert cost.cost(SMALL, cache, rounds=1) == found


def test_work_needs_a_job() -> None:
    with pytest.raises(ValueError, match="at least one"):
        next(spread(print, [1], 0))


def _note(folder: Path, task: int) -> None:
    (folder / f"{task}-{os.getpid()}").touch()


def _wait(folder: Path, task: int) -> None:
    _note(folder, task)
    signal.pause()


WAITING = """
import sys
from functools import partial
from pathlib import Path
from benchmarks.verdict.pool import spread
from tests.benchmarks.test_verdict import _wait
if __name__ == "__main__":
    list(spread(partial(_wait, Path(sys.argv[1])), [0, 1], 2))
"""


@pytest.mark.service
def test_work_is_spread_over_processes(tmp_path: Path) -> None:
    assert sorted(spread(partial(_note, tmp_path), [0, 1, 2, 3], 2)) == [0, 1, 2, 3]
    noted = [path.name.split("-") for path in tmp_path.iterdir()]
    assert sorted(task for task, _ in noted) == ["0", "1", "2", "3"]
    assert str(os.getpid()) not in {pid for _, pid in noted}


@pytest.mark.service
def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    notes, script = tmp_path / "notes", tmp_path / "waiting.py"
    notes.mkdir()
    script.write_text(WAITING)
    environment = os.environ | {"PYTHONPATH": str(PAGE.parent.parent)}
    with subprocess.Popen([sys.executable, str(script), str(notes)], env=environment) as parent:
        try:
            until(lambda: len(list(notes.iterdir())) == 2)
        finally:
            parent.kill()
    until(lambda: not any(runs(int(path.name.split("-")[1])) for path in notes.iterdir()))


def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it never came to hold")


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie that waits for somebody to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
