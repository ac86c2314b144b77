"""Methods that compute their change in one go, each against its authors' rule written out sample by sample."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.unlearning.methods import slow
from tests.unlearning.methods.settings import FORGET, LIVE, RETAIN, images, vectors, without_records
from unlearning.gradients import gradient_sum
from unlearning.iau import IauSettings, unlearn
from unlearning.methods.amnesiac import Amnesiac
from unlearning.methods.diagonals import FisherSum, fisher_sum, importance
from unlearning.methods.fine_tune import FineTune
from unlearning.methods.fisher import FisherScrub
from unlearning.methods.fisher_layers import add_by_layer
from unlearning.methods.iau import Ia, Iau, IauReleased
from unlearning.methods.protocol import Job
from unlearning.methods.ssd import Ssd
from unlearning.methods.usgd import Usgd, sd_losses
from unlearning.training import restore


@pytest.fixture(scope="module", params=["vectors", "images"])
def job(request: pytest.FixtureRequest) -> Job:
    """An MLP; and a network with a convolution, BatchNorm and dropout, which eval mode leaves alone."""
    return vectors() if request.param == "vectors" else images()


def slow_fisher(job: Job, indices: np.ndarray) -> dict[str, Tensor]:
    """Golatkar's loop: one backward pass for each sample and class; the mean over samples."""
    model = copy.deepcopy(job.parent)
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    inputs = job.problem.train.inputs  # type: ignore[attr-defined]  # TensorSamples
    for index in indices:
        probabilities = model(inputs[index][None])[0].softmax(0).detach()
        for label in range(3):
            gradient = slow.gradient_of(model, slow.loss_of(job, model, int(index), label))
            for name, value in gradient.items():
                total[name] += probabilities[label] * value**2 / len(indices)
    return total


@pytest.mark.parametrize("chunk", [1, 7, 100, None])
def test_the_vectorised_fisher_is_the_loop(job: Job, chunk: int | None) -> None:
    found = fisher_sum(job.parent, job.problem, job.problem.train, RETAIN, chunk).mean()
    for name, value in slow_fisher(job, RETAIN).items():
        torch.testing.assert_close(found[name].float(), value, rtol=1e-4, atol=1e-8)


class Odd(nn.Module):
    """A layer that is called twice, a bias that is trained on its own, and an activation that writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.twice, self.out = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.offset = nn.Parameter(torch.full((3,), 0.1))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu_(self.into(inputs))
        outputs: Tensor = self.out(self.twice(torch.tanh(self.twice(hidden)))) + self.offset
        return outputs


class Twice(nn.Module):
    """A layer that is called twice, and nothing else out of the ordinary."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.twice, self.out = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.twice(torch.tanh(self.twice(torch.tanh(self.into(inputs))))))
        return outputs


class Overwritten(nn.Module):
    """Plain layers, the output of one of which is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.out(torch.relu_(self.into(inputs)))
        return outputs


def batch_normed() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def part_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("build", "by_layer"),
    [(Odd, False), (Twice, False), (Overwritten, False), (batch_normed, True), (part_frozen, True)],
)
def test_the_fisher_of_other_networks(build: Callable[[], nn.Module], by_layer: bool) -> None:
    """Whichever way it is reckoned, it is the loop."""
    job = vectors()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = build().eval()
    inputs, targets = job.problem.train.batch(FORGET)
    found = fisher_sum(model, job.problem, job.problem.train, FORGET, 3).vector
    probabilities = model(inputs).softmax(1).detach()
    scratch = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in found.items()}
    assert add_by_layer(scratch, model, job.problem, inputs, targets, probabilities) == by_layer
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert set(trainable) == set(found)
    total = {name: torch.zeros_like(value) for name, value in trainable.items()}
    for row in range(len(FORGET)):
        for label in range(3):
            loss = functional.cross_entropy(model(inputs[row][None]), torch.tensor([label]))
            for name, value in zip(trainable, torch.autograd.grad(loss, list(trainable.values())), strict=True):
                total[name] += probabilities[row, label] * value**2
    for name, value in total.items():
        torch.testing.assert_close(found[name].float(), value, rtol=1e-4, atol=1e-8)


def test_fisher_sums_are_taken_apart_and_an_empty_one_has_no_mean(job: Job) -> None:
    train = job.problem.train
    whole, part = (fisher_sum(job.parent, job.problem, train, chosen) for chosen in (LIVE, FORGET))
    rest = fisher_sum(job.parent, job.problem, train, RETAIN)
    for name, value in (whole - part).vector.items():
        torch.testing.assert_close(value, rest.vector[name], rtol=1e-5, atol=1e-9)
    assert (whole - part).count == len(RETAIN)
    with pytest.raises(ValueError, match="cannot take"):
        part - whole
    with pytest.raises(ValueError, match="different networks"):
        whole - FisherSum({}, 0)
    with pytest.raises(ValueError, match="empty set"):
        fisher_sum(job.parent, job.problem, train, np.array([], dtype=np.int64)).mean()


def test_fisher_scrubbing(job: Job) -> None:
    bare = without_records(job)
    outcome = FisherScrub(alpha=1e-4).unlearn(bare)
    assert outcome.details["fisher_kept"] is False
    generator = torch.Generator().manual_seed(job.seed)
    model, information = copy.deepcopy(job.parent), slow_fisher(job, RETAIN)
    with torch.no_grad():
        for (_, weight), value in zip(model.named_parameters(), information.values(), strict=True):
            last = weight.shape[0] == 3
            variance = 1 / (value.double() + 1e-8)
            variance = 1e-4 * variance.clamp(max=1e2 if last else 1e3)
            if weight.ndim > 1:
                variance = variance.mean(1, keepdim=True) * torch.ones_like(weight)
            if last or weight.ndim == 1:
                variance = 10 * variance
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.copy_(weight + variance.sqrt() * noise)
    slow.assert_same(outcome.state, model, 1e-4)
    recorded = FisherScrub(alpha=1e-4).unlearn(job)
    assert recorded.details["fisher_kept"] is True
    slow.assert_same(recorded.state, model, 1e-4)


def test_fisher_noise_is_capped_and_averaged_over_inputs() -> None:
    method, information = FisherScrub(alpha=2.0), torch.tensor([1e-12, 0.5], dtype=torch.float64)
    assert method._variance(information, last=False).tolist() == pytest.approx([2000.0, 4.0])
    assert method._variance(information, last=True).tolist() == pytest.approx([200.0, 4.0])
    assert method._variance(information[None], last=True).tolist() == [pytest.approx([102.0, 102.0])]


def test_fisher_scrubbing_clears_a_whole_class(job: Job) -> None:
    targets = job.problem.train.targets  # type: ignore[attr-defined]  # TensorSamples
    gone = np.flatnonzero(targets.numpy() == 1)
    forget = gone[gone < 56]
    whole = replace(without_records(job), forget=forget, retain=np.setdiff1d(LIVE, forget))
    outcome = FisherScrub(clear_class=True).unlearn(whole)
    assert outcome.details["cleared_classes"] == 1
    name = next(name for name, value in job.parent.named_parameters() if value.shape[0] == 3)
    row, kept = outcome.state[name][1], job.parent.state_dict()[name][1]
    assert float(row.std()) == pytest.approx((1e-4 * 10) ** 0.5, rel=0.6)
    assert float(row.abs().mean()) < float(kept.abs().mean())
    with pytest.raises(ValueError, match="whole classes"):
        FisherScrub(clear_class=True).unlearn(job)


def test_usgd_adds_the_gradients_at_the_initial_weights(job: Job) -> None:
    assert job.records is not None
    assert job.records.initial is not None
    initial = restore(job.problem, job.records.initial)
    total = slow.gradient_of(initial, torch.stack([slow.loss_of(job, initial, int(i)) for i in FORGET]).sum())
    outcome = Usgd().unlearn(job)
    model = copy.deepcopy(job.parent)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight += 0.1 * 4 / 16 * total[name]  # lr, epochs over batch
    slow.assert_same(outcome.state, model, 1e-6)
    released = Usgd(scale="released", batch_size=2).unlearn(job)
    model = copy.deepcopy(job.parent)
    for batch in slow.cut(FORGET, 2):
        gradient = slow.gradient_of(initial, slow.mean_loss(job, initial, batch))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight += 0.1 * gradient[name]
    slow.assert_same(released.state, model, 1e-6)


def test_usgd_refuses_what_it_cannot_unroll(job: Job) -> None:
    with pytest.raises(ValueError, match="initial weights were not recorded"):
        Usgd().unlearn(without_records(job))
    adam = copy.copy(job.problem)
    object.__setattr__(adam, "recipe", replace(job.problem.recipe, optimizer="adam"))
    with pytest.raises(ValueError, match="give learning_rate"):
        Usgd().unlearn(replace(job, problem=adam))
    assert Usgd(learning_rate=0.2).unlearn(replace(job, problem=adam)).details["learning_rate"] == 0.2
    with pytest.raises(ValueError, match="use 'paper' or 'released'"):
        Usgd(scale="other")  # type: ignore[arg-type]  # what is under test


def test_unrolling_one_step_of_training_is_exact() -> None:
    """One epoch in one batch: putting back lr/b times D_f's gradients gives the step that D_r alone would have taken."""
    job = vectors()
    assert job.records is not None
    initial = restore(job.problem, job.records.initial or {})
    train = job.problem.train
    one = gradient_sum(initial, job.problem, train, LIVE)
    parent, aim = copy.deepcopy(initial), copy.deepcopy(initial)
    rest = gradient_sum(initial, job.problem, train, RETAIN)
    with torch.no_grad():
        for name, weight in parent.named_parameters():
            weight -= (0.1 / 56 * one.vector[name]).float()
        for name, weight in aim.named_parameters():
            weight -= (0.1 / 56 * rest.vector[name]).float()
    records = replace(job.records, epochs=1, batch_size=56)
    slow.assert_same(Usgd().unlearn(replace(job, parent=parent, records=records)).state, aim, 1e-6)


def test_sd_losses() -> None:
    outputs = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    expected = [
        -float(outputs[0].log_softmax(0)[2]) + 0.5 * float(np.std([1, 2, 4], ddof=1)) / 3,
        -float(outputs[1].log_softmax(0)[0]),
    ]
    torch.testing.assert_close(sd_losses(outputs, torch.tensor([2, 0]), 0.5), torch.tensor(expected))


@pytest.mark.parametrize("size", [1, 2, 128])
def test_importance_squares_whole_batches(job: Job, size: int) -> None:
    found = importance(job.parent, job.problem, job.problem.train, FORGET, size, seed=4)
    model = copy.deepcopy(job.parent)
    parts = slow.cut(np.random.default_rng(4).permutation(FORGET), size)
    gradients = [slow.gradient_of(model, slow.mean_loss(job, model, part)) for part in parts]
    for name, value in found.vector.items():
        expected = torch.stack([gradient[name] ** 2 for gradient in gradients]).mean(0)
        torch.testing.assert_close(value.float(), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("alpha", "dampening"), [(2.0, 0.5), (0.5, 1.0)])
def test_ssd(job: Job, alpha: float, dampening: float) -> None:
    """With alpha below 1 some weights would grow: the factor is bounded by 1."""
    bare = without_records(job)
    outcome = Ssd(alpha=alpha, dampening=dampening, batch_size=16).unlearn(bare)
    train = job.problem.train
    whole = importance(job.parent, job.problem, train, LIVE, 16).vector
    part = importance(job.parent, job.problem, train, FORGET, 16, job.seed).vector
    model, dampened = copy.deepcopy(job.parent), 0
    for name, weight in model.named_parameters():
        flat, i_d, i_f = weight.detach().view(-1), whole[name].view(-1), part[name].view(-1)
        for place in range(len(flat)):
            if float(i_f[place]) > alpha * float(i_d[place]):
                flat[place] *= min(dampening * float(i_d[place]) / float(i_f[place]), 1.0)
                dampened += 1
    assert outcome.details == {"dampened": dampened, "importance_kept": False}
    assert dampened > 0
    slow.assert_same(outcome.state, model, 1e-6)


def test_ssd_uses_a_recorded_importance_of_its_own_batch_size_alone(job: Job) -> None:
    nobody = replace(job, retain=np.array([], dtype=np.int64))
    kept, anew = Ssd(alpha=1.0).unlearn(nobody), Ssd(alpha=1.0).unlearn(without_records(job))
    assert kept.details["importance_kept"]
    for name, value in kept.state.items():
        torch.testing.assert_close(value, anew.state[name])
    with pytest.raises(ValueError, match="no samples are retained"):
        Ssd(alpha=1.0, batch_size=64).unlearn(nobody)


def test_a_recorded_sum_over_another_set_is_refused(job: Job) -> None:
    other = replace(job, retain=RETAIN[1:])
    for method in (Ssd(), FisherScrub()):
        with pytest.raises(ValueError, match="covers 56 samples; forget and retain set have 55"):
            method.unlearn(other)


def test_amnesiac_takes_back_the_steps_that_saw_it(job: Job) -> None:
    records = job.records
    assert records is not None
    assert records.steps is not None
    assert records.journal is not None
    bare = replace(job, retain=np.array([], dtype=np.int64))
    outcome = Amnesiac(healing_epochs=0).unlearn(bare)
    model = copy.deepcopy(job.parent)
    touched = [number for number, step in enumerate(records.steps) if set(step.tolist()) & set(FORGET.tolist())]
    assert 0 < len(touched) < len(records.steps)
    assert outcome.details["undone"] == len(touched)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            for number in touched:
                weight -= records.journal[number][name]
    slow.assert_same(outcome.state, model, 1e-6)


def test_amnesiac_of_everything_is_where_training_began(job: Job) -> None:
    assert job.records is not None
    assert job.records.initial is not None
    everything = replace(job, forget=LIVE, retain=np.array([], dtype=np.int64))
    state = Amnesiac(healing_epochs=0).unlearn(everything).state
    for name, _ in job.parent.named_parameters():
        torch.testing.assert_close(state[name], job.records.initial[name], rtol=1e-5, atol=1e-6)


def test_amnesiac_heals_by_training_on(job: Job) -> None:
    settings = {"learning_rate": 1e-12, "batch_size": 16}
    still = Amnesiac(healing_epochs=1, **settings).unlearn(job)  # type: ignore[arg-type]  # numbers of either kind
    taken = Amnesiac(healing_epochs=0).unlearn(job)
    for name, _ in job.parent.named_parameters():
        torch.testing.assert_close(still.state[name], taken.state[name], rtol=1e-5, atol=1e-6)
    assert still.details["steps"] == 4
    with pytest.raises(ValueError, match="journal does not hold every step"):
        Amnesiac().unlearn(without_records(job))
    assert FineTune().needs < Amnesiac().needs
    assert FineTune().needs.isdisjoint(Amnesiac(healing_epochs=0).needs)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (Iau(eta=0.1), IauSettings("ia+gc", "means", eta=0.1)),
        (Iau(weights="sums", eta=0.001), IauSettings("ia+gc", "sums", eta=0.001)),
        (Iau(), IauSettings()),
        (Ia(eta=0.1), IauSettings("ia", "means", eta=0.1)),
        (IauReleased(), IauSettings("ia+gc", "means", "adam", eta=1e-3)),
    ],
)
def test_the_iau_methods_are_the_update_by_its_settings(job: Job, method: Iau, settings: IauSettings) -> None:
    assert job.total is not None
    expected = unlearn(job.parent, job.problem, FORGET, job.total, job.tuning, settings)
    found = method.unlearn(job)
    assert all(torch.equal(found.state[name], expected.state[name]) for name in expected.state)
    assert found.details["eta"] == expected.eta
    assert found.details["settings"]["step"] == settings.step


def test_the_iau_methods_refuse_a_sum_that_is_not_the_parents(job: Job) -> None:
    with pytest.raises(ValueError, match="is not there"):
        Iau().unlearn(replace(job, total=None))
    with pytest.raises(ValueError, match="belongs to another training set"):
        Iau().unlearn(replace(job, retain=RETAIN[1:]))
