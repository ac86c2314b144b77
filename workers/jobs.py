"""What a worker asks of the processes that it starts, and what they answer: files in one folder, no pickle among them.

`job.json` says what; `ordinals.safetensors` on which samples; `weights.safetensors` at which weights, for a gradient sum.
The first process writes `progress.json`, and `result.safetensors` at the end; whichever cannot go on writes `error.json`.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from unlearning import bank
from unlearning.problem import Indices, Problem
from workers.problems import load_for, releases

JOB, ORDINALS, WEIGHTS = "job.json", "ordinals.safetensors", "weights.safetensors"
PROGRESS, RESULT, ERROR = "progress.json", "result.safetensors", "error.json"


@dataclass(frozen=True)
class Job:
    """One training, or one gradient sum, by `processes` processes of one host with `threads` threads each."""

    what: Literal["train", "gradient-sum"]
    problem: str
    manifest_digest: str
    reference: int | None
    processes: int
    threads: int
    device: Literal["cpu", "cuda"]
    checkpoint_seconds: float

    def load_problem(self) -> Problem:
        """The problem, or that of one of its references. Raises `Refused`."""
        problem = load_for(self.problem, self.manifest_digest)
        return problem if self.reference is None else bank.reseeded(problem, self.reference)

    def made_for(self, problem: Problem, ordinals: Indices) -> str:
        """The name of this training: what its weights depend on, in one digest. The code too, by its releases and the shapes
        of its network: an operator may have mended the problem between two attempts."""
        facts = asdict(self) | {"recipe": asdict(problem.recipe), "torch": torch.__version__}
        facts |= {"releases": releases(self.problem), "shapes": shapes(problem)}
        del facts["checkpoint_seconds"]
        told = json.dumps(facts, sort_keys=True).encode() + np.asarray(ordinals, dtype="<i8").tobytes()
        return hashlib.sha256(told).hexdigest()


def shapes(problem: Problem) -> list[str]:
    """Names, shapes and types of what its network keeps."""
    with torch.random.fork_rng(devices=[]):
        state = problem.build_model().state_dict()
    return [f"{name} {tuple(value.shape)} {value.dtype}" for name, value in state.items()]


def ask(folder: Path, job: Job, ordinals: Indices, weights: dict[str, Tensor] | None = None) -> None:
    """Write down what is wanted, in a new folder that is the owner's alone."""
    folder.mkdir(parents=True, mode=0o700)
    write_json(folder / JOB, asdict(job))
    write_tensors(folder / ORDINALS, {"ordinals": torch.from_numpy(np.asarray(ordinals, dtype=np.int64))})
    if weights is not None:
        write_tensors(folder / WEIGHTS, weights)


def asked(folder: Path) -> tuple[Job, Indices]:
    """What is wanted, and on which samples."""
    job = Job(**json.loads((folder / JOB).read_bytes()))
    ordinals: Indices = read_tensors(folder / ORDINALS)["ordinals"].numpy()
    return job, ordinals


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Whole or not at all."""
    whole(path, bytes(save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})))


def read_tensors(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load(path.read_bytes())
    return found


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    whole(path, json.dumps(value).encode())


def read_json(path: Path) -> Any:
    """None where it is not there."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def whole(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)
