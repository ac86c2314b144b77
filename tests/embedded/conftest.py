"""Folders, legs and owners to kill, for the tests of the private servers."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedded.launch import SAME, command
from embedded.processes import wait_for
from embedded.supervisor import Supervisor
from tests.servers import LEGS, Missing, Servers, binaries, pair, short_folder

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition; the deadline only bounds a failing test."""
    assert wait_for(lambda: bool(condition()), seconds), "the condition did not come true in time"


@dataclass
class Owner:
    """A running tests/embedded/owner.py."""

    process: subprocess.Popen[str]

    @property
    def family(self) -> list[int]:
        """The owner's direct children: programs and the janitor."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready"), f"the owner said {line!r}"

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    """Start an owner process with the given arguments."""
    with ExitStack() as stack:

        def begin(*arguments: object, python: str = sys.executable, identity: str = SAME) -> Owner:
            path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
            process = subprocess.Popen(
                command([python, "-m", "tests.embedded.owner", *map(str, arguments)], signal.SIGKILL, identity),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Owner(process)

        yield begin


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder with a short path, removed afterwards."""
    with short_folder() as path:
        yield path


@pytest.fixture
def reports() -> list[str]:
    """What the supervisor reported."""
    return []


@pytest.fixture
def supervisor(folder: Path, reports: list[str]) -> Iterator[Supervisor]:
    with Supervisor(folder / "log", reports.append) as supervisor:
        yield supervisor


@pytest.fixture(params=LEGS)
def leg(request: pytest.FixtureRequest) -> str:
    """Each way to come by the servers that this machine has."""
    name: str = request.param
    try:
        binaries(name)
    except Missing as missing:
        pytest.skip(str(missing))
    return name


@pytest.fixture
def servers(leg: str, folder: Path) -> Servers:
    """A pair of servers, not started: these tests start and kill them themselves."""
    return pair(leg, folder)
