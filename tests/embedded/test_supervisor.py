"""Start, restart, back-off and stop, with small stand-in programs."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded.child import LOG_LIMIT
from embedded.errors import StartFailed
from embedded.launch import NAMESPACE, NOBODY, SAME
from embedded.processes import alive
from embedded.supervisor import HEALTHY_SECONDS, LONGEST_PAUSE, Program, Supervisor
from tests.embedded.conftest import Owner, until
from tests.embedded.owner import crew

pytestmark = pytest.mark.service

SLEEP = Program("sleep", ("sleep", "1000"), stop_seconds=0.5)
FAIL = Program("fail", ("false",))


def members(folder: Path) -> list[int]:
    return [int(entry.name) for entry in folder.iterdir()]


def is_janitor(pid: int) -> bool:
    return "janitor" in Path(f"/proc/{pid}/cmdline").read_text()  # empty for an instant during exec


def python(code: str, **settings: object) -> Program:
    return Program("python", (sys.executable, "-S", "-c", code), **settings)  # type: ignore[arg-type]  # settings by name


class Clock:
    """A clock that moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_stop_runs_backwards(supervisor: Supervisor, folder: Path) -> None:
    order = folder / "order"
    for name in ("first", "second"):
        script = f"trap 'echo {name} >> {order}; exit' TERM; touch {folder / name}; while :; do sleep 0.01; done"
        supervisor.start(Program(name, ("sh", "-c", script), ready=(folder / name).exists))
    supervisor.stop()
    assert order.read_text().split() == ["second", "first"]


def test_stop_kills_a_deaf_master_and_its_pool(supervisor: Supervisor, folder: Path) -> None:
    supervisor.start(crew(folder / "crew", "SIGTERM"))
    supervisor.stop()
    assert not any(map(alive, members(folder / "crew")))


def test_stop_kills_the_pool_an_obedient_master_leaves(supervisor: Supervisor, folder: Path) -> None:
    supervisor.start(crew(folder / "crew"))
    supervisor.stop()
    assert not any(map(alive, members(folder / "crew")))


def test_death_clears_the_pool_before_the_restart(supervisor: Supervisor, folder: Path, reports: list[str]) -> None:
    master = supervisor.start(crew(folder / "crew"))
    first = members(folder / "crew")
    os.kill(master, signal.SIGKILL)
    until(lambda: supervisor.poll() or reports)
    assert not any(map(alive, first))
    assert reports == ["crew died (SIGKILL); restarting it in 0.5 s"]
    until(lambda: supervisor.poll() or len(members(folder / "crew")) == 2 * len(first))
    assert reports[1] == f"crew restarted (pid {supervisor.pid('crew')})"


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo at work; echo no such module >&2; echo; exit 1", "no such module"), ("exit 1", "no word of why")],
)
def test_a_program_that_gives_up_is_quoted(
    supervisor: Supervisor, folder: Path, reports: list[str], script: str, words: str
) -> None:
    """So that whoever started the service sees the reason without looking for a log."""
    (folder / "log" / "worker.log").write_text("yesterday's words\n")
    supervisor.start(Program("worker", ("sh", "-c", script)))
    until(lambda: supervisor.poll() or reports)
    assert reports == [f"worker died (exit status 1: {words}); restarting it in 0.5 s"]


def test_pauses_double_up_to_a_limit(folder: Path, reports: list[str]) -> None:
    clock = Clock()
    with Supervisor(folder / "log", reports.append, clock) as supervisor:
        supervisor.start(FAIL)
        for death in range(9):
            until(lambda: supervisor.poll() or supervisor.pid("fail") is None)
            clock.now += 0.9 * min(0.5 * 2**death, LONGEST_PAUSE)
            supervisor.poll()
            assert supervisor.pid("fail") is None, "restarted before its time"
            clock.now += LONGEST_PAUSE
            supervisor.poll()
    pauses = [float(line.split()[-2]) for line in reports if "died" in line]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_healthy_minute_forgives(folder: Path, reports: list[str]) -> None:
    clock = Clock()
    with Supervisor(folder / "log", reports.append, clock) as supervisor:
        supervisor.start(SLEEP)
        for lifetime in (1.0, 1.0, HEALTHY_SECONDS):
            clock.now += lifetime
            os.kill(supervisor.pid("sleep") or 0, signal.SIGKILL)
            until(lambda: supervisor.poll() or supervisor.pid("sleep") is None)
            clock.now += LONGEST_PAUSE
            supervisor.poll()
    assert [line.split()[-2] for line in reports if "died" in line] == ["0.5", "1", "0.5"]


def test_a_program_that_ends_too_early_shows_its_last_words(supervisor: Supervisor, folder: Path) -> None:
    (folder / "log" / "python.log").write_text("yesterday's words\n")
    with pytest.raises(StartFailed) as caught:
        supervisor.start(python("print('out of cheese'); raise SystemExit(3)", ready=lambda: False))
    assert "python ended before it was ready (exit status 3)" in str(caught.value)
    assert "out of cheese" in str(caught.value)
    assert "yesterday" not in str(caught.value)


def test_a_program_that_is_never_ready_is_cleared_away(supervisor: Supervisor, folder: Path) -> None:
    slow = crew(folder / "crew", "SIGTERM")
    never = Program(slow.name, slow.argv, ready=lambda: False, ready_seconds=0.5, stop_seconds=0.1)
    with pytest.raises(StartFailed, match=r"crew was not ready within 0\.5 s"):
        supervisor.start(never)
    assert not any(map(alive, members(folder / "crew")))


def test_a_missing_program_is_named(supervisor: Supervisor) -> None:
    with pytest.raises(StartFailed, match="cannot run no-such-program as same: No such file"):
        supervisor.start(Program("x", ("no-such-program",), ready=lambda: False))


def test_environment_is_added(supervisor: Supervisor, folder: Path) -> None:
    script = f'test -n "$PATH" && touch {folder}/$WORD && exec sleep 1000'
    supervisor.start(Program("sh", ("sh", "-c", script), env={"WORD": "here"}, ready=(folder / "here").exists))


def test_a_large_log_is_set_aside(supervisor: Supervisor, folder: Path) -> None:
    log = folder / "log" / "sleep.log"
    with log.open("wb") as file:
        file.truncate(LOG_LIMIT + 1)
    supervisor.start(SLEEP)
    assert log.stat().st_size == 0
    assert log.with_suffix(".log.1").stat().st_size == LOG_LIMIT + 1


def test_watch_returns_on_request_and_gives_signals_back(supervisor: Supervisor, reports: list[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    supervisor._report = lambda line: (reports.append(line), supervisor.request_stop())[0]
    supervisor.start(FAIL)
    supervisor.watch()
    assert len(reports) == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_owner_asked_to_end_leaves_nothing(own: Callable[..., Owner], folder: Path, number: signal.Signals) -> None:
    owner = own(folder, "crew")
    owner.await_ready()
    everyone = [*owner.family, *members(folder / "crew")]
    assert owner.end(number) == 0
    assert not any(map(alive, everyone))


def test_a_killed_owner_takes_the_pool_with_it(own: Callable[..., Owner], folder: Path) -> None:
    owner = own(folder, "crew")
    owner.await_ready()
    everyone = [*owner.family, *members(folder / "crew")]
    owner.end(signal.SIGKILL)
    until(lambda: not any(map(alive, everyone)))


@pytest.mark.parametrize("identity", [SAME, NAMESPACE, f"{NOBODY}:{NOBODY}"])
def test_death_follows_the_owner_under_any_identity(own: Callable[..., Owner], folder: Path, identity: str) -> None:
    if identity != SAME and os.geteuid() != 0:
        pytest.skip("only root becomes someone else")
    owner = own(folder, "sleep", identity)
    owner.await_ready()
    family = owner.family
    until(lambda: any(map(is_janitor, family)))
    janitor = next(filter(is_janitor, family))
    os.kill(janitor, signal.SIGKILL)  # so that the kernel's signal is all there is
    until(lambda: not alive(janitor))
    sleeper = next(pid for pid in family if pid != janitor)
    until(lambda: "sleep" in Path(f"/proc/{sleeper}/comm").read_text() or not alive(sleeper))
    assert alive(sleeper), (folder / "log" / "sleep.log").read_text()
    owner.end(signal.SIGKILL)
    until(lambda: not alive(sleeper))


def test_a_killed_janitor_is_replaced_and_told_everything(supervisor: Supervisor, folder: Path) -> None:
    supervisor.start(SLEEP)
    assert supervisor._janitor._process is not None
    first = supervisor._janitor._process.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: not alive(first))
    master = supervisor.start(crew(folder / "crew"))
    supervisor._janitor._process.stdin.close()  # as the owner's death would
    until(lambda: not alive(supervisor._janitor._process.pid))
    assert not alive(master)
    assert not any(map(alive, members(folder / "crew")))
