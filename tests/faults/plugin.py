"""The part that runs inside the service's processes: it wraps the labelled functions as their modules are imported.

Nothing fires until a test puts a file into the control folder, which is looked at whenever a label is reached; so a fault
is armed while processes run. The file's name says all: `<label>,<action>,<once|always>,<number>`. One that fires `once` is
renamed into the folder `fired`, by exactly one process, with that process's pid at the end.
"""

import errno
import faulthandler
import functools
import importlib
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.faults import bugs, evidence
from tests.faults.labels import LABELS, Label, Moment, Role

Function = Callable[..., Any]


class Action(StrEnum):
    """What happens at a label. `hang` lasts until its file is taken away."""

    KILL = "kill"
    STOP = "stop"
    RAISE = "raise"
    HANG = "hang"
    MEMORY = "memory"
    FULL = "full"
    FAIL = "fail"
    EXIT = "exit"
    TWICE = "twice"


LEVERS = {
    "store.put": "app.store:put",
    "message.send": "celery.app.base:Celery.send_task",
}
"""Functions that can be made to fail, or to happen twice, in whichever process calls them. They are no labels."""


def folder() -> Path:
    return Path(os.environ["EXPUNGE_FAULTS"])


DUMP = signal.SIGRTMIN + 1
"""Makes a process write what all its threads are doing to its log. Celery has uses of its own for SIGUSR1."""


def install() -> None:
    """Dress each module that a label, a lever, a bug or the evidence is about, right after it has run."""
    faulthandler.register(DUMP, all_threads=True)
    wanted = {label.module for label in LABELS} | {target.partition(":")[0] for target in LEVERS.values()}
    wanted |= {target.partition(":")[0] for target in (*bugs.TARGETS, *evidence.TARGETS)}
    sys.meta_path.insert(0, Finder(frozenset(wanted)))


class Finder(importlib.abc.MetaPathFinder):
    """Finds as the others do, and has the wanted modules dressed before anybody can import a name from them."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.wanted:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((s for finder in others if (s := finder.find_spec(fullname, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                dress(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] # this loader serves this one module
        return spec


def dress(module: ModuleType) -> None:
    """Put everything around the module's functions: the evidence innermost, then a bug, then what may go wrong."""
    for targets, wrapper in ((evidence.TARGETS, evidence.wrapped), (bugs.TARGETS, bugs.wrapped)):
        for target in targets:
            replace(module, target, functools.partial(wrapper, target))
    for target in {label.target for label in LABELS} | set(LEVERS.values()):
        labels = [label for label in LABELS if label.target == target]
        levers = [name for name, lever in LEVERS.items() if lever == target]
        replace(module, target, functools.partial(wrapped, labels, levers))


def replace(module: ModuleType, target: str, wrapper: Callable[[Function], Function]) -> None:
    name, _, attribute = target.partition(":")
    if name != module.__name__:
        return
    owner: Any = module
    *path, last = attribute.split(".")
    for step in path:
        owner = getattr(owner, step)
    setattr(owner, last, wrapper(getattr(owner, last)))


def wrapped(labels: list[Label], levers: list[str], function: Function) -> Function:
    at = {moment: [label for label in labels if label.moment is moment] for moment in Moment}

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        again = any(fire(lever) for lever in levers)
        for label in at[Moment.BEFORE]:
            reached(label)
        result = function(*arguments, **named)
        if again:
            result = function(*arguments, **named)
        for label in at[Moment.AFTER]:
            if not label.yields or result:  # in this order: an array has no truth
                reached(label)
        for label in at[Moment.COMMITTED]:
            if not label.yields or result:
                on_commit(arguments, label)
        return result

    return call


def on_commit(arguments: tuple[Any, ...], label: Label) -> None:
    """Wait for the commit of the transaction that the function was given."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    session = next(each for each in arguments if isinstance(each, Session))
    event.listen(session, "after_commit", lambda _: reached(label), once=True)


def reached(label: Label) -> None:
    if label.role is role():
        fire(label.name)


@functools.cache
def role() -> Role | None:
    """Which of the service's programs this process is, by its command line."""
    words = Path("/proc/self/cmdline").read_bytes().decode().split("\0")
    if "uvicorn" in words or any(word.endswith("/uvicorn") for word in words):
        return Role.API
    return Role.WORKER if "worker" in words else Role.BEAT if "beat" in words else None


def fire(name: str) -> bool:
    """Do what is armed for this name, if anything is. Returns whether the call is to be made twice."""
    again = False
    for file in sorted(each.name for each in (folder() / "armed").iterdir()):
        armed, _, rest = file.partition(",")
        if armed != name:
            continue
        action, times, _ = rest.split(",")
        if not taken(file, times):
            continue
        again = again or action == Action.TWICE
        act(Action(action), folder() / "armed" / file)
    return again


def taken(file: str, times: str) -> bool:
    """Whether it is this process that fires; of several that meet a fault for one, one does."""
    fired = folder() / "fired" / f"{file},{os.getpid()}"
    if times == "always":
        fired.touch()
        return True
    try:
        (folder() / "armed" / file).rename(fired)
    except FileNotFoundError:
        return False
    return True


def act(action: Action, armed: Path) -> None:
    match action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()  # the signal is on its way
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.RAISE:
            raise RuntimeError("planted by a test")
        case Action.MEMORY:
            raise MemoryError
        case Action.FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case Action.FAIL:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        case Action.EXIT:
            raise SystemExit(1)
        case Action.HANG:
            while armed.exists():
                time.sleep(0.02)
        case Action.TWICE:
            pass  # the caller's business
