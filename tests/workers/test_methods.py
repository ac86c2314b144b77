"""Methods of the registry as rungs: each is told what it lacks, judged like any other, and its records kept true."""

import json
from typing import Any, get_args

import numpy as np
import pytest
import torch
from sqlalchemy import select

from app import batches, policy, runs
from app.db import transaction
from app.policy import PolicyBody
from app.tables import AuditEvent, Decision, Verdict, Version, VersionKind
from tests.workers.conftest import LENIENT, Line, load_clusters, register
from unlearning.gradients import NonFinite, gradient_sum
from unlearning.methods import amnesiac, registry
from unlearning.records import Records
from unlearning.training import restore
from workers import artifacts, methods, pipeline, problems, updates
from workers.rungs import Inapplicable

SUBTRACTION = {"healing_epochs": 0}


def climbing(*ladder: str, **changes: Any) -> PolicyBody:
    return PolicyBody.model_validate(LENIENT.model_dump() | {"ladder": [*ladder, "retrain"]} | changes)


def trained(body: PolicyBody) -> Line:
    load_clusters()
    line = register("net", body)
    line.work()
    return line


def escalations(line: Line) -> list[tuple[str, str, str]]:
    with transaction() as session:
        query = select(AuditEvent.body).where(
            AuditEvent.kind == "batch.escalated", AuditEvent.model_id == line.model_id
        )
        found = [json.loads(body)["data"] for body in session.scalars(query.order_by(AuditEvent.seq))]
    return [(each["rung"], each["to"], each["reasons"][0]) for each in found]


def companion_of(records: Records, sample: int) -> int:
    """Another sample of a step that learned from this one."""
    assert records.steps is not None
    step = records.steps[records.touched(np.array([sample]))[0]]
    return next(int(other) for other in step if other != sample)


def verdict_of(version: Version) -> Verdict:
    with transaction() as session:
        return session.get_one(Verdict, version.verdict_id)


def test_a_policy_may_name_every_method_that_there_is_but_the_one_that_does_nothing() -> None:
    known = {*get_args(policy.Method), "iau", "iau-calibrated", "retrain"}
    assert known == set(registry.BUILT_IN) - {"nothing"}


def test_a_journal_is_taken_back_and_the_records_say_so(database: object) -> None:
    """w - the changes of the steps that saw D_f, to the bit that addition allows; other samples stay covered."""
    recorder = {"journal": True}
    line = trained(climbing("amnesiac", recorder=recorder, methods={"amnesiac": SUBTRACTION}))
    assert line.versions()[0].records_digest is not None
    before = artifacts.load_records(line.versions()[0].records_digest or "")
    line.submit([7])
    line.work()
    first, second = line.versions()
    assert second.kind is VersionKind.UNLEARNED
    assert before.journal is not None
    touched = before.touched(np.array([7]))
    assert len(touched) == 3
    old, new = (artifacts.load_weights(v.weights_digest) for v in (first, second))
    for name, value in new.items():
        expected = old[name] - sum(before.journal[number][name] for number in touched)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    after = artifacts.load_records(second.records_digest or "")
    assert (after.undone, after.lost) == (set(touched), set())
    told = verdict_of(second)
    assert told.rung == "amnesiac"
    assert told.method["settings"]["healing_epochs"] == 0
    assert told.method["journal_undone"] is True
    assert told.method["details"]["undone"] == 3
    companion = companion_of(before, 7)
    left = set(before.touched(np.array([companion]))) - set(touched)
    line.submit([companion])
    line.work()
    third = line.versions()[-1]
    assert third.kind is VersionKind.UNLEARNED
    assert verdict_of(third).method["details"]["undone"] == len(left) < 3


def test_after_an_update_of_another_kind_the_journal_no_longer_covers_its_companions(database: object) -> None:
    line = trained(climbing("iau", recorder={"journal": True}))
    before = artifacts.load_records(line.versions()[0].records_digest or "")
    line.submit([7])
    line.work()
    companion = companion_of(before, 7)
    with transaction() as session:
        body = climbing("amnesiac", methods={"amnesiac": SUBTRACTION}).model_dump(mode="json")
        session.add(policy.Policy(model_id=line.model_id, number=2, body=body, author="operator"))
    line.submit([companion])
    line.work()
    assert line.versions()[-1].kind is VersionKind.RETRAINED
    (told,) = escalations(line)
    assert told == (
        "amnesiac",
        "retrain",
        "amnesiac does not apply: No journal holds every training step that learned from the forget set.",
    )


@pytest.mark.parametrize(
    ("rung", "settings", "sentence"),
    [
        ("amnesiac", {}, "amnesiac does not apply: No journal holds every training step"),
        ("usgd", {}, "usgd does not apply: The weights that training began from were not recorded."),
        ("ct", {}, "ct does not apply: The network has no convolution that it could reset."),
        ("own:mine", {}, "no method 'mine' is installed here"),
        ("scrub", {"magic": 1}, "scrub does not take the policy's settings (magic)"),
        ("ssd", {"alpha": -1}, "ssd does not take the policy's settings (alpha): "),
    ],
)
def test_a_rung_that_does_not_apply_is_passed_over_with_the_reason(
    database: object, rung: str, settings: dict[str, Any], sentence: str
) -> None:
    line = trained(climbing(rung, "iau", methods={rung: settings}))
    line.submit(range(4))
    line.work()
    assert line.versions()[-1].kind is VersionKind.UNLEARNED
    assert verdict_of(line.versions()[-1]).rung == "iau"
    ((frm, to, why),) = escalations(line)
    assert (frm, to) == (rung, "iau")
    assert why.startswith(sentence)


@pytest.mark.parametrize(
    ("rung", "recorder", "settings"),
    [
        ("usgd", {"initial": True}, {"learning_rate": 0.01}),
        ("ssd", {"importance": True}, {"alpha": 1.0}),
        ("fisher", {"fisher": True}, {"alpha": 1e-9}),
        ("ia", {}, {"eta": 0.1}),
        ("iau-released", {}, {}),
        ("fine-tune", {}, {"epochs": 1}),
    ],
)
def test_methods_answer_and_are_judged(
    database: object, rung: str, recorder: dict[str, Any], settings: dict[str, Any]
) -> None:
    line = trained(climbing(rung, recorder=recorder, methods={rung: settings}))
    line.submit(range(4))
    line.work()
    second = line.versions()[-1]
    assert (second.kind, escalations(line)) == (VersionKind.UNLEARNED, [])
    told = verdict_of(second)
    assert (told.rung, told.decision, told.weights_digest) == (rung, Decision.PUBLISH, second.weights_digest)
    assert settings.items() <= told.method["settings"].items()
    assert told.method["source"] == registry.BUILT_IN[rung]().source
    assert (told.method["forget_count"], told.method["retain_count"]) == (4, 396)
    if rung == "ssd":
        assert told.method["details"]["importance_kept"] is True


def test_a_method_whose_weights_are_not_finite_hands_on(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def exploding(*_: object) -> None:
        raise NonFinite("0.weight is infinite or NaN: take smaller steps")

    monkeypatch.setattr(amnesiac.AmnesiacRelabel, "unlearn", exploding)
    line = trained(climbing("amnesiac-relabel"))
    line.submit(range(4))
    line.work()
    assert line.versions()[-1].kind is VersionKind.RETRAINED
    assert escalations(line)[0][2] == (
        "amnesiac-relabel led to no weights: 0.weight is infinite or NaN: take smaller steps"
    )


def test_a_method_reads_nothing_that_others_asked_to_forget(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket that came after the batch closed: neither D_r nor any sum handed to the method holds its samples."""
    line = trained(climbing("ia", recorder={"importance": True}))
    line.submit(range(4))
    with transaction() as session:
        assert batches.close_due(session, line.model_id) is not None
    line.submit(range(100, 140))
    jobs: list[Any] = []
    real = methods.job_for
    monkeypatch.setattr(methods, "job_for", lambda *given: jobs.append(real(*given)) or jobs[-1])
    monkeypatch.setattr(pipeline, "settle", lambda *_: None)
    with transaction() as session:
        lease = runs.claim(session, line.model_id, "tester")
    assert lease is not None
    pipeline.run(lease)
    (job,) = jobs
    assert not np.isin(np.arange(100, 140), job.retain).any()
    assert job.records.importance is None, "it was taken with the samples of the later ticket"
    problem = problems.load("clusters")
    parent = restore(problem, artifacts.load_weights(line.versions()[0].weights_digest))
    live = np.setdiff1d(np.arange(400), np.arange(100, 140))
    expected = gradient_sum(parent, problem, problem.train, live)
    assert job.total.count == 360
    for name, value in expected.vector.items():
        torch.testing.assert_close(job.total.vector[name], value)


def test_the_same_job_gives_the_same_bytes(database: object) -> None:
    line = trained(climbing("salun", methods={"salun": {"epochs": 1}}))
    line.submit(range(4))
    jobs: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        real = updates.by_method
        patch.setattr(updates, "by_method", lambda *given: jobs.append(given) or real(*given))
        line.work()
    context, task, rung = jobs[0]
    again = real(context, task, rung)
    assert artifacts.digest_of(artifacts.weights_bytes(again.state)) == line.versions()[-1].weights_digest


def test_what_an_own_package_says_of_its_settings_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ValueError("subject-4711-secret")

    monkeypatch.setitem(registry.BUILT_IN, "mine", refuse)
    with pytest.raises(Inapplicable) as caught:
        methods.made("own:mine", {"a": 1})
    assert str(caught.value) == "own:mine does not take the policy's settings (a)"
