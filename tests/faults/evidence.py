"""What trainings really read, noted by the processes themselves for whoever checks afterwards.

A training begins with a look at the tombstones. Every ticket that was answered before that look must be left out of all
that the training then reads. Notes are lines of JSON in `trainings.jsonl` of the control folder.
"""

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

TARGETS = ("app.lineage:tombstoned", "unlearning.training:train")
_number = count(1)
_now = threading.local()


def wrapped(target: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return looking(function) if target == TARGETS[0] else training(function)


def looking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Note when and for which dataset this thread last looked at the tombstones."""

    @functools.wraps(function)
    def tombstoned(session: Any, dataset_id: int) -> Any:
        _now.look = (dataset_id, time.time())
        return function(session, dataset_id)

    return tombstoned


def training(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give each training a name while it lasts; one may run in the midst of another."""

    @functools.wraps(function)
    def train(*arguments: Any, **named: Any) -> Any:
        dataset, looked = getattr(_now, "look", (None, None))
        stack = _now.__dict__.setdefault("stack", [])
        stack.append(
            {"training": f"{os.getpid()}-{next(_number)}", "dataset": dataset, "looked": looked, "seen": set()}
        )
        try:
            return function(*arguments, **named)
        finally:
            stack.pop()

    return train


def read(ordinals: Iterable[int]) -> None:
    """Called by a test's problem for each batch of training samples that somebody reads."""
    stack = _now.__dict__.get("stack")
    if not stack or not os.environ.get("EXPUNGE_FAULTS") or not by_the_training_itself():
        return
    now = stack[-1]
    new = sorted(set(ordinals) - now["seen"])
    if not new:
        return
    now["seen"].update(new)
    line = json.dumps({key: now[key] for key in ("training", "dataset", "looked")} | {"ordinals": new}) + "\n"
    with Path(os.environ["EXPUNGE_FAULTS"], "trainings.jsonl").open("ab", buffering=0) as file:
        file.write(line.encode())  # one write of its own: processes share the file


def by_the_training_itself() -> bool:
    """Whether it is the training loop that reads. An update reads what it is to forget, and it may be served in the midst
    of a training: then a frame of the workers' comes before one of the loop's."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent.name == "workers":
            return False
        if path.name == "training.py" and path.parent.name == "unlearning":
            return True
        frame = frame.f_back  # type: ignore[assignment] # None at the outermost
    return False
