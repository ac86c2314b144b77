"""Real processes under torchrun: what they answer, and what becomes of them when one of them, the lease or the worker is lost."""

import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import torch
from sqlalchemy import select
from torch import nn

from app import banks, sweep
from app.db import transaction
from app.errors import StaleEpoch
from app.policy import Compute, PolicyBody
from app.runs import Lease
from app.tables import AuditEvent, BatchKind, Model
from embedded.processes import wait_for
from tests.databases import forget_settings
from tests.problems.test_problems import Clusters
from tests.workers.conftest import LENIENT, PROBLEMS, Line, load_clusters, register
from unlearning.gradients import gradient_sum
from unlearning.snapshots import Snapshot
from unlearning.splits import split_unseen
from unlearning.training import TrainedModel, restore, train
from workers import cores, jobs, pipeline, problems, references, torchrun
from workers.checkpoints import SUFFIX, Checkpoints
from workers.pipeline import explained
from workers.problems import Refused
from workers.torchrun import ONE, Asker, Layout, layout

CPU = torch.device("cpu")
TWO = Compute(processes=2, min_samples=0, checkpoint_seconds=0)
ALL = np.arange(400)
LONG = 900.0
"""Processes start slowly where many of them share few cores; the bound only ends a test that has failed."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder, and child processes that find the test problems and note what they read."""
    monkeypatch.setenv("EXPUNGE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PROBLEMS))
    (tmp_path / "reads").mkdir()
    monkeypatch.setenv("EXPUNGE_TEST_READS", str(tmp_path / "reads"))
    forget_settings()
    yield tmp_path
    forget_settings()


def lease(epoch: int = 1, batch: int = 7) -> Lease:
    digest = problems.manifest_digest("clusters")
    body = PolicyBody(compute=TWO)
    return Lease(UUID(int=batch), epoch, epoch, BatchKind.TRAIN, 1, "net", "clusters", 1, digest, None, body)


def asker(epoch: int = 1, progress=lambda *_: None, batch: int = 7) -> Asker:
    return Asker(lease(epoch, batch), TWO, CPU, progress)


def trained(who: Asker, ordinals=ALL) -> TrainedModel:
    problem = problems.load("clusters")
    result, chosen = torchrun.trained(who, problem, ordinals, split_unseen(problem)[0])
    assert chosen == Layout(2, 1)
    return result


def identical(a: TrainedModel, b: TrainedModel) -> bool:
    return a.history == b.history and all(torch.equal(a.state[name], b.state[name]) for name in a.state)


def reads(home: Path) -> list[list[int]]:
    """What each process's reads since the last look were of; then none are left to be seen."""
    found = []
    for path in (home / "reads").iterdir():
        found += [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
        path.unlink()
    return found


def children(folder: Path) -> list[int]:
    """Processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def listening(processes: list[int]) -> list[str]:
    """Addresses that these processes take TCP connections at."""
    sockets = set()
    for pid in processes:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                sockets.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = []
    for family, kind in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for row in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            local, state, inode = (row.split()[n] for n in (1, 3, 9))
            words = bytes.fromhex(local.partition(":")[0])
            if state == "0A" and inode in sockets:  # listening; each word of four bytes is in the host's order
                host = b"".join(words[n : n + 4][::-1] for n in range(0, len(words), 4))
                found.append(socket.inet_ntop(kind, host))
    return found


def state(pid: int) -> str:
    """A process's state, as in ps: T when it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@pytest.mark.service
@pytest.mark.timeout(LONG)
def test_a_killed_process_costs_no_bit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of the second process at its eleventh step: all go on from the tenth, to the same bits."""
    whole = trained(asker())
    assert len(reads(home)) == 2 * 3 * 8  # two processes, three epochs of eight batches
    alone = train(problems.load("clusters"), ALL)
    assert max(float((alone.state[name] - whole.state[name]).abs().max()) for name in alone.state) < 2e-5
    reads(home)
    monkeypatch.setenv("EXPUNGE_TEST_KILL", f"1:11:{home / 'killed'}")
    again = trained(asker())
    assert (home / "killed").exists()
    assert identical(again, whole)
    # The first process has read its eleventh portion, and perhaps not noted it, when the second one is killed.
    assert 2 * 24 <= len(reads(home)) <= 2 * 24 + 2
    assert not children(home)
    torchrun.discard(asker())
    assert not list((home / "checkpoints").iterdir())


@pytest.fixture
def interrupted(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A first attempt has lost its lease in its second epoch: its processes are gone, its checkpoint of step 12 is there."""
    folder = home / "checkpoints" / f"batch-{UUID(int=7)}"

    def lost(*_: object) -> None:
        if list(folder.rglob(f"000002-000000004-*{SUFFIX}")):
            raise StaleEpoch("Another worker has taken this over.")

    monkeypatch.setenv("EXPUNGE_TEST_HOLD", f"13:{home / 'go'}")
    with pytest.raises(StaleEpoch):
        trained(asker(progress=lost))
    assert wait_for(lambda: not children(home), LONG)
    monkeypatch.delenv("EXPUNGE_TEST_HOLD")
    reads(home)
    return home


@pytest.mark.service
@pytest.mark.timeout(LONG)
def test_another_attempt_goes_on_where_the_first_was_lost_unless_one_more_sample_is_tombstoned(
    interrupted: Path,
) -> None:
    """A checkpoint has learned from that sample: the attempt without it begins anew."""
    shutil.copytree(asker().home, interrupted / "kept")
    again = trained(asker(epoch=2))
    assert len(reads(interrupted)) == 2 * 12
    assert identical(again, trained(asker(batch=8)))
    reads(interrupted)
    torchrun.discard(asker())
    shutil.copytree(interrupted / "kept", asker().home)
    trained(asker(epoch=2), ALL[ALL != 17])
    seen = reads(interrupted)
    assert len(seen) == 2 * 24
    assert 17 not in {ordinal for each in seen for ordinal in each}


@pytest.mark.service
@pytest.mark.timeout(LONG)
def test_the_worker_s_death_is_the_processes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = home / "gate"
    gate.mkdir()
    (gate / "closed").touch()
    monkeypatch.setenv("EXPUNGE_TEST_GATE", str(gate))
    program = "from tests.workers import test_torchrun as t; t.trained(t.asker())"
    paths = os.pathsep.join([str(PROBLEMS), str(Path.cwd())])
    worker = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": paths})
    try:
        assert wait_for(lambda: (gate / "reached").exists(), LONG)
        mine = children(home / "checkpoints")
        assert len(mine) >= 3  # torchrun and its two
        assert all(ipaddress.ip_address(each).is_loopback for each in listening(mine))
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert wait_for(lambda: not children(home / "checkpoints"), LONG)


@pytest.mark.service
@pytest.mark.timeout(LONG)
def test_the_policy_chooses_and_the_version_says_so(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROBLEMS))
    load_clusters()
    line: Line = register("net", PolicyBody(compute=TWO))
    line.work()
    (version,) = line.versions()
    assert (version.environment["processes"], version.environment["threads_per_process"]) == (2, 1)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.service
@pytest.mark.timeout(LONG)
def test_a_reference_by_two_stands_still_while_a_ticket_is_served(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reads").mkdir()
    load_clusters()
    line: Line = register("net", PolicyBody.model_validate(LENIENT.model_dump() | {"compute": TWO.model_dump()}))
    with monkeypatch.context() as patch:
        patch.setattr(torchrun, "layout", lambda *_, **__: ONE)
        line.work()
    monkeypatch.setenv("PYTHONPATH", str(PROBLEMS))
    monkeypatch.setenv("EXPUNGE_TEST_HOLD", f"5:{tmp_path / 'go'}")
    monkeypatch.setenv("EXPUNGE_TEST_READS", str(tmp_path / "reads"))
    monkeypatch.setattr(references, "LOOK_SECONDS", 0.0)
    with transaction() as session:
        model = session.get_one(Model, line.model_id)
        banks.order(session, model, banks.anchor(session, model.id), 4, "to be sure", "operator")
    seen: list[list[str]] = []

    def due() -> list[int]:
        return [line.model_id] if not seen and len(list((tmp_path / "reads").iterdir())) == 2 else []

    def served(_: int) -> None:
        ranks = [int(path.name) for path in (tmp_path / "reads").iterdir()]
        assert wait_for(lambda: all(state(pid) == "T" for pid in ranks), 20)
        seen.append([state(pid) for pid in ranks])
        (tmp_path / "go").touch()

    monkeypatch.setattr(sweep, "due", due)
    monkeypatch.setattr(pipeline, "work", served)
    references.work()
    assert seen == [["T", "T"]]
    with transaction() as session:
        finished = session.scalars(select(AuditEvent.body).where(AuditEvent.kind == "reference.finished")).one()
    assert json.loads(finished)["data"]["processes"] == 2
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.service
@pytest.mark.timeout(LONG)
def test_sums_by_two_processes_and_what_they_cannot_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problems.load("clusters")
    model = restore(problem, train(replace(problem), ALL).state)
    expected = gradient_sum(model, problem, problem.train, ALL)
    found = torchrun.summed(asker(), model, problem, ALL)
    assert found.count == expected.count
    assert (found - expected).norm() <= 1e-13 * expected.norm()
    monkeypatch.setenv("EXPUNGE_TEST_POISON", "399")
    with pytest.raises(torchrun.Failed) as caught:
        torchrun.summed(asker(), model, problem, ALL)
    detail, again = explained(caught.value)
    assert detail.startswith("RuntimeError in test_problems.py")
    assert "secret" not in detail
    assert again
    assert not asker().home.exists()


class Batchwise(Clusters):
    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.Linear(64, 4))


class TestLayout:
    def test_one_unless_the_policy_says_otherwise(self) -> None:
        assert layout(Compute(), 10**9, CPU) == ONE
        assert layout(Compute(processes=4), 9_999, CPU) == ONE
        assert layout(Compute(processes=4), 10_000, CPU) == Layout(4, 1)
        assert layout(Compute(processes="auto"), 10_000, CPU, observed=True) == ONE

    def test_auto_is_what_the_cores_have_room_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
        assert layout(Compute(processes="auto"), 10_000, CPU) == Layout(8, 1)
        assert layout(Compute(processes="auto", threads_per_process=3), 10_000, CPU) == Layout(2, 3)
        assert layout(Compute(processes="auto", threads_per_process=8), 10_000, CPU) == ONE
        (tmp_path / "cpu.max").write_text("300000 100000\n")
        assert layout(Compute(processes="auto"), 10_000, CPU) == Layout(3, 1)
        assert layout(Compute(processes=4), 10_000, CPU) == Layout(4, 1)

    def test_as_many_devices_as_processes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        cuda = torch.device("cuda")
        assert layout(Compute(processes="auto"), 10_000, cuda).processes == 2
        assert layout(Compute(processes=2), 10_000, cuda).processes == 2
        with pytest.raises(Refused, match="2 CUDA devices"):
            layout(Compute(processes=3), 10_000, cuda)

    def test_what_is_no_sum_over_samples_has_one_process_or_is_refused_by_name(self) -> None:
        made = problems.load("clusters")
        batchwise = Batchwise(made.train, made.holdout, made.test, made.recipe)
        two = Layout(2, 1)
        assert torchrun.divided(two, TWO, made) == two
        assert torchrun.divided(two, Compute(processes="auto"), batchwise) == ONE
        with pytest.raises(Refused, match=r"by 2 processes, but layer '1' is a BatchNorm1d.*use GroupNorm"):
            torchrun.divided(two, TWO, batchwise)

    def test_beside_devices_the_worker_s_threads_are_shared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
        cuda = torch.device("cuda")
        assert layout(Compute(processes=2), 10_000, cuda) == Layout(2, 6)
        assert layout(Compute(processes=5), 10_000, cuda) == Layout(5, 2)
        assert layout(Compute(processes="auto"), 10_000, cuda) == Layout(8, 1)
        assert layout(Compute(processes=4, threads_per_process=7), 10_000, cuda) == Layout(4, 7)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
        assert layout(Compute(processes=8), 10_000, cuda) == Layout(8, 1)

    def test_a_recorder_sees_one_process(self) -> None:
        recorder = {"journal": True}
        PolicyBody.model_validate({"recorder": recorder, "compute": {"processes": "auto"}})
        with pytest.raises(ValueError, match=r"compute\.processes"):
            PolicyBody.model_validate({"recorder": recorder, "compute": {"processes": 2}})


class TestCheckpoints:
    SNAPSHOT = Snapshot({"model.w": torch.arange(3.0)}, {"at": {"epoch": 1, "step": 4}, "total": 0.1})

    def test_the_newest_that_is_whole_and_of_this_training(self, tmp_path: Path) -> None:
        keeper = Checkpoints(tmp_path, "this", 0)
        assert keeper.latest() is None
        keeper.keep(self.SNAPSHOT)
        (path,) = tmp_path.iterdir()  # and nothing unfinished
        found = Checkpoints(tmp_path, "this", 0).latest()
        assert found is not None
        assert torch.equal(found.tensors["model.w"], self.SNAPSHOT.tensors["model.w"])
        assert found.facts == self.SNAPSHOT.facts
        assert Checkpoints(tmp_path, "another", 0).latest() is None
        later = tmp_path / path.name.replace("000001", "000002")
        later.write_bytes(path.read_bytes()[:-1])
        again = Checkpoints(tmp_path, "this", 0).latest()
        assert again is not None
        assert again.facts == found.facts

    def test_only_the_newest_is_left(self, tmp_path: Path) -> None:
        keeper = Checkpoints(tmp_path, "this", 0)
        for step in (4, 5, 6):
            keeper.keep(Snapshot(self.SNAPSHOT.tensors, {"at": {"epoch": 1, "step": step}}))
            (tmp_path / f"000001-{step:09d}-killed.half").touch()
        keeper.keep(Snapshot(self.SNAPSHOT.tensors, {"at": {"epoch": 1, "step": 6}}))
        (path,) = tmp_path.iterdir()
        assert path.name.startswith("000001-000000006-")

    def test_due_every_so_often(self, tmp_path: Path) -> None:
        now = [0.0]
        keeper = Checkpoints(tmp_path, "this", 10, lambda: now[0])
        assert [keeper.due() for now[0] in (5.0, 10.0, 11.0, 19.0, 21.0)] == [False, True, False, False, True]

    def test_every_input_of_the_training_names_it(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        problem = problems.load("clusters")
        job = asker().job("train", Layout(2, 1))
        names = {
            job.made_for(problem, ALL),
            job.made_for(problem, ALL[1:]),
            replace(job, processes=4).made_for(problem, ALL),
            replace(job, reference=1).made_for(problem, ALL),
            job.made_for(replace(problem, recipe=replace(problem.recipe, seed=4)), ALL),
        }
        names.add(job.made_for(Batchwise(problem.train, problem.holdout, problem.test, problem.recipe), ALL))
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "releases", lambda _: ["expunge 0.0.1", "mended 2"])
            names.add(job.made_for(problem, ALL))
        assert len(names) == 7
        assert replace(job, checkpoint_seconds=9).made_for(problem, ALL) in names

    def test_what_other_work_left_long_ago_goes(self, home: Path) -> None:
        old, young = home / "checkpoints" / "batch-old", home / "checkpoints" / "batch-young"
        for folder in (old, young):
            jobs.ask(folder / "train-000001", asker().job("train", Layout(2, 1)), ALL)
        (old / "gone").symlink_to(old / "nowhere")  # as a file that another worker has just moved away
        for path in (old, *old.rglob("*")):
            os.utime(path, (0, 0), follow_symlinks=False)
        torchrun.sweep(asker().home)
        assert young.exists()
        assert not old.exists()
