"""Whether this worker has been told to stop, and how a run hears of it.

A run may take hours, and whoever stops a worker waits for seconds. So a run looks here between its steps and gives its
batch back, and its heartbeat does so for a run that comes to no next step in time: see `pulse.Pulse`.

Celery's own way stays as it is: on SIGTERM the parent takes no more messages, waits for the task, acknowledges it, ends. Its
soft shutdown (`REMAP_SIGTERM`, `worker_soft_shutdown_timeout`) would raise in the child wherever it is, also in the midst of
a commit.
"""

import mmap
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

told = mmap.mmap(-1, 1)
"""One byte that the parent and every child it forks share. The parent writes it, a child only reads it."""

here = threading.Event()
"""Set while a run ends in a child that got the signal itself, as from whoever stops all processes of a unit or a group."""

forked = threading.Event()
"""Set in a child. In the parent, and where there is only one process, SIGTERM is Celery's."""


class Stopping(Exception):
    """The worker was told to stop, and what it was doing is to be given back."""


def tell() -> None:
    """Tell this process and every child, those to come included. Safe in a signal handler."""
    told[0] = 1


def asked() -> bool:
    return told[0] == 1 or here.is_set()


@contextmanager
def listening() -> Iterator[None]:
    """Inside, SIGTERM to a child stops the run that is under way. Outside, it ends the child at once, as Celery has it."""
    outermost = signal.getsignal(signal.SIGTERM) is not on_signal
    if not (forked.is_set() and outermost and threading.current_thread() is threading.main_thread()):
        yield
        return
    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        here.clear()


def on_signal(_number: int, _frame: FrameType | None) -> None:
    here.set()
