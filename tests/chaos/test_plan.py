"""Plans and results: everything follows from the seed, every kind has its turn, and calls add up."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import results as house
from tests.chaos import results
from tests.chaos.__main__ import parser, told
from tests.chaos.plan import ABOUT_THE_PROBLEM, AT_LABEL, Kind, plan
from tests.chaos.results import Results
from tests.chaos.run import Record
from tests.faults.labels import BY_NAME, Role

SETTINGS: dict[str, Any] = {"seed": 1, "tickets": 4, "seconds": 3.0, "kinds": [kind.value for kind in Kind]}


def test_a_plan_follows_from_the_seed_and_the_number() -> None:
    assert plan(1, 5) == plan(1, 5)
    assert plan(1, 5) != plan(2, 5)
    assert plan(1, 5) != plan(1, 6)


def test_every_kind_has_its_turn() -> None:
    met = [plan(3, run).faults[0].kind for run in range(len(Kind))]
    assert sorted(met) == sorted(Kind)


def test_plans_are_such_as_can_be_carried_out() -> None:
    for run in range(300):
        made = plan(4, run)
        kinds = [fault.kind for fault in made.faults]
        assert len(set(kinds)) == len(kinds)
        assert len(ABOUT_THE_PROBLEM & set(kinds)) <= 1
        asked = [step for step in made.steps if step.what == "submit"]
        assert [step.of for step in sorted(asked, key=lambda step: step.of)] == [0, 1, 2, 3]
        assert all(step.ordinals or step.subjects for step in asked)
        assert list(made.steps) == sorted(made.steps, key=lambda step: step.at)
        for fault in made.faults:
            assert (fault.kind in AT_LABEL) <= (fault.label in BY_NAME)
            if fault.kind is Kind.POISON_TICKET:
                assert fault.ordinals
                assert made.policy == "lazy"


def test_requests_of_every_sort_come_up() -> None:
    found = {step.what for run in range(60) for step in plan(5, run).steps}
    assert found == {"submit", "repeat", "race", "changed", "cancel", "retrain", "schedule", "bank", "flush"}
    reasons = {step.reason for run in range(60) for step in plan(5, run).steps}
    assert reasons == {"other", "unlawful_training"}


def test_a_label_is_drawn_where_the_run_may_come_by() -> None:
    drawn = [(made, each) for run in range(200) for made in [plan(6, run)] for each in made.faults if each.label]
    assert len({each.label for _, each in drawn}) > 30
    for made, each in drawn:
        assert not each.label.startswith("cancel.") or "cancel" in {step.what for step in made.steps}
        assert each.kind is Kind.KILL_AT_LABEL or BY_NAME[each.label].role is Role.WORKER


def record(run: int, *kinds: str, recovery: float = 1.0, violation: str | None = None) -> Record:
    return Record(run, list(kinds), 4, 3 if violation else 4, 6, recovery, 5.0, violation)


def test_a_later_call_goes_on_where_the_earlier_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "RESULTS", tmp_path)
    made = Results(SETTINGS)
    made.add(record(0, "kill-api", recovery=2.0))
    made.add(record(1, "kill-api", "two-beats", recovery=4.0))
    made.add(record(2, "two-beats", violation="a ticket answered 202 is never lost: it is not there"))
    assert made.violations == 1
    made.save(quietly=True)
    again = Results.resumed(SETTINGS, fresh=False)
    assert again.left(4) == [2, 3]
    assert again.kinds() == {
        "kill-api": {"runs": 2, "median": 3.0, "worst": 4.0},
        "two-beats": {"runs": 1, "median": 4.0, "worst": 4.0},
    }
    assert Results.resumed(SETTINGS | {"seed": 2}, fresh=False).left(2) == [0, 1]
    assert Results.resumed(SETTINGS, fresh=True).left(2) == [0, 1]
    monkeypatch.setattr(results, "digests", lambda: {"code": "another", "harness": "another"})
    assert Results.resumed(SETTINGS, fresh=False).left(2) == [0, 1]


def test_the_table_counts_violations_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(house, "RESULTS", tmp_path)
    made = Results(SETTINGS)
    made.add(record(0, "kill-api"))
    made.save(quietly=False)
    shown = capsys.readouterr().out
    assert "0 of 1" in shown
    assert "MISSED" not in shown
    assert "kill-api" in shown
    made.add(record(1, "kill-api", violation="every ticket ends: ticket 7 is still working"))
    made.save(quietly=False)
    assert "MISSED" in capsys.readouterr().out


def test_a_run_is_told_in_a_line_and_its_violation_in_another() -> None:
    assert told(record(3, "kill-api")) == "run 3: 4 tickets, kill-api; recovered in 1.0 s, 5.0 s in all"
    assert "VIOLATION x: y" in told(record(3, violation="x: y"))


def test_options_have_their_defaults() -> None:
    options = parser().parse_args([])
    assert (options.runs, options.seed, options.only, options.kinds) == (20, 1, None, "")
