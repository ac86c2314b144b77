"""What holds for every method there is, ours or not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unlearning.methods.settings import FORGET, LIVE, SHORT, Images, fresh, images, same
from unlearning.methods import registry
from unlearning.methods.planner import sizes_for
from unlearning.methods.protocol import Job, Method, Need
from unlearning.splits import split_unseen

NAMES = list(registry.BUILT_IN)
STILL = {"nothing", "iau", "iau-calibrated", "ia", "iau-released", "usgd", "bad-teaching", "fisher", "neggrad+", "ssd"}
"""Methods that leave BatchNorm's running statistics as the parent has them."""
RANDOM = {
    "bad-teaching",
    "amnesiac",
    "amnesiac-relabel",
    "fisher",
    "fine-tune",
    "neggrad+",
    "scrub",
    "salun",
    "msg",
    "ct",
}
RANDOM |= {"retrain", "ssd", "iau-calibrated"}


@pytest.fixture(scope="module")
def job() -> Job:
    return images()


def method_of(name: str) -> Method:
    return registry.make(name, **SHORT.get(name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_deterministic_and_leaves_the_parent_alone(job: Job, name: str) -> None:
    method, before = method_of(name), {k: v.clone() for k, v in job.parent.state_dict().items()}
    job.parent.train()
    torch.manual_seed(1)
    ambient = torch.get_rng_state()
    one = method.unlearn(job)
    assert torch.equal(torch.get_rng_state(), ambient)
    torch.manual_seed(2)
    other = method.unlearn(replace(job, forget=job.forget[::-1].copy(), retain=job.retain[::-1].copy()))
    assert job.parent.training
    job.parent.eval()
    assert same(one.state, other.state)
    assert same(before, job.parent.state_dict())
    assert all(parameter.grad is None for parameter in job.parent.parameters())
    assert same(one.state, before) == (name == "nothing")
    assert set(one.state) == set(before)
    reseeded = method.unlearn(replace(job, seed=8))
    assert same(one.state, reseeded.state) == (name not in RANDOM)


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_neither_the_audit_half_nor_a_tombstone(job: Job, name: str) -> None:
    settings = dict(SHORT.get(name, {}))
    if name in ("iau", "ia"):
        settings = {}
    if name == "scrub":
        settings["rewind"] = True
    method = registry.make(name, **settings)
    method.unlearn(fresh(job))
    tuning, _ = split_unseen(job.problem)
    problem = job.problem
    assert isinstance(problem, Images)
    for unseen in ("holdout", "test"):
        read = getattr(problem, unseen).read
        assert read <= set(getattr(tuning, unseen).indices.tolist())
        assert not read or Need.TUNING_DATA in method.needs
    assert problem.train.read <= set(LIVE.tolist())  # type: ignore[attr-defined]  # Watched, put there by the fixture
    if not {Need.RETAIN_DATA, Need.RETAIN_DATA_OR_FISHER, Need.RETAIN_DATA_OR_IMPORTANCE} & method.needs:
        assert problem.train.read <= set(FORGET.tolist())  # type: ignore[attr-defined]  # Watched, as above


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_to_running_statistics(job: Job, name: str) -> None:
    state = method_of(name).unlearn(job).state
    before = job.parent.state_dict()
    moved = [key for key in before if "running" in key and not torch.equal(before[key], state[key])]
    assert bool(moved) == (name not in STILL)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_or_overlapping_forget_set_is_refused(job: Job, name: str) -> None:
    method = method_of(name)
    with pytest.raises(ValueError, match="forget set is empty"):
        method.unlearn(replace(job, forget=np.array([], dtype=np.int64)))
    with pytest.raises(ValueError, match="both to be forgotten and retained"):
        method.unlearn(replace(job, retain=LIVE))
    if Need.RETAIN_DATA in method.needs:
        with pytest.raises(ValueError, match="no samples are retained"):
            method.unlearn(replace(job, retain=np.array([], dtype=np.int64)))


def test_the_page_lists_every_method() -> None:
    page = (Path(__file__).parents[3] / "docs" / "methods.md").read_text()
    listed = [line.split("`")[1] for line in page.split("| name |")[1].splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_costs(job: Job, name: str) -> None:
    method = method_of(name)
    sizes = sizes_for(job, 3)
    cost = method.cost(sizes)
    assert method.source
    assert cost.gradient_samples >= 0
    larger = method.cost(replace(sizes, forget=2 * sizes.forget, retain=2 * sizes.retain))
    assert larger.gradient_samples == 2 * cost.gradient_samples or name == "neggrad+"
    doubled = method.cost(replace(sizes, retain=2 * sizes.retain))
    if Need.RETAIN_DATA not in method.needs:
        assert doubled.gradient_samples == cost.gradient_samples


@pytest.mark.parametrize("name", ["fine-tune", "neggrad+", "scrub", "salun", "bad-teaching", "amnesiac-relabel", "msg"])
def test_the_gradient_cost_is_what_is_read(job: Job, name: str) -> None:
    """The quoted gradient samples are those that go backward, counted at the loss and at the KL."""
    method = method_of(name)
    counted = 0

    def count(module: nn.Module, gradients: object, outputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal counted
        counted += len(outputs[0])

    parent = job.parent
    handle = parent[-1].register_full_backward_hook(count)  # type: ignore[index]  # a Sequential; copies carry the hook
    try:
        method.unlearn(job)
    finally:
        handle.remove()
    assert counted == method.cost(sizes_for(job, 3)).gradient_samples
