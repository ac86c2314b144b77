"""The table of labels against the code: every target exists, every step of the pipeline and the publication has one."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.chaos.control import Control
from tests.faults import bugs, evidence, plugin
from tests.faults.labels import BY_NAME, LABELS, Label, Moment
from tests.faults.plugin import LEVERS, Action
from tests.faults.scenarios import SCENARIOS, scenario, ticket
from workers import pipeline, training, updates

OWN = ("app.", "workers.", "unlearning.")
TARGETS = {label.target for label in LABELS}
# Steps that change nothing on which another process could come to rest, so that a kill there is a kill at the step before.
WITHOUT = {
    "app.logs:about", "app.presence:name", "app.tracing:span", "workers.stopping:asked",
    "app.banks:held", "app.coverage:check", "app.db:transaction", "app.lineage:digest", "app.lineage:not_held",
    "app.lineage:tombstoned", "app.policy:Judgement", "app.policy:attempt_error", "app.queue:ring_references",
    "app.runs:Candidate", "app.runs:barred", "app.store:put", "app.sweep:references_due",
    "unlearning.gradients:scores", "unlearning.training:restore", "workers.artifacts:digest_of",
    "workers.artifacts:weights_bytes", "workers.banks:load_bank", "workers.context:Context",
    "workers.methods:by_method", "workers.pulse:Pulse",
    "workers.records:of_training", "workers.torchrun:discard", "workers.torchrun:sweep", "workers.updates:figures",
    "workers.updates:verdict_on",
}  # fmt: skip
STEPS = (
    pipeline.work, pipeline.run, pipeline.climb, pipeline.waits, pipeline.failed, pipeline.settle,
    updates.approximate, updates.publish, training.retrain,
)  # fmt: skip


@pytest.mark.parametrize("target", sorted(TARGETS | set(LEVERS.values()) | set(bugs.TARGETS) | set(evidence.TARGETS)))
def test_what_a_label_names_exists(target: str) -> None:
    name, _, attribute = target.partition(":")
    found: object = importlib.import_module(name)
    for step in attribute.split("."):
        found = getattr(found, step)
    assert callable(found)


def test_names_are_given_once_and_a_commit_needs_a_session() -> None:
    assert len(BY_NAME) == len(LABELS)
    for label in LABELS:
        if label.moment is Moment.COMMITTED:
            function = getattr(importlib.import_module(label.module), label.attribute)
            assert "session" in inspect.signature(function).parameters, label.name


def called(function: object) -> Iterator[str]:
    """What a function of ours calls of ours, as `module:attribute`."""
    assert inspect.isfunction(function)
    module = inspect.getmodule(function)
    assert module is not None
    for node in ast.walk(ast.parse(inspect.getsource(function))):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(name):
                found = getattr(module, name, None)
                home = getattr(found, "__module__", "")
                if found is not None and home.startswith(OWN):
                    yield f"{home}:{name}"
            case ast.Attribute(ast.Name(name), attribute):
                found = getattr(module, name, None)
                if isinstance(found, ModuleType) and found.__name__.startswith(OWN):
                    yield f"{found.__name__}:{attribute}"


def test_nothing_is_excused_that_is_no_step() -> None:
    assert set().union(*(called(function) for function in STEPS)) >= WITHOUT


@pytest.mark.parametrize("function", STEPS, ids=lambda function: function.__name__)
def test_every_step_of_the_pipeline_has_a_label(function: object) -> None:
    """A new step needs a label, or a place in `WITHOUT` if nothing rests on it."""
    steps = set(called(function))
    assert steps & TARGETS
    assert steps - TARGETS - WITHOUT == set()


def test_every_scenario_is_about_labels_and_every_label_has_one() -> None:
    told = [name for _, labels in SCENARIOS.values() for name in labels]
    assert len(set(told)) == len(told)
    assert set(told) <= BY_NAME.keys()
    assert {scenario(label.name)[0] for label in LABELS} == {*SCENARIOS, ticket}


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    monkeypatch.setenv("EXPUNGE_FAULTS", str(tmp_path))
    return Control(tmp_path)


def test_a_fault_fires_once_where_it_is_armed_and_always_until_it_is_healed(control: Control) -> None:
    once = control.arm("store.put", Action.FULL)
    plugin.fire("message.send")
    assert control.fired(once) == []
    with pytest.raises(OSError, match="No space left"):
        plugin.fire("store.put")
    plugin.fire("store.put")
    assert len(control.fired(once)) == 1
    control.arm("store.put", Action.FAIL, always=True)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            plugin.fire("store.put")
    control.heal()
    plugin.fire("store.put")


def test_a_function_is_met_before_and_after_and_called_twice_on_demand(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []
    monkeypatch.setattr(plugin, "reached", lambda label: met.append(label.name))
    before, after = (Label(moment, "x:y", moment) for moment in (Moment.BEFORE, Moment.AFTER))
    yields = Label("yields", "x:y", Moment.AFTER, yields=True)
    call = plugin.wrapped([before, after, yields], ["message.send"], lambda value: met.append("called") or value)
    assert call(0) == 0
    assert met == ["before", "called", "after"]
    control.arm("message.send", Action.TWICE)
    assert call(1) == 1
    assert met[3:] == ["before", "called", "called", "after", "yields"]
