"""Looking at processes through /proc: who is alive, who belongs to a group, who works in a folder.

Only the standard library, because the janitor imports this in a bare interpreter.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROC = Path("/proc")


def wait_for(condition: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Poll until the condition holds or the time is over; says whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not, it only waits for its parent."""
    return _living(pid) is not None


def group(leader: int) -> list[int]:
    """The living members of the process group that `leader` founded, the leader included."""
    return [pid for pid in _pids() if _living(pid) == leader]


def kill_group(leader: int) -> None:
    """SIGKILL to every member. Safe after the leader's death only while its zombie still holds the number."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def tenants(folder: Path, names: frozenset[str]) -> list[int]:
    """Living processes of one of these names whose working folder is `folder`.

    Both Postgres and Redis change into their data folder, and so does every Postgres backend. That makes this a better
    witness than a pid file, whose number may belong to a stranger after a crash or a reboot.
    """
    wanted = folder.resolve()
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):  # it ended meanwhile, or it is another user's
            name = (PROC / str(pid) / "comm").read_text().strip()
            if name in names and (PROC / str(pid) / "cwd").readlink() == wanted and alive(pid):
                found.append(pid)
    return found


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir(PROC) if entry.isdigit())  # noqa: PTH208  (names only; paths cost twice)


def _living(pid: int) -> int | None:
    """The process's group, or None when it is gone or a zombie. The name in the middle may hold spaces and brackets."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, _parent, group_id = text.rpartition(")")[2].split()[:3]
    return None if state in "ZX" else int(group_id)
