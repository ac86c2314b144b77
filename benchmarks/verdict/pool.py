"""Work shared by processes of one parent, so that nothing has to be claimed, and nothing stays claimed when they die."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

import torch

Task = TypeVar("Task")


def spread(work: Callable[[Task], object], tasks: Sequence[Task], jobs: int) -> Iterator[Task]:
    """Do every task, in `jobs` processes of one torch thread each, and give each back when it is done, in any order.

    One job works in this process. What a task makes it leaves on disk, under another name until it is whole: a run that is
    killed, in whatever way, leaves finished pieces and no claims.

    Raises:
        ValueError: fewer than one job.
        BrokenProcessPool: a process was killed; what was done by then is kept.
    """
    if jobs < 1:
        raise ValueError("at least one job is needed")
    if jobs == 1 or len(tasks) <= 1:
        for task in tasks:
            work(task)
            yield task
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), _begin) as pool:
        running = {pool.submit(work, task): task for task in tasks}
        try:
            for each in as_completed(running):
                each.result()
                yield running[each]
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A parent that was killed tells nobody: its processes would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
