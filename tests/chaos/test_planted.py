"""Bugs planted into the real processes: the checker finds each, and finds nothing in the same story without it."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.ground import Ground
from tests.chaos.plan import Kind, plan
from tests.chaos.run import Run
from tests.chaos.stack import running
from tests.faults.bugs import BUGS
from tests.faults.plugin import Action
from tests.faults.scenarios import Case
from tests.servers import short_folder

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with short_folder() as folder, running(folder) as stack:
        made = Ground(stack)
        yield made
        made.close()


def tasks_ended(ground: Ground, pid: int) -> int:
    """How many doorbells the worker whose child this is has answered."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    name = next(name for name, child in ground.stack.children.items() if child.pid == parent)
    log = (ground.stack.folder / "log" / f"{name}.log").read_text()
    return len(re.findall(r"Task expunge\.work\[[^\]]*\] (succeeded|raised)", log))


def slept_past_its_lease(case: Case) -> None:
    """A worker stops right before it records its verdict; another takes over, and then the first one goes on."""
    control = case.ground.stack.control
    fault = control.arm("forget.stored", Action.STOP)
    case.submit()
    case.ground.until(lambda: control.fired(fault), "the worker to stop")
    case.ground.settle()
    (pid,) = control.fired(fault)
    before = tasks_ended(case.ground, pid)
    os.kill(pid, signal.SIGCONT)
    case.ground.until(lambda: tasks_ended(case.ground, pid) > before, "the late worker to end")


def retrained(case: Case) -> None:
    case.submit(reason="unlawful_training")
    case.ground.settle()


def updated(case: Case) -> None:
    case.submit()
    case.ground.settle()


def killed_after_the_answer(case: Case) -> None:
    """The API dies between its answer and the doorbell."""
    fault = case.ground.stack.control.arm("intake.answered", Action.KILL)
    case.submit()
    case.ground.until(lambda: case.ground.stack.control.fired(fault), "the API to die")
    case.ground.until(case.ground.stack.api_answers, "the API to be back")
    case.ground.settle()


STORIES: dict[str, tuple[Callable[[Case], None], str]] = {
    "fencing-off": (slept_past_its_lease, "a run that lost its lease changes nothing"),
    "tombstones-skipped": (retrained, "a tombstoned sample is read by no later training"),
    "tombstones-unseen": (retrained, "a tombstoned sample is read by no later training"),
    "pointer-back": (updated, "the pointer never moves to a version that holds a fulfilled ticket's samples"),
    "never-committed": (updated, "a ticket answered 202 is never lost"),
    "commit-after-answer": (killed_after_the_answer, "a ticket answered 202 is never lost"),
    "written-over": (updated, "an artifact has the bytes that its name says"),
}


def test_every_bug_has_its_story() -> None:
    assert STORIES.keys() == set(BUGS)


@pytest.mark.parametrize("bug", STORIES)
def test_a_planted_bug_is_found(bug: str, ground: Ground) -> None:
    story, promise = STORIES[bug]
    known = set(ground.violations())  # of the bugs before
    story(Case(ground, ground.line(), ""))
    assert [each for each in ground.violations() if each not in known] == []
    ground.stack.control.plant(bug)
    story(Case(ground, ground.line(), ""))
    ground.stack.control.heal()
    found = [each for each in ground.violations() if each not in known]
    assert found
    assert found[0].promise == promise, found


def test_a_run_of_the_harness_breaks_no_promise() -> None:
    """A run as `make chaos` makes it, on a stack of its own."""
    with short_folder() as folder, running(folder) as stack:
        here = Ground(stack)
        kinds = (Kind.KILL_WORKER, Kind.KILL_AT_LABEL, Kind.REDIS_FLUSHED)
        made = Run(here, plan(11, 0, 3, 1.5, kinds)).carry_out()
        here.close()
    assert made.violation is None
    assert "kill-worker" in made.kinds
