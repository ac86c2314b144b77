"""Training and gradient sums by several processes: the sums of one process, its weights within a tolerance, and its very
bits where there is one, or where a training goes on from a snapshot."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from tests.unlearning.problems import RECIPE, Blobs
from unlearning.gradients import gradient_sum
from unlearning.parallel import ALONE, OutOfStep, PeerLost, Peers, Team, portion, shared_gradient_sum
from unlearning.restriction import drawn, restricted_loss
from unlearning.snapshots import Snapshot
from unlearning.splits import split_unseen
from unlearning.training import Diverged, State, TrainedModel, state_of, train

INDICES = np.arange(57)  # a ragged last batch: 57 = 3 x 16 + 9
PLAIN = replace(RECIPE, alpha=0.0, restriction="none")
RECIPES = {
    "plain": PLAIN,
    "sgd": replace(PLAIN, optimizer="sgd", learning_rate=0.05),
    "restricted": RECIPE,
    "restricted in part": replace(RECIPE, restriction_share=0.4),
    "stopping early": replace(PLAIN, patience=1, epochs=6),
}
SUMS = 1e-13
"""Largest difference of a gradient sum from one process's, relative to its norm."""
WEIGHTS = 2e-5
"""Largest difference of a weight after four epochs: Adam amplifies the rounding of a step."""


@dataclass(frozen=True)
class Dropping(Blobs):
    """A net that draws from torch's random state in every step."""

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.features, 8), nn.Dropout(0.3), nn.Linear(8, self.classes))


@dataclass(frozen=True)
class Normed(Blobs):
    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.features, 8), nn.BatchNorm1d(8), nn.Linear(8, self.classes))


class Counting(nn.Module):
    """A layer with a statistic of what this process has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += inputs.sum().detach()
        return inputs


@dataclass(frozen=True)
class Remembering(Blobs):
    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.features, self.classes), Counting())


class Kept:
    """Keeps every snapshot in memory, and goes on from the one it was given."""

    def __init__(self, start: Snapshot | None = None, every: int = 3) -> None:
        self.start, self.every, self.steps = start, every, 0
        self.kept: list[Snapshot] = []

    def latest(self) -> Snapshot | None:
        return self.start

    def due(self) -> bool:
        self.steps += 1
        return self.steps % self.every == 0

    def keep(self, snapshot: Snapshot) -> None:
        self.kept.append(snapshot)


def member(rank: int, size: int, folder: str, work: Callable[[Team], Any]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    torch.save(work(Peers(torch.device("cpu"))), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def by(size: int, folder: Path, work: Callable[[Team], Any]) -> list[Any]:
    """What each of `size` real processes answers; one is this process itself."""
    folder.mkdir()
    if size == 1:
        member(0, 1, str(folder), work)
    else:
        mp.spawn(member, (size, str(folder), work), nprocs=size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def trained(team: Team, problem: Blobs, keeper: Kept | None = None) -> TrainedModel:
    tuning = split_unseen(problem)[0]
    return train(problem, INDICES, tuning, team=team, keeper=keeper)


def identical(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def apart(a: State, b: State) -> float:
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def plainly(problem: Blobs) -> State:
    """The training loop in its simplest form: what one process has always computed."""
    recipe = problem.recipe
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = problem.build_model()
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[recipe.optimizer]
        optimizer = kind(model.parameters(), lr=recipe.learning_rate)
        order, parts = np.random.default_rng(recipe.seed), np.random.default_rng([recipe.seed, 1])
        model.train()
        for _ in range(recipe.epochs):
            shuffled = order.permutation(INDICES)
            for start in range(0, len(shuffled), recipe.batch_size):
                chosen = shuffled[start : start + recipe.batch_size]
                part = drawn(recipe.restriction_share, len(chosen), parts)
                batch = problem.train.batch(chosen)
                loss = restricted_loss(model, problem, *batch, recipe.restriction, recipe.alpha, part)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return state_of(model)


@pytest.mark.parametrize("name", ["plain", "sgd", "restricted", "restricted in part"])
@pytest.mark.parametrize("kind", [Blobs, Dropping])
def test_one_process_gives_the_bits_it_always_gave(name: str, kind: type[Blobs]) -> None:
    problem = kind(recipe=RECIPES[name])
    assert identical(trained(ALONE, problem).state, plainly(problem))


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("kind", [Blobs, Dropping])
def test_from_any_snapshot_one_process_ends_at_the_same_bits(name: str, kind: type[Blobs]) -> None:
    problem = kind(recipe=RECIPES[name])
    keeper = Kept(every=1)
    whole = trained(ALONE, problem, keeper)
    assert identical(whole.state, trained(ALONE, problem).state)  # keeping changes nothing
    for snapshot in keeper.kept:
        again = trained(ALONE, problem, Kept(snapshot))
        assert identical(again.state, whole.state)
        assert again.history == whole.history


@dataclass(frozen=True)
class Both:
    """Sums and trainings by one team: everything that starting processes is worth."""

    def __call__(self, team: Team) -> dict[str, Any]:
        found: dict[str, Any] = {name: trained(team, Blobs(recipe=recipe)) for name, recipe in RECIPES.items()}
        keeper = Kept(every=2 if team.rank == 0 else 1)
        found["dropping"] = trained(team, Dropping(recipe=RECIPE), keeper)
        found["kept"] = keeper.kept
        problem = Blobs()
        for size in (1, 7, 512):
            sums = shared_gradient_sum(team, model(problem), problem, problem.train, INDICES, size)
            found[f"sums of {size}"] = (sums.vector, sums.count)
        found["sums of none"] = shared_gradient_sum(team, model(problem), problem, problem.train, INDICES[:0]).count
        for name, refused in (
            ("batch norm", Normed()),
            ("released", Blobs(recipe=replace(RECIPE, restriction="batch-norm"))),
        ):
            try:
                trained(team, refused)
                found[name] = ""
            except ValueError as error:
                found[name] = str(error)
        return found


def model(problem: Blobs) -> nn.Module:
    torch.manual_seed(0)
    return problem.build_model()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes answer."""
    return by(2, tmp_path_factory.mktemp("two") / "team", Both())


@pytest.mark.service
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_sum_and_train_what_one_does(size: int, tmp_path: Path, two: list[dict[str, Any]]) -> None:
    first, *others = two if size == 2 else by(size, tmp_path / "team", Both())
    problem = Blobs()
    for chunk in (1, 7, 512):
        expected = gradient_sum(model(problem), problem, problem.train, INDICES, chunk)
        vector, count = first[f"sums of {chunk}"]
        assert count == expected.count == len(INDICES)
        assert apart(vector, expected.vector) <= (SUMS if size > 1 else 0) * expected.norm()
    assert first["sums of none"] == 0
    for name, recipe in RECIPES.items():
        alone = trained(ALONE, Blobs(recipe=recipe))
        assert apart(first[name].state, alone.state) <= (WEIGHTS if size > 1 else 0), name
        assert len(first[name].history) == len(alone.history)
        assert np.allclose(
            [e.train_loss for e in first[name].history], [e.train_loss for e in alone.history], rtol=1e-5
        )
        for other in others:
            assert identical(other[name].state, first[name].state)
    assert ("'1'" in first["batch norm"] and "GroupNorm" in first["batch norm"]) == (size > 1)
    assert ("batch-norm" in first["released"]) == (size > 1)
    assert len(first["kept"]) == 4 * 4 // 2  # the first process's clock alone says when
    assert not any(other["kept"] for other in others)  # the first process keeps


@dataclass(frozen=True)
class Continuing:
    snapshot: Snapshot

    def __call__(self, team: Team) -> TrainedModel:
        return trained(team, Dropping(recipe=RECIPE), Kept(self.snapshot, every=10**6))


@pytest.mark.service
@pytest.mark.timeout(1800)
def test_from_a_snapshot_two_processes_end_at_the_same_bits(two: list[dict[str, Any]], tmp_path: Path) -> None:
    """With dropout: every process goes on with the random state that it had."""
    first, _ = two
    middle = first["kept"][len(first["kept"]) // 2]
    for again in by(2, tmp_path / "again", Continuing(middle)):
        assert identical(again.state, first["dropping"].state)
        assert again.history == first["dropping"].history
    with pytest.raises(ValueError, match="2 processes cannot be continued by 1"):
        trained(ALONE, Dropping(recipe=RECIPE), Kept(middle))


def going_wrong(team: Team) -> list[str]:
    """What is said of a layer that parts the processes, of a loss that is not finite, and of a neighbour that leaves."""
    said = []
    for problem in (Remembering(recipe=PLAIN), Blobs(recipe=replace(PLAIN, optimizer="sgd", learning_rate=1e30))):
        try:
            trained(team, problem)
        except (OutOfStep, Diverged) as error:
            said.append(str(error))
    if team.rank == 1:
        return said
    try:
        trained(team, Blobs())
    except PeerLost as error:
        said.append(str(error))
    return said


@pytest.mark.service
@pytest.mark.timeout(1800)
def test_what_goes_wrong_between_processes_is_said(tmp_path: Path) -> None:
    first, second = by(2, tmp_path / "team", going_wrong)
    for drift, diverged, *_ in (first, second):
        assert "other weights or buffers" in drift
        assert "not finite" in diverged
    assert first[2] == "process 0 of 2 lost another"


@pytest.mark.parametrize(("count", "size"), [(0, 3), (1, 4), (9, 4), (16, 4), (57, 2)])
def test_portions_are_the_batch(count: int, size: int) -> None:
    @dataclass(frozen=True)
    class Seat:
        rank: int
        size: int

    parts = [np.arange(count)[portion(count, Seat(rank, size))] for rank in range(size)]  # type: ignore[arg-type]  # a seat has all that is asked of a team here
    assert np.concatenate(parts).tolist() == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_observer_is_for_one_process_from_start_to_end() -> None:
    class Watching:
        def started(self, model): ...
        def stepping(self, epoch, chosen): ...
        def stepped(self): ...
        def finished(self, state, epochs): ...

    with pytest.raises(ValueError, match="observer"):
        train(Blobs(), INDICES, observer=Watching(), keeper=Kept())
