"""Which methods apply to a version, why the others do not, and in what order they come."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from tests.unlearning.methods.settings import LIVE, fresh, images, vectors, without_records
from unlearning.methods import registry
from unlearning.methods.amnesiac import Amnesiac
from unlearning.methods.fisher import FisherScrub
from unlearning.methods.nothing import Nothing
from unlearning.methods.planner import Available, Entry, available_for, plan, sizes_for
from unlearning.methods.protocol import Need, Sizes
from unlearning.methods.ssd import Ssd
from unlearning.methods.usgd import Usgd

SIZES = Sizes(forget=100, retain=9_900, tuning=1_000, parameters=61_706, classes=10, epochs=40, batch_size=64)
METHODS = [factory() for factory in registry.BUILT_IN.values()]


@dataclass(frozen=True)
class _Choosy(Nothing):
    name: ClassVar[str] = "choosy"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SPECIAL_TRAINING, Need.CLASS_ONLY})


def reasons(available: Available) -> dict[str, str]:
    return {entry.name: entry.reason for entry in plan(METHODS, available, SIZES)}


def test_with_everything_at_hand_all_apply_the_cheapest_first() -> None:
    everything = Available(True, True, True, True, True, True, True, True, True, True, True)
    entries = plan(METHODS, everything, SIZES)
    assert len(entries) == len(METHODS)
    assert all(entry.applies and entry.reason == "" for entry in entries)
    work = [entry.cost.gradient_samples + entry.cost.forward_samples / 3 for entry in entries]
    assert work == sorted(work)
    order = [entry.name for entry in entries]
    assert order[0] == "nothing"
    assert order[-1] == "retrain"
    assert order.index("iau-released") < order.index("iau") < order.index("fine-tune") < order.index("retrain")


def test_what_a_plain_version_lacks_is_said_in_one_sentence_each() -> None:
    found = reasons(Available(gradient_sum=False, convolutions=True))
    assert found["iau"] == "The gradient sum over the training set at this version's weights has not been computed."
    assert found["usgd"] == "The weights that training began from were not recorded."
    assert found["amnesiac"] == "No journal holds every training step that learned from the forget set."
    assert {name for name, reason in found.items() if reason} == {"iau", "ia", "iau-released", "usgd", "amnesiac"}
    assert all(reason.count(".") == 1 for reason in found.values() if reason)


def test_without_retain_data_the_recorded_sums_still_serve() -> None:
    bare = Available(retain_data=False, gradient_sum=True, fisher=True, importance=True)
    entries = {entry.name: entry for entry in plan(METHODS, bare, SIZES)}
    assert {name for name, entry in entries.items() if entry.applies} == {
        "nothing",
        "iau",
        "ia",
        "iau-released",
        "fisher",
        "ssd",
    }
    assert entries["retrain"].reason == "It trains on retained samples, and they cannot be read."
    lost = plan([FisherScrub(), Ssd()], replace(bare, fisher=False, importance=False), SIZES)
    assert not any(entry.applies for entry in lost)


def test_those_that_do_not_apply_come_last() -> None:
    entries = plan(METHODS, Available(retain_data=False), SIZES)
    applies = [entry.applies for entry in entries]
    assert applies == sorted(applies, reverse=True)
    assert not all(applies)


@pytest.mark.parametrize(
    ("lacking", "names"),
    [
        ("convolutions", {"ct", "msg"}),
        ("sgd_training", {"usgd"}),
        ("classification", {"bad-teaching", "amnesiac-relabel", "fisher", "scrub", "salun"}),
        ("tuning_data", {"iau", "iau-calibrated", "ia"}),
    ],
)
def test_one_lack_rules_out_those_that_need_it(lacking: str, names: set[str]) -> None:
    everything = Available(True, True, True, True, True, True, True, True, True, True, True)
    found = reasons(replace(everything, **{lacking: False}))
    assert {name for name, reason in found.items() if reason} == names


def test_needs_follow_the_settings() -> None:
    bare = Available(retain_data=False, initial_weights=True, update_journal=True)
    entries = plan([Amnesiac(), Amnesiac(healing_epochs=0), Usgd(), Usgd(learning_rate=0.1)], bare, SIZES)
    assert [(entry.name, entry.applies) for entry in entries].count(("amnesiac", True)) == 1
    assert [(entry.name, entry.applies) for entry in entries].count(("usgd", True)) == 1


def test_special_training_and_whole_classes_are_for_those_that_ask() -> None:
    def only(available: Available) -> Entry:
        return plan([_Choosy()], available, SIZES)[0]

    assert only(Available(whole_classes=True)).reason == "The parent was not trained in the way that this method needs."
    assert only(Available(special_training=frozenset({"other"}), whole_classes=True)).applies is False
    trained = Available(special_training=frozenset({"choosy"}))
    assert only(trained).reason == "The forget set is not made of whole classes."
    assert only(replace(trained, whole_classes=True)).applies


def test_recorded_sums_make_a_method_as_cheap_as_its_forget_set() -> None:
    for method, kept in ((Ssd(), {"importance_kept": True}), (FisherScrub(), {"fisher_kept": True})):
        before, after = method.cost(SIZES), method.cost(replace(SIZES, **kept))  # type: ignore[arg-type]  # two flags
        assert after.gradient_samples < before.gradient_samples / 50
        assert after.gradient_samples == method.cost(replace(SIZES, retain=10**6, **kept)).gradient_samples  # type: ignore[arg-type]  # as above
        assert after.stored_bytes == 8 * SIZES.parameters


def test_what_a_job_brings_along() -> None:
    job = images()
    assert available_for(job) == Available(True, True, True, True, True, True, True, False, True, True, True)
    bare = available_for(without_records(replace(job, total=None)))
    assert not any(
        (bare.gradient_sum, bare.initial_weights, bare.update_journal, bare.fisher, bare.importance, bare.whole_classes)
    )
    assert not available_for(vectors()).convolutions
    wanting = [_Choosy()]
    ones = LIVE[job.problem.train.targets.numpy()[LIVE] == 1]  # type: ignore[attr-defined]  # TensorSamples
    whole = replace(job, forget=ones, retain=np.setdiff1d(LIVE, ones))
    assert available_for(whole, wanting).whole_classes
    assert not available_for(job, wanting).whole_classes
    assert not available_for(fresh(whole), METHODS).whole_classes  # nobody asks: nothing is read
    assert len(whole.problem.train.read) == 1  # type: ignore[attr-defined]  # Watched
    sizes = sizes_for(job, 3)
    assert (sizes.forget, sizes.retain, sizes.classes, sizes.epochs, sizes.batch_size) == (5, 51, 3, 4, 16)
    assert (sizes.fisher_kept, sizes.importance_kept) == (True, True)
    assert sizes.parameters == sum(value.numel() for value in job.parent.parameters())
    assert sizes.vector_bytes == 4 * sizes.parameters
