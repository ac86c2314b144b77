"""Trainings and gradient sums by several processes of this host, where a model's policy asks for them.

The worker keeps the lease and starts torchrun; the processes read what they are to do from a folder and answer there. One
that is lost is started again with its neighbours, from the last checkpoint. A lost lease kills them all, and so does the
worker's death.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog
import torch
from torch import nn

from app.config import settings
from app.policy import Compute
from app.references import ReferenceLease
from app.runs import Lease
from unlearning.gradients import GradientSum, gradient_sum
from unlearning.parallel import indivisible
from unlearning.problem import Indices, Problem
from unlearning.splits import TuningData
from unlearning.training import Epoch, Observer, Progress, TrainedModel, state_of, train
from workers import jobs
from workers.checkpoints import SUFFIX
from workers.cores import cores
from workers.jobs import Job
from workers.problems import Refused
from workers.rank import HISTORY

log = structlog.get_logger()

LOOK_SECONDS = 0.2
END_SECONDS = 5.0


class Failed(Exception):
    """The processes could not do it. The message says why, without anybody's id; `again` whether another attempt may help."""

    def __init__(self, detail: str, *, again: bool) -> None:
        super().__init__(detail)
        self.again = again


@dataclass(frozen=True)
class Layout:
    """How many processes of this host take part, and the threads of each; None leaves those of this process."""

    processes: int
    threads: int | None

    def told(self) -> dict[str, Any]:
        """For the version's environment."""
        return {"processes": self.processes} | ({"threads_per_process": self.threads} if self.processes > 1 else {})


ONE = Layout(1, None)


def layout(compute: Compute, samples: int, device: torch.device, *, observed: bool = False) -> Layout:
    """What the policy comes to on this host, for so many samples. Raises `Refused` where the host has too few devices."""
    if samples < compute.min_samples or observed or compute.processes == 1:
        return ONE
    cuda = device.type == "cuda"
    room = torch.cuda.device_count() if cuda else cores() // (compute.threads_per_process or 1)
    processes = room if compute.processes == "auto" else compute.processes
    if processes <= 1:
        return ONE
    if cuda and processes > room:
        raise Refused(
            f"The policy trains by {processes} processes, and this worker sees {room} CUDA devices. Give it as many, or"
            " lower compute.processes."
        )
    shared = max(1, torch.get_num_threads() // processes) if cuda else 1
    return Layout(processes, compute.threads_per_process or shared)


class Guest(Protocol):
    """Who does other work in a training's progress callback, and wants the processes stopped meanwhile."""

    paused: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Asker:
    """Whose work it is: a lease, and where it stands."""

    lease: Lease | ReferenceLease
    compute: Compute
    device: torch.device
    progress: Progress
    guest: Guest | None = None

    @property
    def reference(self) -> int | None:
        return self.lease.number if isinstance(self.lease, ReferenceLease) else None

    @property
    def home(self) -> Path:
        """The folder of all attempts at this work on this host."""
        lease = self.lease
        name = (
            f"reference-{lease.bank_id}-{lease.number}"
            if isinstance(lease, ReferenceLease)
            else f"batch-{lease.batch_id}"
        )
        return settings().home / "checkpoints" / name

    def job(self, what: Any, chosen: Layout) -> Job:
        return Job(
            what=what,
            problem=self.lease.problem,
            manifest_digest=self.lease.manifest_digest,
            reference=self.reference,
            processes=chosen.processes,
            threads=chosen.threads or 1,
            device="cuda" if self.device.type == "cuda" else "cpu",
            checkpoint_seconds=self.compute.checkpoint_seconds,
        )


def trained(
    asker: Asker, problem: Problem, ordinals: Indices, tuning: TuningData, observer: Observer | None = None
) -> tuple[TrainedModel, Layout]:
    """Train in this process or by several, as the policy says; returns how as well.

    Goes on from the checkpoint of an earlier attempt on this host where that was at this very training. The checkpoints
    stay until `discard`: what follows a training may fail as well.
    """
    chosen = layout(asker.compute, len(ordinals), asker.device, observed=observer is not None)
    if chosen.processes > 1:
        chosen = divided(chosen, asker.compute, problem)
    if chosen.processes == 1:
        alone = train(problem, ordinals, tuning, progress=asker.progress, device=asker.device, observer=observer)
        return alone, chosen
    folder = asker.home / f"train-{asker.lease.epoch:06d}"
    shutil.rmtree(folder, ignore_errors=True)
    jobs.ask(folder, asker.job("train", chosen), ordinals)
    inherit(folder)
    launch(folder, asker)
    history = [Epoch(**epoch) for epoch in jobs.read_json(folder / HISTORY)]
    return TrainedModel(jobs.read_tensors(folder / jobs.RESULT), history), chosen


def divided(chosen: Layout, compute: Compute, problem: Problem) -> Layout:
    """`chosen`, or one process where several cannot train the problem and the policy leaves their number open. Raises
    `Refused` where it does not."""
    with torch.random.fork_rng(devices=[]):
        why = indivisible(problem.recipe, problem.build_model())
    if why is None:
        return chosen
    if compute.processes == "auto":
        return ONE
    raise Refused(f"The policy trains by {compute.processes} processes, but {why}.")


def summed(asker: Asker, model: nn.Module, problem: Problem, ordinals: Indices) -> GradientSum:
    """G over the named training samples at the model's weights, in this process or by several, as the policy says."""
    chosen = layout(asker.compute, len(ordinals), asker.device)
    if chosen.processes == 1:
        return gradient_sum(model, problem, problem.train, ordinals)
    folder = asker.home / f"sum-{asker.lease.epoch:06d}"
    shutil.rmtree(folder, ignore_errors=True)
    jobs.ask(folder, asker.job("gradient-sum", chosen), ordinals, state_of(model))
    try:
        launch(folder, asker)
        vector = {name: value.to(asker.device) for name, value in jobs.read_tensors(folder / jobs.RESULT).items()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # where a checkpoint is beside it
            asker.home.rmdir()
    return GradientSum(vector, len(ordinals))


def inherit(folder: Path) -> None:
    """Take over the newest snapshots of earlier attempts; whether they fit is for the processes to say. What else those
    have left goes: a run that lost its lease is writing for nobody."""
    for earlier in sorted(folder.parent.glob("train-*")):
        if earlier == folder:
            continue
        for snapshot in earlier.glob(f"*{SUFFIX}"):
            snapshot.replace(folder / snapshot.name)
        shutil.rmtree(earlier, ignore_errors=True)


def discard(asker: Asker) -> None:
    """Delete what the attempts at this work have left: it is done."""
    shutil.rmtree(asker.home, ignore_errors=True)


def sweep(mine: Path) -> None:
    """Delete what other work has left here for longer than a run may take: snapshots hold what may since be forgotten.
    Called with every piece of work, whoever does it, for the next training by several may be long in coming."""
    horizon = time.time() - settings().task_seconds
    with suppress(OSError):  # there is no such folder, or none that may be read: nothing rests on it
        for other in mine.parent.iterdir():
            if other != mine and newest(other) < horizon:
                shutil.rmtree(other, ignore_errors=True)


def newest(folder: Path) -> float:
    """When something in it was last written; other workers of this host may be at work there, and files come and go."""
    found = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            found = max(found, path.stat().st_mtime)
    return found


def command(folder: Path, job: Job, restarts: int) -> list[str]:
    """torchrun on this host alone: its processes meet by a file, and nothing of theirs listens to other hosts."""
    return [
        *(sys.executable, "-m", "workers.launch", str(os.getpid())),
        *("--nnodes", "1", "--nproc-per-node", str(job.processes), "--max-restarts", str(restarts)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", str(folder / "rendezvous"), "--rdzv-conf", "store_type=file"),
        *("--rdzv-id", "expunge", "--local-addr", "127.0.0.1", "--monitor-interval", "0.2"),
        *("-m", "workers.rank", str(folder)),
    ]


def launch(folder: Path, asker: Asker) -> None:
    """Start the processes and wait for their answer, the lease in hand. Raises `Failed`, `StaleEpoch`, or what the progress
    callback raises, and then none of them is left."""
    job, _ = jobs.asked(folder)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(job.threads),
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else torchrun opens a port of its own on every address
    }
    process = subprocess.Popen(
        command(folder, job, asker.compute.restarts), stdin=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    if asker.guest is not None:
        asker.guest.paused = partial(paused, process.pid)
    try:
        # An error ends it at once: the neighbours of who wrote it down may be waiting for a process that has gone.
        while process.poll() is None and not (folder / jobs.ERROR).exists():
            shown = jobs.read_json(folder / jobs.PROGRESS) or {
                "fraction": 0.0,
                "text": f"starting {job.processes} processes",
            }
            asker.progress(shown["fraction"], shown["text"])
            try:
                process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    finally:
        end(process)
    said = jobs.read_json(folder / jobs.ERROR)
    if said is not None:
        raise Failed(said["detail"], again=said["again"])
    if process.returncode != 0 or not (folder / jobs.RESULT).exists():
        asker.progress(0.0, "the processes have ended")  # where all of this worker's are being stopped, it raises
        raise Failed(
            f"The {job.processes} processes ended without an answer after {asker.compute.restarts} restarts (torchrun's exit code"
            f" {process.returncode}): one of them is killed again and again, by the system for want of memory for instance.",
            again=True,
        )


@contextmanager
def paused(launcher: int) -> Iterator[None]:
    """Stop torchrun's processes meanwhile, all of them, so that none waits for another; not torchrun itself, whose own
    heartbeat would be missed. Where that lasts longer than they have patience, they start anew from the last checkpoint."""
    ranks: list[int] = []
    for task in Path(f"/proc/{launcher}/task").glob("*/children"):
        with suppress(OSError):
            ranks += map(int, task.read_text().split())
    tell(ranks, signal.SIGSTOP)
    try:
        yield
    finally:
        tell(ranks, signal.SIGCONT)


def tell(processes: list[int], signum: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask torchrun to end its processes, then make it: they die with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
