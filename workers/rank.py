"""One of the processes that train or sum together. `python -m workers.rank FOLDER`, started by torchrun.

It dies with torchrun, which dies with the worker that holds the lease: nobody trains on for a lease that is lost. What
another attempt cannot mend is written down for the worker; what a lost neighbour causes is not, and torchrun starts all
of them anew, from the last checkpoint.
"""

import ctypes
import os
import signal
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from unlearning.gradients import NonFinite
from unlearning.parallel import OutOfStep, PeerLost, Peers, shared_gradient_sum
from unlearning.problem import Indices
from unlearning.splits import split_unseen
from unlearning.training import Diverged, restore, train
from workers import jobs
from workers.checkpoints import Checkpoints
from workers.jobs import Job

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it takes one for lost."""
SHOW_SECONDS = 0.5
PR_SET_PDEATHSIG = 1
HISTORY = "history.json"
LAUNCHER = "EXPUNGE_LAUNCHER"
"""Environment variable: torchrun's process id."""


def die_with(parent: int) -> None:
    """Be killed when the parent is, however it ends; at once where it has gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> int:
    """The exit code: 0 where the answer, or why there is none, is written down."""
    if (folder / jobs.ERROR).exists():
        return 0
    job, ordinals = jobs.asked(folder)
    torch.set_num_threads(job.threads)
    try:
        work(folder, job, ordinals)
    except PeerLost:
        return 1
    except Exception as error:  # noqa: BLE001 - a user's Problem may raise anything
        from workers.pipeline import explained  # pipeline starts trainings, which start this

        detail, again = explained(error)
        again = again and not isinstance(error, Diverged | NonFinite | OutOfStep)
        jobs.write_json(folder / jobs.ERROR, {"detail": detail, "again": again})
    return 0


def work(folder: Path, job: Job, ordinals: Indices) -> None:
    """Join the others, and do what is asked."""
    device = torch.device("cpu")
    if job.device == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # One file a start: what the processes before a restart have left in it is nobody's.
    store = dist.FileStore(  # type: ignore[attr-defined]  # torch's stub lacks the export
        str(folder / f"store-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"), size
    )
    backend = "nccl" if job.device == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except dist.DistError as error:
        raise PeerLost("not all of the processes have come") from error
    peers = Peers(device)
    if job.what == "train":
        training(folder, job, ordinals, peers)
    else:
        summing(folder, job, ordinals, peers)
    dist.destroy_process_group()


def training(folder: Path, job: Job, ordinals: Indices, peers: Peers) -> None:
    problem = job.load_problem()
    keeper = Checkpoints(folder, job.made_for(problem, ordinals), job.checkpoint_seconds)
    shown = -SHOW_SECONDS

    def show(fraction: float, text: str) -> None:
        nonlocal shown
        if peers.rank == 0 and time.monotonic() - shown >= SHOW_SECONDS:
            jobs.write_json(folder / jobs.PROGRESS, {"fraction": fraction, "text": text})
            shown = time.monotonic()

    tuning = split_unseen(problem)[0]
    result = train(problem, ordinals, tuning, progress=show, device=peers.device, team=peers, keeper=keeper)
    if peers.rank == 0:
        jobs.write_json(folder / HISTORY, [asdict(epoch) for epoch in result.history])
        jobs.write_tensors(folder / jobs.RESULT, result.state)


def summing(folder: Path, job: Job, ordinals: Indices, peers: Peers) -> None:
    problem = job.load_problem()
    model = restore(problem, jobs.read_tensors(folder / jobs.WEIGHTS), peers.device)
    total = shared_gradient_sum(peers, model, problem, problem.train, ordinals)
    if peers.rank == 0:
        jobs.write_tensors(folder / jobs.RESULT, total.vector)


if __name__ == "__main__":
    die_with(int(os.environ[LAUNCHER]))
    sys.exit(main(Path(sys.argv[1])))
