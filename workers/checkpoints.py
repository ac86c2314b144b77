"""A training's snapshots as files: written whole or not at all, named by their digest, refused for any other training.

A snapshot is of one set of samples. Whoever goes on from it says what it is to train on, and a snapshot that was made for
another problem, another recipe or other samples, one tombstone more or less, is not taken.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from unlearning.snapshots import Snapshot
from workers.artifacts import digest_of

SUFFIX, HALF = ".snapshot", ".half"


class Checkpoints:
    """The snapshots of one training in one folder. `made_for` names the training."""

    def __init__(self, folder: Path, made_for: str, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.made_for, self.every, self.clock = folder, made_for, every, clock
        self.last = clock()

    def latest(self) -> Snapshot | None:
        """The newest that is whole and was made for this training."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}"), reverse=True):
            found = read(path, self.made_for)
            if found is not None:
                return found
        return None

    def due(self) -> bool:
        now = self.clock()
        if now - self.last < self.every:
            return False
        self.last = now
        return True

    def keep(self, snapshot: Snapshot) -> None:
        """Write it beside the others, durably, then drop those before it, and what a kill has left half written."""
        earlier = [*self.folder.glob(f"*{SUFFIX}"), *self.folder.glob(f"*{HALF}")]
        head = {"made_for": self.made_for, "facts": json.dumps(snapshot.facts)}
        tensors = {name: value.contiguous() for name, value in snapshot.tensors.items()}
        data = bytes(save(tensors, metadata=head))
        at = snapshot.facts["at"]
        path = self.folder / f"{at['epoch']:06d}-{at['step']:09d}-{digest_of(data)}{SUFFIX}"
        unfinished = path.with_suffix(HALF)
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        for old in earlier:
            if old != path:
                old.unlink(missing_ok=True)


def read(path: Path, made_for: str) -> Snapshot | None:
    """A snapshot; None where its bytes are not those it was named by, or it was made for another training."""
    try:
        if digest_of(path.read_bytes()) != path.stem.rpartition("-")[2]:
            return None
        with safe_open(path, "pt") as file:
            head = file.metadata()
            if head.get("made_for") != made_for:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dictionary
        return Snapshot(tensors, json.loads(head["facts"]))
    except OSError:
        return None
