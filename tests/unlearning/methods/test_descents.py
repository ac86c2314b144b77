"""Methods that take many steps, each against its authors' rule written out sample by sample."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unlearning.methods import slow
from tests.unlearning.methods.settings import FORGET, LIVE, RETAIN, Images, images, vectors
from unlearning.gradients import NonFinite
from unlearning.methods.amnesiac import AmnesiacRelabel
from unlearning.methods.bad_teaching import BadTeaching
from unlearning.methods.fine_tune import FineTune
from unlearning.methods.neg_grad import NegGradPlus
from unlearning.methods.protocol import Job
from unlearning.methods.reset import Ct, Msg
from unlearning.methods.retrain import Retrain
from unlearning.methods.salun import SalUn
from unlearning.methods.scrub import Scrub
from unlearning.training import train


@pytest.fixture(scope="module")
def job() -> Job:
    return vectors()


def orders(job: Job) -> np.random.Generator:
    return np.random.default_rng(job.seed)


def test_retrain_is_the_recipe_on_what_stays(job: Job) -> None:
    zero = Job(job.problem, job.parent, FORGET, RETAIN, job.tuning, seed=0)
    expected = train(job.problem, RETAIN).state
    found = Retrain().unlearn(zero).state
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_fine_tune(job: Job) -> None:
    state = FineTune(learning_rate=0.05, epochs=2, batch_size=16).unlearn(job).state
    model, rng = copy.deepcopy(job.parent), orders(job)
    optimizer = slow.Sgd(model, 0.05, 0.9, 5e-4)
    for _ in range(2):
        for chosen in slow.cut(rng.permutation(RETAIN), 16):
            optimizer.step(slow.mean_loss(job, model, chosen))
    slow.assert_same(state, model)


def test_neggrad_plus(job: Job) -> None:
    state = NegGradPlus(alpha=0.7, epochs=2, batch_size=4).unlearn(job).state
    model, rng = copy.deepcopy(job.parent), orders(job)
    optimizer = slow.Sgd(model, 0.01, 0.9, 0.0)
    for _ in range(2):
        forgotten, retained = slow.cut(rng.permutation(FORGET), 4), slow.cut(rng.permutation(RETAIN), 4)
        assert [len(part) for part in forgotten] == [4, 1]
        for number, chosen in enumerate(retained):
            stay = slow.mean_loss(job, model, chosen)
            go = slow.mean_loss(job, model, forgotten[number % 2])
            optimizer.step(0.7 * stay - 0.3 * go)
    slow.assert_same(state, model)


def test_scrub(job: Job) -> None:
    state = Scrub(epochs=4, ascents=2, batch_size=16, forget_batch_size=4, learning_rate=5e-3).unlearn(job).state
    teacher, model, rng = job.parent, copy.deepcopy(job.parent), orders(job)
    optimizer = slow.Adam(model, 5e-3, 0.1)
    for epoch in range(1, 5):
        optimizer.rate = 5e-3 * 0.1 ** ((epoch > 2) + (epoch > 3) + (epoch > 3))
        if epoch <= 2:
            for chosen in slow.cut(rng.permutation(FORGET), 4):
                optimizer.step(-4 * _mean_divergence(job, teacher, model, chosen, 2.0))
        for chosen in slow.cut(rng.permutation(RETAIN), 16):
            loss = slow.mean_loss(job, model, chosen)
            optimizer.step(1.0 * loss + 0.5 * 4 * _mean_divergence(job, teacher, model, chosen, 2.0))
    slow.assert_same(state, model, 2e-4)


def _mean_divergence(job: Job, teacher: nn.Module, model: nn.Module, chosen: list[int], temperature: float) -> Tensor:
    inputs = job.problem.train.inputs  # type: ignore[attr-defined]  # TensorSamples
    terms = [
        slow.divergence(teacher(inputs[i][None])[0].detach(), model(inputs[i][None])[0], temperature) for i in chosen
    ]
    return torch.stack(terms).sum() / len(terms)


def test_scrub_rewinds_to_the_checkpoint_that_errs_like_unseen_data(job: Job) -> None:
    settings = {"ascents": 6, "batch_size": 16, "forget_batch_size": 4, "learning_rate": 0.02, "alpha": 0.1}
    rewound = Scrub(epochs=6, rewind=True, **settings).unlearn(job)  # type: ignore[arg-type]  # numbers of either kind
    epoch, errors, reference = (rewound.details[key] for key in ("epoch", "forget_errors", "reference_error"))
    distances = [abs(error - reference) for error in errors]
    assert len(errors) == 6
    assert min(distances) < max(distances)
    assert distances[epoch - 1] == min(distances)
    last = Scrub(epochs=6, **settings).unlearn(job)  # type: ignore[arg-type]  # as above
    model = copy.deepcopy(job.parent)
    model.load_state_dict(last.state)
    assert _error(job, model) == pytest.approx(errors[-1])
    model.load_state_dict(rewound.state)
    assert _error(job, model) == pytest.approx(errors[epoch - 1])


def test_scrub_lowers_its_rate_after_half_eight_and_nine_tenths() -> None:
    found = [Scrub(learning_rate=1.0)._rate(epoch) for epoch in range(1, 11)]
    assert found == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] + [0.001])


def _error(job: Job, model: nn.Module) -> float:
    samples = job.problem.train
    inputs, targets = samples.batch(FORGET)
    return 1 - float((model(inputs).argmax(1) == targets).double().mean())


def test_bad_teaching(job: Job) -> None:
    # the first batch holds samples of both kinds: a student that is its teacher has only noise for Adam to scale
    state = BadTeaching(learning_rate=1e-2, epochs=2, batch_size=16, temperature=1.5).unlearn(job).state
    able, model, rng = job.parent, copy.deepcopy(job.parent), orders(job)
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        unable = job.problem.build_model()
    kept = np.sort(rng.choice(RETAIN, int(0.3 * len(RETAIN)), replace=False))
    optimizer = slow.Adam(model, 1e-2)
    inputs = job.problem.train.inputs  # type: ignore[attr-defined]  # TensorSamples
    for _ in range(2):
        for chosen in slow.cut(rng.permutation(np.concatenate([FORGET, kept])), 16):
            terms = []
            for i in chosen:
                teacher = unable if i in FORGET else able
                terms.append(slow.divergence(teacher(inputs[i][None])[0].detach(), model(inputs[i][None])[0], 1.5))
            optimizer.step(torch.stack(terms).sum() / (len(chosen) * 3))
    slow.assert_same(state, model, 2e-4)


def test_salun(job: Job) -> None:
    method = SalUn(share=0.3, learning_rate=0.1, epochs=2, batch_size=16)
    outcome = method.unlearn(job)
    model, rng = copy.deepcopy(job.parent), orders(job)
    summed = slow.gradient_of(model, slow.mean_loss(job, model, FORGET))
    everything = torch.cat([value.abs().flatten() for value in summed.values()])
    count = int(0.3 * len(everything))
    bar = everything.sort(descending=True).values[count - 1]
    mask = {name: (value.abs() >= bar).float() for name, value in summed.items()}
    assert sum(int(value.sum()) for value in mask.values()) == count == outcome.details["salient"]
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = slow.Sgd(model, 0.1, 0.9, 5e-4)

    def masked(loss: Tensor) -> None:
        optimizer.step(loss, lambda name, gradient: gradient * mask[name])
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(weight * mask[name] + start[name] * (1 - mask[name]))
                optimizer.velocity[name] *= mask[name]  # theirs clears it; with the weights put back, it has no effect

    for _ in range(2):
        for chosen in slow.cut(rng.permutation(FORGET), 16):
            labels = rng.integers(0, 3, len(chosen))
            losses = [slow.loss_of(job, model, i, int(label)) for i, label in zip(chosen, labels, strict=True)]
            masked(torch.stack(losses).mean())
        for chosen in slow.cut(rng.permutation(RETAIN), 16):
            masked(slow.mean_loss(job, model, chosen))
    slow.assert_same(outcome.state, model)
    frozen = [outcome.state[name][mask[name] == 0] == start[name][mask[name] == 0] for name in start]
    assert all(bool(part.all()) for part in frozen)


def test_amnesiac_relabel(job: Job) -> None:
    state = AmnesiacRelabel(epochs=2, batch_size=16).unlearn(job).state
    model, rng = copy.deepcopy(job.parent), orders(job)
    targets = job.problem.train.targets  # type: ignore[attr-defined]  # TensorSamples
    wrong = {}
    for index, shift in zip(FORGET, rng.integers(1, 3, len(FORGET)), strict=True):
        others = [label for label in (0, 1, 2) if label != int(targets[index])]
        wrong[int(index)] = (int(targets[index]) + int(shift)) % 3
        assert wrong[int(index)] in others
    optimizer = slow.Adam(model, 1e-3)
    for _ in range(2):
        for chosen in slow.cut(rng.permutation(LIVE), 16):
            losses = [slow.loss_of(job, model, i, wrong.get(i)) for i in chosen]
            optimizer.step(torch.stack(losses).mean())
    slow.assert_same(state, model, 2e-4)


def test_msg(job: Job) -> None:
    method = Msg(reset_share=0.3, layers="all", learning_rate=0.05, epochs=3, batch_size=16)
    outcome = method.unlearn(job)
    model, rng = copy.deepcopy(job.parent), orders(job)
    compared = np.sort(rng.choice(RETAIN, len(FORGET), replace=False))
    difference = slow.mean_loss(job, model, compared) - slow.mean_loss(job, model, FORGET)
    gradient = slow.gradient_of(model, difference)
    scale, count = {}, 0
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(job.seed)
        for name, weight in model.named_parameters():
            if weight.ndim < 2:
                continue
            bar = gradient[name].abs().flatten().sort().values[round(0.3 * weight.numel()) - 1]
            small = gradient[name].abs() <= bar
            fresh = torch.randn(weight.shape) * math.sqrt(2 / weight.shape[0])
            weight.copy_(torch.where(small, fresh, weight))
            scale[name], count = small.float() + 0.1 * (~small).float(), count + int(small.sum())
    assert outcome.details["reset"] == count
    optimizer = slow.Sgd(model, 0.05, 0.9, 5e-4)
    for rate in (0.025, 0.05, 0.025):
        optimizer.rate = rate
        for chosen in slow.cut(rng.permutation(RETAIN), 16):
            optimizer.step(
                slow.mean_loss(job, model, chosen), lambda name, value: value * scale.get(name, torch.tensor(1.0))
            )
    slow.assert_same(outcome.state, model)


def test_ct_transposes_and_repairs() -> None:
    job = images()
    settings = {"epochs": 2, "batch_size": 16}
    outcome = Ct(learning_rate=1e-12, **settings).unlearn(job)  # type: ignore[arg-type]  # numbers of either kind
    before = job.parent.state_dict()
    turned = before["1.weight"].swapaxes(2, 3)
    assert not torch.equal(turned, before["1.weight"])
    torch.testing.assert_close(outcome.state["1.weight"], turned)
    torch.testing.assert_close(outcome.state["6.weight"], before["6.weight"])
    repaired = Ct(learning_rate=0.05, **settings).unlearn(job)  # type: ignore[arg-type]  # as above
    assert not torch.allclose(repaired.state["1.weight"], turned, atol=1e-3)


def test_ct_repairs_with_a_cosine() -> None:
    """The network's only convolution is 1x1, so that the transposition itself changes nothing."""

    class Plain(Images):
        def build_model(self) -> nn.Module:
            return nn.Sequential(
                nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(32, self.classes)
            )

    problem = Plain(noise=1.5, recipe=vectors().problem.recipe)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        parent = problem.build_model()
    job = Job(problem, parent, FORGET, RETAIN, vectors().tuning, seed=2)
    state = Ct(learning_rate=0.05, epochs=3, batch_size=16).unlearn(job).state
    model, rng = copy.deepcopy(parent), orders(job)
    optimizer = slow.Sgd(model, 0.05, 0.9, 5e-4)
    for epoch in range(3):
        optimizer.rate = 0.05 * (1 + math.cos(math.pi * epoch / 3)) / 2
        for chosen in slow.cut(rng.permutation(RETAIN), 16):
            optimizer.step(slow.mean_loss(job, model, chosen))
    slow.assert_same(state, model)


def test_networks_that_cannot_be_reset_are_refused(job: Job) -> None:
    with pytest.raises(ValueError, match="no Conv2d layer: there is nothing"):
        Ct().unlearn(job)
    with pytest.raises(ValueError, match="no Conv2d layer to reset"):
        Msg().unlearn(job)

    class Oblong(Images):
        def build_model(self) -> nn.Module:
            return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, (1, 3)), nn.Flatten(), nn.Linear(16, 3))

    problem = Oblong(recipe=job.problem.recipe)
    with pytest.raises(ValueError, match="not square"):
        Ct().unlearn(Job(problem, problem.build_model(), FORGET, RETAIN, job.tuning))


def test_divergence_is_named_and_progress_may_abort(job: Job) -> None:
    with pytest.raises(NonFinite, match=r"lower the learning rate|take smaller steps"):
        NegGradPlus(alpha=0.0, learning_rate=1e30, batch_size=4).unlearn(job)

    class LeaseLost(Exception):
        pass

    def progress(fraction: float, text: str) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        FineTune(batch_size=4).unlearn(Job(job.problem, job.parent, FORGET, RETAIN, job.tuning, progress=progress))


@pytest.mark.parametrize(
    ("method", "faulty"),
    [
        (FineTune, {"learning_rate": 0.0}),
        (NegGradPlus, {"alpha": 1.5}),
        (Scrub, {"temperature": -1.0}),
        (BadTeaching, {"retain_share": 2.0}),
        (SalUn, {"share": -0.1}),
        (AmnesiacRelabel, {"epochs": 0}),
        (Msg, {"layers": "some"}),
        (Ct, {"batch_size": 0}),
    ],
)
def test_faulty_settings_are_refused(method: type, faulty: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="use"):
        method(**faulty)
