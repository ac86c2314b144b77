"""kill -9 at every label: whatever process is met there, its tickets end, and nothing that was promised is broken."""

from collections.abc import Iterator

import pytest

from tests.chaos.ground import Ground, Line
from tests.chaos.stack import running
from tests.faults.labels import LABELS, Label
from tests.faults.scenarios import Case, scenario
from tests.servers import short_folder

pytestmark = pytest.mark.service

# A kill at one of these leaves the current version unprepared, which others' scenarios rely on.
UNPREPARED = {
    "publish.committed", "bank.discarding", "settle.begun", "anchor.known", "sum.shared", "parent.dropped",
    "version.preparing", "version.stored",
}  # fmt: skip


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with short_folder() as folder, running(folder) as stack:
        made = Ground(stack)
        yield made
        made.close()


@pytest.fixture(scope="module")
def lines() -> dict[str, Line]:
    """Models that earlier cases have left in good order, by their policy."""
    return {}


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label.name)
def test_a_kill_at_a_label_breaks_no_promise(label: Label, ground: Ground, lines: dict[str, Line]) -> None:
    story, policy = scenario(label.name)
    line = lines.pop(str(policy), None)
    if line is None or len(line.left) < 40 or ground.stopped(line):
        line = ground.line(policy)
    case = Case(ground, line, label.name)
    story(case)
    ground.settle()
    assert ground.violation() is None
    if label.name not in UNPREPARED:
        lines[str(policy)] = case.line
