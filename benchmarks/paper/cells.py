"""Finished pieces of an experiment on disk, so that a run that was stopped goes on where it was.

A cell's name is made of what it depends on: the digest of the engine's code and of the case's settings is its folder. It
is written under another name first and then renamed: half a cell is never read.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
PIECES = ("attack", "case", "forget")
ENGINE = ("unlearning", "benchmarks/problems.py", *(f"benchmarks/paper/{name}.py" for name in PIECES))


def engine_digest() -> str:
    """SHA-256 over the code that a cell depends on."""
    seen = hashlib.sha256()
    for name in ENGINE:
        path = ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            seen.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return seen.hexdigest()


def digest_of(settings: dict[str, Any]) -> str:
    """SHA-256 of settings that JSON can hold, in one order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cells:
    """The cells of one case. `done` is called after each, once, whether it was made or found."""

    folder: Path
    done: Callable[[str], None] = print
    told: set[str] = field(default_factory=set, compare=False)

    def table(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` gave, now or earlier, as JSON."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            made = json.dumps(make(), sort_keys=True)
            self._put(path, lambda part: part.write_text(made))
        self._tell(name)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def tensors(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` gave, now or earlier: numbers, text and tensors in lists and dictionaries."""
        path = self.folder / f"{name}.pt"
        if not path.exists():
            made = make()
            self._put(path, lambda part: torch.save(made, part))
        self._tell(name)
        found: dict[str, Any] = torch.load(path, weights_only=True)
        return found

    def _tell(self, name: str) -> None:
        if name not in self.told:
            self.told.add(name)
            self.done(name)

    def _put(self, path: Path, write: Callable[[Path], object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".part-{os.getpid()}")
        write(part)
        part.replace(path)
