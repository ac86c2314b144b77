"""One program as a child process: how it is described, started, asked to end, and cleared away."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedded import processes
from embedded.launch import SAME, command

LOG_LIMIT = 10 * 2**20
_TAIL_LINES = 20
_TAIL_BYTES = 16 * 1024
_WORDS = 200


@dataclass(frozen=True)
class Program:
    """What to run and how to end it.

    `stop_signal` asks for an orderly end; after `stop_seconds` the whole process group is killed. `death_signal` is
    what the program gets when its owner dies without a word; a program whose orderly end takes long (a Celery master
    finishing its task) should get SIGQUIT or SIGKILL there. Whatever it forked dies with it, by the janitor's hand.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    ready_seconds: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    death_signal: signal.Signals = signal.SIGTERM
    identity: str = SAME


class Child:
    """A started program, leader of its own session, so that a Ctrl-C at the terminal reaches only the supervisor."""

    def __init__(self, program: Program, log_dir: Path) -> None:
        self._program = program
        self._log = log_dir / f"{program.name}.log"
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command(program.argv, program.death_signal, program.identity),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | program.env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exited(self) -> bool:
        """Whether the program has ended. Leaves its zombie in place: it keeps the group's number ours."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def stop(self) -> None:
        """Ask, wait, kill. Afterwards neither the program nor anything in its group is left."""
        if not self.exited():
            os.kill(self.pid, self._program.stop_signal)
            processes.wait_for(self.exited, self._program.stop_seconds)
        self.clear()

    def clear(self) -> str:
        """Kill what is left of the group, collect the program, and say how it ended."""
        processes.kill_group(self.pid)
        code = self._process.wait()
        processes.wait_for(lambda: not processes.group(self.pid), 5.0)
        return f"exit status {code}" if code >= 0 else signal.Signals(-code).name

    def log_tail(self) -> str:
        """The last lines written since this start."""
        return "\n".join(f"  {line}" for line in self._lines()[-_TAIL_LINES:]) or f"  (nothing in {self._log})"

    def last_words(self) -> str:
        """The last line written since this start: of a program that gave up, mostly the reason."""
        return next((line.strip()[:_WORDS] for line in reversed(self._lines()) if line.strip()), "no word of why")

    def _lines(self) -> list[str]:
        with self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()
