"""The harness's end of the control folder that `tests.faults.plugin` looks at inside the processes."""

import json
import os
import signal
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.faults.plugin import Action


@dataclass
class Control:
    """Arms faults, plants bugs, tells the problem to misbehave, and takes all of it back."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("armed", "fired", "bugs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._number = count(1)

    def arm(self, point: str, action: Action, *, always: bool = False) -> str:
        """Let the action happen at a label or lever: once, or until `heal`. Returns the fault's name."""
        name = f"{point},{action},{'always' if always else 'once'},{next(self._number):06d}"
        (self.folder / "armed" / name).touch()
        return name

    def fired(self, name: str) -> list[int]:
        """Pids of the processes that a fault has met."""
        files = [file.name for file in (self.folder / "fired").iterdir()]
        return [int(file.rpartition(",")[2]) for file in files if file.startswith(name + ",")]

    def plant(self, bug: str) -> None:
        (self.folder / "bugs" / bug).touch()

    def misbehave(self, what: str, ordinals: list[int] | None = None) -> None:
        """From here on the problem raises, hangs or runs out of memory at these samples; at all where none is named."""
        half = self.folder / "problem.new"
        half.write_text(json.dumps({"what": what, "ordinals": ordinals}))
        half.rename(self.folder / "problem.json")

    def heal(self) -> None:
        """Disarm everything and let go on what was stopped at a label."""
        for name in ("armed", "bugs"):
            for file in (self.folder / name).iterdir():
                file.unlink(missing_ok=True)
        (self.folder / "problem.json").unlink(missing_ok=True)
        for file in (self.folder / "fired").iterdir():
            if f",{Action.STOP}," in file.name:
                proceed(int(file.name.rpartition(",")[2]))

    def forget(self) -> None:
        """Drop what has fired: the pids may soon be others'."""
        for file in (self.folder / "fired").iterdir():
            file.unlink(missing_ok=True)


def proceed(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return
