"""The janitor: a small process that outlives a `kill -9` of the supervisor and clears up after it.

A parent-death signal reaches a direct child only. A pool worker forked by that child gets none, and when its master is
killed outright it may compute on for hours. The janitor knows every process group; when the pipe to the supervisor
closes, for whatever reason, it gives each group's leader its grace and then kills what is left of the group.
"""

import contextlib
import signal
import subprocess
import sys
import time

from embedded.launch import interpreter
from embedded.processes import alive, group, kill_group

_PATIENCE = 30.0  # for processes the kernel will not let die; after that nothing here can help


class Janitor:
    """The supervisor's end of the pipe. A janitor that was killed is replaced at the next word."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: dict[int, float] = {}

    def add(self, leader: int, grace: float) -> None:
        """From now on this group must not outlive us by more than `grace` seconds."""
        self._groups[leader] = grace
        self._tell(leader)

    def remove(self, leader: int) -> None:
        """The group is gone; its number may soon be a stranger's."""
        if self._groups.pop(leader, None) is not None:
            self._tell(leader)

    def close(self) -> None:
        """Let the janitor go home, once no group is left to watch."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
        self._process = None

    def _tell(self, leader: int) -> None:
        news = [leader]
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                interpreter("janitor"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # it must not hold open a pipe that someone reads our words from
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
            news = list(self._groups)
        assert self._process.stdin is not None
        lines = "".join(f"{pid} {self._groups.get(pid, -1)}\n" for pid in news)
        with contextlib.suppress(BrokenPipeError):  # killed this instant; the next word finds out
            self._process.stdin.write(lines.encode())


def main() -> None:
    """Note groups until the pipe closes, then clear them. Deaf to signals meant for the service as a whole."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, float] = {}
    for line in sys.stdin:
        leader, grace = line.split()
        groups.pop(int(leader), None)
        if float(grace) >= 0:
            groups[int(leader)] = float(grace)
    clear(groups)


def clear(groups: dict[int, float]) -> None:
    """Kill each group as soon as its leader has ended, or when its grace is over."""
    began = time.monotonic()
    while groups:
        waited = time.monotonic() - began
        for leader, grace in list(groups.items()):
            if waited < grace and alive(leader):
                continue
            if not group(leader) or waited > grace + _PATIENCE:
                del groups[leader]
            else:
                kill_group(leader)
        time.sleep(0.02)
