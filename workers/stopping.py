"""Whether this worker has been told to stop, and how a run hears of it.

A run may take hours, and whoever stops a worker waits for seconds. So a run looks here between its steps and gives its
batch back, and its heartbeat does so for a run that comes to no next step in time: see `pulse.Pulse`.

Celery's own way stays as it is: on SIGTERM the parent takes no more messages, waits for the task, acknowledges it, ends. Its
soft shutdown (`REMAP_SIGTERM`, `worker_soft_shutdown_timeout`) would raise in the child wherever it is, also in the midst of
a commit.
"""

import mmap
import os
import signal
import threading
from types import FrameType

told = mmap.mmap(-1, 1)
"""One byte that the parent and every child it forks share. The parent writes it, a child only reads it."""

here = threading.Event()
"""Set in a child that got the signal itself, as from whoever stops all processes of a unit or a group."""

pulses = 0
"""Runs under way in this process."""


class Stopping(Exception):
    """The worker was told to stop, and what it was doing is to be given back."""


def tell() -> None:
    """Tell this process and every child, those to come included. Safe in a signal handler."""
    told[0] = 1


def asked() -> bool:
    return told[0] == 1 or here.is_set()


def listen() -> None:
    """In a child: let SIGTERM stop the run that is under way, and end the child at once where none is."""
    signal.signal(signal.SIGTERM, on_signal)


def on_signal(number: int, _frame: FrameType | None) -> None:
    here.set()
    if pulses == 0:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
