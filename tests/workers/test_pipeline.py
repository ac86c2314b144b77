"""The main job inside one process: claim, update, judge, publish, retrain, and what goes wrong on the way."""

import re
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import func, select, update

from app import audit, batches, runs, store, tickets
from app.config import settings
from app.db import transaction
from app.errors import Gone
from app.policy import Judgement, PolicyBody, Settle
from app.tables import (
    AuditEvent,
    Batch,
    BatchState,
    Decision,
    Model,
    Reason,
    RiskTier,
    TicketState,
    Verdict,
    Version,
    VersionKind,
)
from tests.workers.conftest import EAGER, LENIENT, STRICT, Line, load_clusters, register
from unlearning.gradients import scores
from unlearning.splits import split_unseen
from unlearning.training import TrainedModel, state_of
from workers import artifacts, pipeline, problems, rungs, torchrun, updates
from workers import training as worker_training
from workers.context import Context
from workers.pulse import Pulse


def verdicts(line: Line) -> list[Verdict]:
    with transaction() as session:
        query = select(Verdict).join(Batch, Batch.id == Verdict.batch_id).where(Batch.model_id == line.model_id)
        return list(session.scalars(query.order_by(Verdict.id)))


def read_by_tests() -> set[int]:
    found: set[int] = import_module("test_problems").READ
    return found


def test_the_first_training_publishes_version_one(lenient: Line) -> None:
    (version,) = lenient.versions()
    assert (version.number, version.kind, version.excluded_count, version.parent_id) == (
        1,
        VersionKind.TRAINED,
        0,
        None,
    )
    assert store.get(version.weights_digest)
    assert version.environment["torch"] == torch.__version__
    assert lenient.batch().state is BatchState.PUBLISHED


def test_an_update_publishes_and_fulfils_the_ticket(lenient: Line) -> None:
    ticket_id = lenient.submit(range(40))
    lenient.work()
    first, second = lenient.versions()
    assert (second.kind, second.parent_id, second.forgotten, second.excluded_count) == (
        VersionKind.UNLEARNED,
        first.id,
        40,
        40,
    )
    assert second.weights_digest != first.weights_digest
    ticket = lenient.ticket(ticket_id)
    assert ticket.state is TicketState.FULFILLED
    assert ticket.obligations[0].version_id == second.id
    assert ticket.data_removed_at is not None
    assert ticket.data_releasable_at is None  # until a retrain has measured the true UE
    (_, verdict) = verdicts(lenient)
    assert (verdict.rung, verdict.decision, verdict.weights_digest) == ("iau", Decision.PUBLISH, second.weights_digest)
    assert {"mu", "ue", "exposure_before", "exposure", "residual", "worst_class", "recall"} <= set(verdict.statistics)


def test_an_update_is_repeatable_to_the_byte(lenient: Line) -> None:
    lenient.submit(range(40))
    lenient.work()
    parent, child = lenient.versions()
    context, forget = context_for(lenient, parent), np.arange(40)
    nobody = np.array([], dtype=np.int64)
    again = rungs.by_iau(context, rungs.Task(forget, nobody, rungs.prepare(context, context.parent, nobody), 0.0))
    assert artifacts.digest_of(artifacts.weights_bytes(again.state)) == child.weights_digest


def test_the_second_rung_answers_where_the_first_does_not(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rung's verdict is made to fail; the second publishes, and both attempts are on record, repeatable."""
    load_clusters()
    line = register("net", LENIENT)
    line.work()
    judged: list[str] = []

    def only_the_second(*_: Any) -> Any:
        judged.append("")
        second = len(judged) == 2
        return Judgement(Decision.PUBLISH if second else Decision.INCONCLUSIVE, ["as the test wants it"])

    monkeypatch.setattr(updates.policy, "judge", only_the_second)
    ticket_id = line.submit(range(40))
    line.work()
    parent, child = line.versions()
    assert child.kind is VersionKind.UNLEARNED
    assert line.ticket(ticket_id).state is TicketState.FULFILLED
    _, first, second = verdicts(line)
    assert [(v.rung, v.decision) for v in (first, second)] == [
        ("iau", Decision.INCONCLUSIVE),
        ("iau-calibrated", Decision.PUBLISH),
    ]
    assert second.weights_digest == child.weights_digest
    assert "prepare" in first.seconds
    assert "prepare" not in second.seconds
    assert {"settings", "steps", "stopped", "looks", "forget_sha256"} <= set(second.method)
    context = context_for(line, parent)
    nobody = np.empty(0, dtype=np.int64)
    task = rungs.Task(np.arange(40), nobody, rungs.prepare(context, context.parent, nobody), 0.0)
    again = rungs.by_calibrated(context, task)
    assert artifacts.digest_of(artifacts.weights_bytes(again.state)) == child.weights_digest


def test_no_rung_reads_what_somebody_else_asked_to_forget(database: object) -> None:
    """A ticket that comes after the batch has closed: its samples serve neither as retained nor as members."""
    load_clusters()
    line = register("net", PolicyBody.model_validate(LENIENT.model_dump() | {"ladder": ["iau-calibrated", "retrain"]}))
    line.work()
    line.submit(range(40))
    with transaction() as session:
        assert batches.close_due(session, line.model_id) is not None
    line.submit(range(100, 140))
    read_by_tests().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "settle", lambda *_: None)
        patch.setattr(updates.policy, "judge", lambda *_: Judgement(Decision.PUBLISH, ["as the test wants it"]))
        with transaction() as session:
            lease = runs.claim(session, line.model_id, "tester")
        assert lease is not None
        pipeline.run(lease)
    assert line.versions()[-1].kind is VersionKind.UNLEARNED
    assert read_by_tests() >= set(range(40))
    assert not read_by_tests() & set(range(100, 140))


def context_for(line: Line, parent: Version) -> Any:
    """A context as a run on `parent` would have it, with its gradient sum to be computed anew."""
    with transaction() as session:
        model = session.get_one(Model, line.model_id)
        batch = session.scalars(
            select(Batch).where(Batch.model_id == model.id).order_by(Batch.created_at.desc())
        ).first()
        assert batch is not None
        lease = runs.Lease(
            batch.id, 0, 1, batch.kind, model.id, model.name, model.problem, model.dataset_id,
            model.dataset.manifest_digest, runs.Parent(parent.id, parent.number, parent.weights_digest, None), LENIENT,
        )  # fmt: skip
    pulse = Pulse(lease)
    pulse.shown = float("inf")
    return Context(lease, pulse)


def test_what_does_not_pass_is_retrained_and_measured(strict: Line) -> None:
    ticket_id = strict.submit(range(40))
    strict.work()
    _, second = strict.versions()
    assert second.kind is VersionKind.RETRAINED
    _, tried, further, exact = verdicts(strict)
    assert (tried.rung, further.rung) == ("iau", "iau-calibrated")
    assert further.decision is not Decision.PUBLISH
    assert further.truth is not None
    assert tried.decision is not Decision.PUBLISH
    assert exact.rung == "retrain"
    assert tried.truth is not None
    assert set(tried.truth) >= {"mu", "ue", "estimated_mu", "estimated_ue"}
    assert tried.truth_version_id == second.id
    ticket = strict.ticket(ticket_id)
    assert ticket.state is TicketState.FULFILLED
    assert ticket.data_releasable_at is not None
    with transaction() as session:
        kinds = set(session.scalars(select(AuditEvent.kind).where(AuditEvent.batch_id == second.batch_id)))
        assert {"batch.escalated", "verdict.recorded", "version.published", "truth.measured"} <= kinds
        assert audit.verify(session).fault is None


def test_the_truth_is_the_plain_difference_to_the_retrain(strict: Line) -> None:
    strict.submit(range(40))
    strict.work()
    _, tried, *_ = verdicts(strict)
    assert tried.truth is not None
    problem = problems.load("clusters")
    retrained = updates.restore(problem, artifacts.load_weights(strict.versions()[1].weights_digest))
    _, audit_data = split_unseen(problem)
    test = scores(retrained, problem, audit_data.test)
    assert tried.truth["mu"] == pytest.approx(tried.statistics["accuracy"]["estimate"] - test.correct_N.mean())
    forget = scores(retrained, problem, problem.train, np.arange(40))
    recall = (forget.losses_N <= tried.statistics["attack_threshold"]["estimate"]).mean()
    assert tried.truth["ue"] == pytest.approx(tried.statistics["recall"]["estimate"] - recall)


def test_a_retrain_reads_no_tombstoned_sample(lenient: Line) -> None:
    lenient.submit(range(100, 140))
    lenient.work()
    read_by_tests().clear()
    with transaction() as session:  # a ticket that no batch has taken yet is left out as well
        session.execute(update(Model).values(held="for the test"))
    lenient.submit(range(200, 210))
    trained: list[set[int]] = []
    real = torchrun.train

    def spy(problem: Any, indices: Any, *rest: Any, **named: Any) -> Any:
        read_by_tests().clear()
        made = real(problem, indices, *rest, **named)
        trained.append(set(read_by_tests()))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchrun, "train", spy)
        lenient.retrain()
    assert trained == [set(range(400)) - set(range(100, 140)) - set(range(200, 210))]


def test_a_ticket_that_comes_while_a_retrain_runs_goes_to_the_next_batch(lenient: Line) -> None:
    real = torchrun.train
    late = []

    def slow(*arguments: Any, **named: Any) -> Any:
        late.append(lenient.submit(range(40)))
        return real(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchrun, "train", slow)
        lenient.retrain()
    versions = lenient.versions()
    assert [v.kind for v in versions] == [VersionKind.TRAINED, VersionKind.RETRAINED, VersionKind.UNLEARNED]
    assert versions[1].excluded_count == 0
    assert lenient.ticket(late[0]).obligations[0].version_id == versions[2].id


@pytest.mark.parametrize(
    ("tier", "reason"),
    [(RiskTier.HIGH, Reason.OTHER), (RiskTier.LOW, Reason.UNLAWFUL_TRAINING)],
    ids=["high tier", "unlawful"],
)
def test_some_tickets_get_no_approximate_answer(lenient: Line, tier: RiskTier, reason: Reason) -> None:
    lenient.submit(range(5), tier, reason)
    lenient.work()
    assert lenient.versions()[1].kind is VersionKind.RETRAINED
    assert all(verdict.rung == "retrain" for verdict in verdicts(lenient))


def test_an_update_that_does_nothing_is_not_published(database: object) -> None:
    load_clusters()
    body = LENIENT.model_dump() | {"update": {"eta": 1e-300}, "ladder": ["iau", "retrain"]}
    line = register("idle", PolicyBody.model_validate(body))
    line.work()
    line.submit(range(40))
    line.work()
    assert line.versions()[1].kind is VersionKind.RETRAINED
    assert verdicts(line)[1].reasons == ["the update left the weights as they were"]


def test_an_update_that_does_next_to_nothing_is_not_published(database: object) -> None:
    """The bytes differ, MU and UE are as wide as can be: what is left of the exposure gives it away."""
    load_clusters()
    body = LENIENT.model_dump() | {
        "update": {"eta": 1e-6}, "accept_undetectable": False, "ladder": ["iau", "retrain"]
    }  # fmt: skip
    line = register("idle", PolicyBody.model_validate(body), "memorised")
    line.work()
    line.submit(range(0, 400, 5))
    line.work()
    tried = verdicts(line)[1]
    assert tried.statistics["exposure_before"]["low"] > 0, "the test needs a set that was learnt by heart"
    assert tried.decision is not Decision.PUBLISH
    assert line.versions()[1].kind is VersionKind.RETRAINED


def test_two_models_each_answer_for_themselves(lenient: Line) -> None:
    other = register("other", STRICT)
    other.work()
    ticket_id = lenient.submit(range(40))
    lenient.work()
    assert lenient.ticket(ticket_id).state is TicketState.WORKING
    other.work()
    ticket = lenient.ticket(ticket_id)
    assert ticket.state is TicketState.FULFILLED
    assert {o.version.kind for o in ticket.obligations if o.version} == {VersionKind.UNLEARNED, VersionKind.RETRAINED}


def test_the_gradient_sum_is_cached_and_saves_the_pass_over_the_training_set(lenient: Line) -> None:
    (version,) = lenient.versions()
    assert version.gradients_digest is not None
    watched = artifacts.load_prepared(version.gradients_digest, torch.device("cpu")).standing.rating_N
    lenient.submit(range(40))
    read_by_tests().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "settle", lambda *_: None)
        lenient.work()
    assert read_by_tests() == set(range(40)) | set(watched.tolist())  # the latter by forward passes alone


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_gradient_sum_that_cannot_be_used_is_computed_again(lenient: Line, harm: str) -> None:
    digest = lenient.versions()[0].gradients_digest
    assert digest is not None
    path = settings().home / "artifacts" / store.path(digest)
    path.unlink() if harm == "gone" else path.write_bytes(b"\0" + path.read_bytes()[1:])
    lenient.submit(range(40))
    lenient.work()
    assert lenient.versions()[1].kind is VersionKind.UNLEARNED


def test_a_sum_computed_without_a_pending_sample_gives_the_same_update(lenient: Line) -> None:
    """The sum leaves out what was tombstoned when it was made; the update adds what it needs of D_f."""
    parent = lenient.versions()[0]
    context = context_for(lenient, parent)
    forget = np.arange(40)
    whole = rungs.prepare(context, context.parent, np.array([], dtype=np.int64)).total
    lenient.submit(forget.tolist())
    apart = rungs.task_for(context, forget).prepared.total
    assert apart.count == whole.count
    for name, value in whole.vector.items():
        assert torch.allclose(apart.vector[name], value, rtol=1e-5, atol=1e-6)


def test_what_was_prepared_comes_back_as_it_was(lenient: Line) -> None:
    (version,) = lenient.versions()
    context, nobody = context_for(lenient, version), np.array([], dtype=np.int64)
    made = rungs.prepare(context, context.parent, nobody).difficulty
    assert version.gradients_digest is not None
    kept = artifacts.load_prepared(version.gradients_digest, context.device).difficulty
    assert made is not None
    assert kept is not None
    assert kept.layer == made.layer
    for name in ("gram", "cross"):
        assert torch.equal(getattr(kept, name), getattr(made, name))
    for name in ("classes_C", "fitted_N", "learnt_N", "learnt_margins_N", "learnt_losses_N"):
        assert np.array_equal(getattr(kept, name), getattr(made, name))


def test_a_heartbeat_that_meets_the_publication_keeps_no_version_from_being_prepared(
    lenient: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the batch's row, and then finds the batch published: nobody has lost it."""
    publish = updates.publish

    def and_beat(context: Context, *more: Any, **named: Any) -> Version:
        version = publish(context, *more, **named)
        context.pulse._renew()
        return version

    monkeypatch.setattr(updates, "publish", and_beat)
    lenient.submit(range(40))
    lenient.work()
    _, second = lenient.versions()
    assert second.kind is VersionKind.UNLEARNED
    assert second.gradients_digest is not None


def test_models_that_were_trained_alike_share_what_was_prepared_until_the_last(lenient: Line) -> None:
    twin = register("twin", LENIENT)
    twin.work()
    digest = lenient.versions()[0].gradients_digest
    assert digest is not None
    assert twin.versions()[0].gradients_digest == digest
    lenient.submit(range(40))  # one manifest: both models forget
    lenient.work()
    assert store.get(digest)
    twin.work()
    with pytest.raises(Gone):
        store.get(digest)


def test_damaged_weights_stop_the_batch_with_a_sentence(lenient: Line) -> None:
    path = settings().home / "artifacts" / store.path(lenient.versions()[0].weights_digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    ticket_id = lenient.submit(range(40))
    lenient.work()
    batch = lenient.batch()
    assert batch.state is BatchState.QUARANTINED
    assert batch.failure is not None
    assert "altered on disk" in batch.failure
    assert len(lenient.versions()) == 1
    assert lenient.ticket(ticket_id).state is TicketState.QUARANTINED


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        ("reordered", "not those of the dataset's manifest"),
        ("missing", "is installed with this worker"),
    ],
)
def test_a_set_up_that_does_not_fit_is_refused_at_once(database: object, problem: str, sentence: str) -> None:
    load_clusters()
    line = register("misfit", LENIENT, problem)
    line.work()
    batch = line.batch()
    assert (batch.state, batch.attempt) == (BatchState.QUARANTINED, 1)
    assert batch.failure is not None
    assert sentence in batch.failure


@pytest.mark.parametrize(
    ("problem", "pattern"), [("broken", r"RuntimeError in \w+\.py:\d+"), ("diverging", r"loss is not finite")]
)
def test_a_problem_that_fails_is_tried_again_and_then_held(
    database: object, problem: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_RETRY_SECONDS", "0")
    settings.cache_clear()
    load_clusters()
    line = register("failing", LENIENT, problem)
    line.work()
    batch = line.batch()
    assert (batch.state, batch.attempt) == (BatchState.QUARANTINED, 3)
    assert batch.failure is not None
    assert re.search(pattern, batch.failure)
    assert line.versions() == []


def test_a_poison_ticket_is_isolated_and_its_text_is_not_repeated(
    lenient: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_RETRY_SECONDS", "0")
    monkeypatch.setenv("EXPUNGE_TEST_POISON", "77")
    settings.cache_clear()
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # the poison is in D_f alone, or every reading of the rest would meet it
        patch.setattr(rungs, "stand", clean_stand(rungs.stand))
        tickets = [lenient.submit(range(start, start + 10)) for start in (40, 50, 60, 70)]
        lenient.work()
    states = [lenient.ticket(ticket).state for ticket in tickets]
    assert states == [TicketState.FULFILLED, TicketState.FULFILLED, TicketState.FULFILLED, TicketState.QUARANTINED]
    with transaction() as session:
        log = "".join(session.scalars(select(AuditEvent.body)))
    assert "subject-4711" not in log
    assert "RuntimeError in test_problems.py" in log


def clean_stand(real: Any) -> Any:
    def stand(model: Any, problem: Any, live: Any, *rest: Any) -> Any:
        return real(model, problem, np.setdiff1d(live, [77]), *rest)

    return stand


def test_a_run_that_lost_its_lease_publishes_nothing(lenient: Line) -> None:
    lenient.submit(range(40))
    real = updates.store.put
    taken = []

    def overtaken(data: bytes) -> str:
        """Just before the publication, another worker takes the batch over and finishes it."""
        if not taken:
            taken.append(True)
            lenient.expire_lease()
            lenient.work()
        return real(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates.store, "put", overtaken)
        lenient.work()
    assert [v.number for v in lenient.versions()] == [1, 2]
    with transaction() as session:
        published = session.scalars(select(AuditEvent.seq).where(AuditEvent.kind == "version.published")).all()
        assert len(published) == 2
        assert audit.verify(session).fault is None


def test_a_retrain_takes_over_a_batch_that_waits(lenient: Line) -> None:
    """The retrain leaves the samples out, so the batch that held them has nothing left to forget."""
    ticket_id = lenient.submit(range(40))
    with transaction() as session:
        waiting = batches.close_due(session, lenient.model_id)
        assert waiting is not None
        session.execute(update(Batch).where(Batch.id == waiting.id).values(not_before=func.now() + timedelta(hours=1)))
    lenient.retrain()
    assert [v.kind for v in lenient.versions()] == [VersionKind.TRAINED, VersionKind.RETRAINED]
    assert lenient.ticket(ticket_id).obligations[0].version_id == lenient.versions()[1].id
    assert {b.state for b in lenient.batches()} == {BatchState.PUBLISHED, BatchState.CANCELLED}


def test_a_retrain_that_is_no_use_is_held_for_an_operator(strict: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "train", untrained)
    strict.retrain()
    batch = strict.batch()
    assert batch.state is BatchState.QUARANTINED
    assert batch.failure is not None
    assert "an operator must look" in batch.failure
    assert len(strict.versions()) == 1
    monkeypatch.undo()
    with transaction() as session:
        batches.retry(session, batch.id, "operator")
    strict.work()
    assert len(strict.versions()) == 2


def untrained(problem: Any, *_: Any, **__: Any) -> Any:
    torch.manual_seed(0)
    return TrainedModel(state_of(problem.build_model()), [])


def test_the_drift_budget_sends_the_next_batch_to_a_retrain(database: object) -> None:
    load_clusters()
    body = LENIENT.model_dump() | {"drift": {"max_updates": 1}, "batching": EAGER}
    line = register("drifting", PolicyBody.model_validate(body))
    line.work()
    first_ticket = line.submit(range(40))
    line.work()
    assert line.ticket(first_ticket).data_releasable_at is None
    line.submit(range(200, 220))
    line.work()
    assert [v.kind for v in line.versions()] == [VersionKind.TRAINED, VersionKind.UNLEARNED, VersionKind.RETRAINED]
    _, first_update, _ = verdicts(line)
    assert first_update.truth is not None  # the published update is measured against the later retrain
    assert line.ticket(first_ticket).data_releasable_at is not None


def test_a_destroyed_sample_leaves_mu_measured_and_ue_unknown_with_the_reason(
    strict: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worker_training.scores

    def scores_of_what_is_left(model: Any, problem: Any, samples: Any, *indices: Any) -> Any:
        return destroyed() if samples is problem.train else real(model, problem, samples, *indices)

    monkeypatch.setattr(worker_training, "scores", scores_of_what_is_left)
    strict.submit(range(40))
    strict.work()
    tried = verdicts(strict)[1]
    assert tried.truth is not None
    assert tried.truth["ue"] is None
    assert tried.truth["why_no_ue"] == "the samples could not be read again (FileNotFoundError)"
    assert isinstance(tried.truth["mu"], float)


def destroyed() -> None:
    raise FileNotFoundError("subject-4711-secret.png")


def test_a_tickets_timeline_tells_of_its_batch_and_of_nobody_else(lenient: Line) -> None:
    mine, other = lenient.submit(range(40)), lenient.submit(range(40, 60))
    lenient.work()
    with transaction() as session:
        events = tickets.timeline(session, tickets.get(session, "client", mine))
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "ticket.accepted"
    assert {"batch.closed", "run.claimed", "verdict.recorded", "version.published", "ticket.fulfilled"} <= set(kinds)
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    assert str(other) not in str(events)


def judged(monkeypatch: pytest.MonkeyPatch, *judgements: Judgement) -> list[str]:
    """Let the policy judge as told, verdict after verdict, the last for ever; returns a list that grows by each."""
    left, asked = list(judgements), list[str]()

    def judge(*_: Any) -> Judgement:
        asked.append("")
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(updates.policy, "judge", judge)
    return asked


PASSES = Judgement(Decision.PUBLISH, ["for the test"])
OPEN = Judgement(Decision.INCONCLUSIVE, ["the interval crosses the threshold"])
BEYOND = Judgement(Decision.ESCALATE, ["wholly above"], Settle("larger_batch", "never asked", samples=60))
LARGER = replace(OPEN, settle=Settle("larger_batch", "with 60 samples it could be told", samples=60))
PATIENT = LENIENT.model_dump() | {"inconclusive": {"wait_seconds": 3600}}


@pytest.fixture
def patient(database: object) -> Line:
    """A trained model whose tickets may wait for an hour."""
    load_clusters()
    line = register("patient", PolicyBody.model_validate(PATIENT))
    line.work()
    return line


def test_an_inconclusive_batch_waits_for_samples_and_is_judged_anew(
    patient: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(monkeypatch, OPEN, LARGER, PASSES)
    first = patient.submit(range(40))
    patient.work()
    assert len(patient.versions()) == 1
    assert patient.batch().state is BatchState.CANCELLED
    assert patient.ticket(first).state is TicketState.PENDING
    second = patient.submit(range(100, 120))
    patient.work()
    _, child = patient.versions()
    assert (child.kind, child.forgotten) == (VersionKind.UNLEARNED, 60)
    assert {patient.ticket(ticket).state for ticket in (first, second)} == {TicketState.FULFILLED}
    assert [v.thresholds["attempt"] for v in verdicts(patient)[1:]] == [1, 2, 1]
    with transaction() as session:
        assert audit.verify(session).fault is None
        kinds = set(session.scalars(select(AuditEvent.kind)))
    assert {"batch.deferred", "model.held", "model.released"} <= kinds


@pytest.mark.parametrize(
    "last",
    [BEYOND, OPEN, replace(OPEN, settle=Settle("retrain", "nothing else"))],
    ids=["beyond", "no wish", "retrain"],
)
def test_what_no_wait_settles_is_retrained_at_once(
    patient: Line, monkeypatch: pytest.MonkeyPatch, last: Judgement
) -> None:
    """Nor does the first rung's wish count: the second rung was its answer."""
    judged(monkeypatch, LARGER, last)
    patient.submit(range(40))
    patient.work()
    assert patient.versions()[-1].kind is VersionKind.RETRAINED


def test_a_wait_in_vain_ends_in_a_retrain(patient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, LARGER)
    ticket_id = patient.submit(range(40))
    patient.work()
    with transaction() as session:
        batches.flush(session, session.get_one(Model, patient.model_id), "operator")
    patient.work()
    assert patient.versions()[-1].kind is VersionKind.RETRAINED
    assert "waited in vain for 60 samples" in patient.batch().why
    assert patient.ticket(ticket_id).state is TicketState.FULFILLED


def test_a_stop_between_verdict_and_publication_leads_to_a_retrain(
    lenient: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = judged(monkeypatch, PASSES)
    real = updates.store.put

    def stopping(data: bytes) -> str:
        """Just before the publication somebody, or something, stops the model."""
        with transaction() as session:
            runs.stop_publishing(session, lenient.model_id, "coverage is short")
        return real(data)

    monkeypatch.setattr(updates.store, "put", stopping)
    ticket_id = lenient.submit(range(40))
    lenient.work()
    _, child = lenient.versions()
    assert child.kind is VersionKind.RETRAINED
    assert len(asked) == 1, "the second rung is not even tried"
    assert lenient.ticket(ticket_id).obligations[0].version_id == child.id


def test_a_run_after_a_crash_gets_no_third_attempt(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is lost after its first verdict; the second comes to other bytes, as a GPU may."""
    monkeypatch.setenv("EXPUNGE_RETRY_SECONDS", "0")
    settings.cache_clear()
    judged(monkeypatch, OPEN)
    real, runs_of_it = rungs.RUNGS["iau"], list[str]()

    def differing(context: Any, task: Any) -> Any:
        updated = real(context, task)
        runs_of_it.append("")
        moved = {name: value + 1e-6 * len(runs_of_it) for name, value in updated.state.items()}
        return replace(updated, state=moved)

    def lost(*_: Any) -> Any:
        raise OSError

    monkeypatch.setitem(rungs.RUNGS, "iau", differing)
    monkeypatch.setitem(rungs.RUNGS, "iau-calibrated", lost)
    lenient.submit(range(40))
    lenient.work()
    assert [v.rung for v in verdicts(lenient)[1:]] == ["iau", "iau", "retrain"]
    assert [v.thresholds["attempt"] for v in verdicts(lenient)[1:3]] == [1, 2]
    assert lenient.versions()[-1].kind is VersionKind.RETRAINED
    with transaction() as session:
        told = session.scalars(select(AuditEvent.body).where(AuditEvent.kind == "batch.escalated")).all()
    assert any(runs.SPENT in event for event in told)


def test_the_expected_false_publications_send_the_next_batch_to_a_retrain(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_clusters()
    body = LENIENT.model_dump() | {"drift": {"false_publishes": 0.09}}
    line = register("erring", PolicyBody.model_validate(body))
    line.work()
    judged(monkeypatch, PASSES)
    for start in (0, 20):
        line.submit(range(start, start + 20))
        line.work()
    assert [v.kind for v in line.versions()[1:]] == [VersionKind.UNLEARNED, VersionKind.RETRAINED]
    assert "with this update 0.1 of the publications" in line.batch().why
