"""References trained, scored and thrown away; the table they leave, and that no forgotten sample outlives its version there."""

import json
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import audit, banks, lineage, policy, queue, references, store, sweep
from app.config import settings
from app.db import transaction
from app.errors import Gone, StaleEpoch
from app.policy import Judgement, PolicyBody
from app.tables import (
    AuditEvent,
    Bank,
    BankState,
    Decision,
    Model,
    Reason,
    Reference,
    ReferenceState,
    TicketState,
    VersionKind,
)
from tests.app.test_versions import Later
from tests.workers.conftest import LENIENT, Line, load_clusters, register
from tests.workers.test_pipeline import context_for
from unlearning import bank as engine
from unlearning.division import left_out, quarters
from unlearning.splits import split_unseen
from unlearning.training import restore
from unlearning.training import train as by_hand
from workers import artifacts, pipeline, problems, tasks, torchrun
from workers import banks as tables
from workers import references as work
from workers import references as workers_references

TOLD = "subject-4711-secret"


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(autouse=True)
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every update passes: what its verdict rests on is not the matter here."""
    monkeypatch.setattr(policy, "judge", lambda *_: Judgement(Decision.PUBLISH, ["for tests"]))


@pytest.fixture
def line(lenient: Line) -> Line:
    """A trained model with a bank of four ordered."""
    order(lenient)
    return lenient


def order(line: Line, wanted: int = 4) -> None:
    with transaction() as session:
        model = session.get_one(Model, line.model_id)
        banks.order(session, model, banks.anchor(session, model.id), wanted, "to be sure", "operator")


def train(times: int = 4) -> None:
    for _ in range(times):
        work.work()


def bank(line: Line) -> Bank:
    with transaction() as session:
        query = select(Bank).where(Bank.model_id == line.model_id).order_by(Bank.id.desc()).limit(1)
        return session.scalars(query).one()


def rows() -> list[Reference]:
    with transaction() as session:
        return list(session.scalars(select(Reference).order_by(Reference.bank_id, Reference.number)))


def table(line: Line) -> engine.Bank:
    digest = bank(line).digest
    assert digest is not None
    return artifacts.load_bank(digest)


def scores(number: int) -> engine.Reference:
    digest = rows()[number].digest
    assert digest is not None
    return artifacts.load_reference(digest)


def events(kind: str) -> list[dict[str, Any]]:
    with transaction() as session:
        query = select(AuditEvent.body).where(AuditEvent.kind == kind).order_by(AuditEvent.seq)
        return [json.loads(body)["data"] for body in session.scalars(query)]


def expire() -> None:
    with transaction() as session:
        running = update(Reference).where(Reference.state == ReferenceState.RUNNING)
        session.execute(running.values(lease_until=func.now() - timedelta(seconds=1)))


def read_by_trainings(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What each training was given, from here on."""
    given: list[set[int]] = []
    real = torchrun.train

    def noting(problem: Any, indices: Any, *rest: Any, **named: Any) -> Any:
        given.append(set(indices.tolist()))
        return real(problem, indices, *rest, **named)

    monkeypatch.setattr(torchrun, "train", noting)
    return given


def in_the_midst(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once, when the next reference has been claimed and its training has begun."""
    real, done = torchrun.train, []

    def acting(*arguments: Any, **named: Any) -> Any:
        if not done:
            done.append(True)
            act()
        return real(*arguments, **named)

    monkeypatch.setattr(torchrun, "train", acting)


class TestTraining:
    def test_four_references_make_a_table(self, line: Line) -> None:
        train(3)
        assert (bank(line).state, bank(line).digest) == (BankState.BUILDING, None)
        train(1)
        made, found = bank(line), table(line)
        assert made.state is BankState.READY
        assert found.reference_GN.shape == (1, 400)
        assert (found.reference_GN >= 0).all()
        assert np.isfinite(found.losses_GN).all()
        assert [row.state for row in rows()] == [ReferenceState.DONE] * 4
        assert made.facts is not None
        assert made.facts["references"] == len(made.facts["accuracy"]) == 4
        assert made.facts["samples"] == 400
        assert made.facts["bytes"] == len(store.get(str(made.digest)))
        assert made.facts["seconds"] == pytest.approx(sum(row.seconds or 0 for row in rows()))
        assert made.facts["noise_floor"]["mu"] > 0
        assert [len(events(kind)) for kind in ("reference.finished", "bank.ready")] == [4, 1]

    def test_each_is_trained_on_what_it_does_not_score_and_never_stored(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = read_by_trainings(monkeypatch)
        kept = store_digests(monkeypatch)
        train(3)
        for number, trained_on in enumerate(given):
            scored = set(scores(number).out_N.tolist())
            assert scored == set(left_out(problems.load("clusters").train, np.arange(400), number).tolist())
            assert trained_on == set(range(400)) - scored
        assert kept == [row.digest for row in rows()[:3]], "the scores and nothing else"

    def test_no_two_begin_alike_and_the_same_one_is_the_same_again(self, line: Line) -> None:
        problem = problems.load("clusters")
        seeds = [engine.reseeded(problem, number).recipe.seed for number in range(64)]
        assert len({problem.recipe.seed, *seeds}) == 65
        train(1)
        first = rows()[0].digest
        with transaction() as session:
            references.lose(session, line.model_id, 0, str(first), "to be repeated")
        train(1)
        assert rows()[0].digest == first

    def test_the_scores_are_those_of_that_training(self, line: Line) -> None:
        train(1)
        problem = engine.reseeded(problems.load("clusters"), 0)
        out = left_out(problem.train, np.arange(400), 0)
        tuning, unseen = split_unseen(problem)
        state = by_hand(problem, np.setdiff1d(np.arange(400), out), tuning).state
        again = engine.observe(restore(problem, state), problem, 0, out, unseen)
        found = scores(0)
        for name, tensor in again.tensors().items():
            assert torch.equal(found.tensors()[name], tensor), name

    def test_a_bank_that_grows_keeps_the_rows_it_has(self, line: Line) -> None:
        train()
        four = table(line)
        old = bank(line).digest
        order(line, 8)
        train()
        eight = table(line)
        assert eight.references == 8
        assert np.array_equal(eight.reference_GN[0], four.reference_GN[0])
        assert np.array_equal(eight.losses_GN[0], four.losses_GN[0])
        assert np.array_equal(eight.test_correct_KT[:4], four.test_correct_KT)
        assert set(eight.reference_GN[1].tolist()) == {4, 5, 6, 7}
        facts = bank(line).facts
        assert facts is not None
        assert facts["seconds"] == pytest.approx(sum(row.seconds or 0 for row in rows()))
        with pytest.raises(Gone):
            store.get(str(old))

    def test_groups_may_be_finished_in_any_order(self, line: Line) -> None:
        order(line, 8)
        hold_back(range(4))
        train()
        assert set(table(line).reference_GN[0].tolist()) == {0, 1, 2, 3}
        assert [row.digest is None for row in rows()] == [True] * 8
        release()
        train()
        assert table(line).references == 8

    def test_a_problem_that_fails_is_tried_again_and_its_text_is_told_to_nobody(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EXPUNGE_TEST_POISON", " ".join(map(str, range(400))))
        train(1)
        (row, *_) = rows()
        assert (row.state, row.attempt) == (ReferenceState.PENDING, 1)
        assert row.failure is not None
        assert "test_problems.py" in row.failure
        assert TOLD not in json.dumps(events("reference.failed"))
        monkeypatch.delenv("EXPUNGE_TEST_POISON")
        with transaction() as session:
            session.execute(update(Reference).values(not_before=func.now()))
        train(1)
        assert rows()[0].state is ReferenceState.DONE

    def test_a_manifest_that_no_longer_fits_is_not_tried_again(self, line: Line) -> None:
        with transaction() as session:
            session.execute(update(Model).values(problem="reordered"))
        train(1)
        (row, *_) = rows()
        assert (row.state, row.attempt) == (ReferenceState.FAILED, 1)

    def test_a_group_that_lacks_a_quarter_is_not_trained_at_all(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of too few subjects a quarter may be empty: the other three would be trained for nothing."""
        real = workers_references.left_out

        def empty_fourth(samples: Any, live: Any, number: int) -> Any:
            if number == 3:
                raise ValueError("40 samples have too few subjects to leave a quarter of them out")
            return real(samples, live, number)

        monkeypatch.setattr(workers_references, "left_out", empty_fourth)
        monkeypatch.setattr(torchrun, "train", lambda *_, **__: pytest.fail("trained for nothing"))
        order(line)
        train()
        assert {row.state for row in rows()} == {ReferenceState.FAILED}
        assert all("too few subjects" in (row.failure or "") for row in rows())

    def test_nothing_waits(self, lenient: Line) -> None:
        work.work()
        tasks.reference()
        assert rows() == []


def hold_back(numbers: range) -> None:
    with transaction() as session:
        rest = update(Reference).where(Reference.number.in_(numbers))
        session.execute(rest.values(not_before=func.now() + timedelta(hours=1)))


def release() -> None:
    with transaction() as session:
        session.execute(update(Reference).values(not_before=func.now()))


def store_digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is stored, from here on."""
    kept: list[str] = []
    real = store.put

    def noting(data: bytes) -> str:
        kept.append(real(data))
        return kept[-1]

    monkeypatch.setattr(store, "put", noting)
    return kept


class TestLostWorkers:
    def test_one_that_dies_before_its_scores_are_on_record_has_changed_nothing(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dying(*_: object, **__: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(references, "complete", dying)
            with pytest.raises(Killed):
                work.work()
        assert [(row.state, row.digest) for row in rows()[:1]] == [(ReferenceState.RUNNING, None)]
        expire()
        train()
        assert [row.attempt for row in rows()] == [2, 1, 1, 1]
        assert table(line).references == 4

    def test_one_that_dies_before_the_table_leaves_it_to_the_next(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dying(*_: object, **__: object) -> None:
            raise Killed

        train(3)
        with monkeypatch.context() as patch:
            patch.setattr(banks, "assembled", dying)
            with pytest.raises(Killed):
                work.work()
        assert bank(line).digest is None
        assert sweep.references_due() == 1
        work.work()
        assert table(line).references == 4
        assert sweep.references_due() == 0

    def test_one_that_was_overtaken_writes_nothing(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        def overtake() -> None:
            expire()
            with transaction() as session:
                assert references.claim(session, "another") is not None

        in_the_midst(monkeypatch, overtake)
        train(1)
        (row, *_) = rows()
        assert (row.state, row.worker, row.digest, row.lease_epoch) == (ReferenceState.RUNNING, "another", None, 2)
        assert events("reference.finished") == events("reference.failed") == []

    def test_scores_that_are_damaged_before_they_are_in_the_table_are_made_again(self, line: Line) -> None:
        train(3)
        path = settings().home / "artifacts" / store.path(str(rows()[1].digest))
        path.write_bytes(b"\0" + path.read_bytes()[1:])
        train(1)
        assert [row.state for row in rows()] == ["done", "pending", "done", "done"]
        assert events("reference.lost")[0]["number"] == 1
        train(1)
        assert table(line).references == 4

    def test_a_damaged_table_is_not_grown(self, line: Line) -> None:
        train()
        path = settings().home / "artifacts" / store.path(str(bank(line).digest))
        path.write_bytes(b"\0" + path.read_bytes()[1:])
        order(line, 8)
        train()
        assert bank(line).state is BankState.RETIRED
        assert "altered on disk" in events("bank.retired")[0]["why"]


class TestForgetting:
    def test_what_was_tombstoned_is_not_trained_on_and_what_was_forgotten_not_read_at_all(
        self, lenient: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lenient.submit(range(40))
        lenient.work()
        order(lenient)
        read: set[int] = import_module("test_problems").READ
        read.clear()
        given = read_by_trainings(monkeypatch)
        train()
        assert not any(trained_on & set(range(40)) for trained_on in given)
        assert not read & set(range(40))
        assert (table(lenient).reference_GN[0, :40] == engine.NEVER).all()
        facts = bank(lenient).facts
        assert facts is not None
        assert facts["samples"] == 360

    def test_what_waits_for_its_update_is_scored_for_its_verdict_and_not_trained_on(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweep, "due", list)
        line.submit(range(20))
        line.submit(range(20, 40), reason=Reason.UNLAWFUL_TRAINING)
        given = read_by_trainings(monkeypatch)
        train()
        assert not any(trained_on & set(range(40)) for trained_on in given)
        found = table(line)
        assert found.known(np.arange(20)).all()
        assert not found.known(np.arange(20, 40)).any()
        wanted = quarters(problems.load("clusters").train, np.arange(20), 0)
        assert np.array_equal(found.reference_GN[0, :20], wanted), "by a reference that leaves it out"

    def test_the_rows_leave_with_the_publication_and_the_old_bytes_with_them(self, line: Line) -> None:
        train()
        before, old = table(line), bank(line).digest
        line.submit(range(40))
        line.work()
        after = table(line)
        assert line.versions()[-1].kind is VersionKind.UNLEARNED
        assert (after.reference_GN[0, :40] == engine.NEVER).all()
        assert np.isnan(after.losses_GN[0, :40]).all()
        assert np.array_equal(after.losses_GN[0, 40:], before.losses_GN[0, 40:])
        with pytest.raises(Gone):
            store.get(str(old))
        (purged,) = events("bank.purged")
        assert (purged["samples"], purged["table"], purged["references"]) == (40, bank(line).digest, 0)
        facts = bank(line).facts
        assert facts is not None
        assert (facts["samples"], facts["references"]) == (360, 4)

    def test_so_do_those_of_scores_that_are_in_no_table_yet(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        train(2)
        olds = [row.digest for row in rows()[:2]]
        line.submit(range(100))
        line.work()
        assert all(set(scores(number).out_N.tolist()).isdisjoint(range(100)) for number in range(2))
        assert events("bank.purged")[0]["references"] == 2
        for old in olds:
            with pytest.raises(Gone):
                store.get(str(old))
        train(2)
        assert (table(line).reference_GN[0, :100] == engine.NEVER).all()

    def test_nobody_s_rows_need_no_rewriting(self, line: Line) -> None:
        line.submit(range(40))
        line.work()
        train()
        with transaction() as session:
            seen = banks.held(session, line.model_id)
        assert seen is not None
        assert seen.digest is not None
        assert tables.without(line.model_id, np.arange(40)) == banks.Purge(seen, seen.digest, {}, 0, seen.facts)

    def test_a_bank_that_changes_while_it_is_purged_is_purged_again(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reference finishes between the rewriting and the commit."""
        train(3)
        real, turns = tables.without, []

        def racing(model_id: int, forget: Any) -> Any:
            found = real(model_id, forget)
            if not turns:
                work.work()
            turns.append(found)
            return found

        monkeypatch.setattr(tables, "without", racing)
        monkeypatch.setattr(sweep, "due", list)
        line.submit(range(40))
        line.work()
        assert len(turns) == 2
        assert (table(line).reference_GN[0, :40] == engine.NEVER).all()
        assert line.batch().state == "published"

    def test_what_is_forgotten_while_a_reference_is_trained_is_not_in_its_scores(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between its scoring and its completion, which is the narrowest gap."""
        real, done = engine.observe, []

        def observing(*arguments: Any) -> Any:
            found = real(*arguments)
            if not done:
                done.append(found)
                line.submit(range(100))
                line.work()
            return found

        monkeypatch.setattr(engine, "observe", observing)
        train(1)
        assert set(done[0].out_N.tolist()) & set(range(100))
        assert not set(scores(0).out_N.tolist()) & set(range(100))

    def test_a_ticket_between_the_last_look_and_the_commit_is_not_missed(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, done = references.complete, []

        def completing(session: Session, lease: Any, **rest: Any) -> None:
            if not done:
                done.append(True)
                line.submit(range(100))
                line.work()
            real(session, lease, **rest)

        monkeypatch.setattr(references, "complete", completing)
        train(1)
        assert rows()[0].state is ReferenceState.DONE
        assert not set(scores(0).out_N.tolist()) & set(range(100))

    @pytest.mark.parametrize("harm", ["gone", "damaged"])
    def test_a_table_that_cannot_be_read_holds_no_publication_up(self, line: Line, harm: str) -> None:
        train()
        path = settings().home / "artifacts" / store.path(str(bank(line).digest))
        path.unlink() if harm == "gone" else path.write_bytes(b"\0" + path.read_bytes()[1:])
        ticket = line.submit(range(40))
        line.work()
        assert line.versions()[-1].kind is VersionKind.UNLEARNED
        assert line.ticket(ticket).state is TicketState.FULFILLED
        assert (bank(line).state, bank(line).digest) == (BankState.RETIRED, None)
        assert not path.exists()

    def test_models_that_are_trained_alike_do_not_share_the_bytes(self, line: Line) -> None:
        other = register("other", LENIENT)
        other.work()
        order(other)
        train(8)
        mine, theirs = bank(line), bank(other)
        assert mine.digest != theirs.digest
        assert np.array_equal(table(line).losses_GN, table(other).losses_GN)
        line.submit(range(40))
        line.work()
        assert events("bank.purged")[0]["bank"] == mine.id
        assert table(other).references == 4


class TestTicketsFirst:
    def test_a_ticket_is_served_in_the_midst_of_a_training_and_changes_nothing_of_it(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(work, "LOOK_SECONDS", 0.0)
        train(1)
        alone = scores(0)
        with transaction() as session:
            references.lose(session, line.model_id, 0, str(rows()[0].digest), "to be repeated")
        tickets = []
        in_the_midst(monkeypatch, lambda: tickets.append(line.submit([300])))
        train(1)
        assert line.ticket(tickets[0]).state is TicketState.FULFILLED
        published, finished = events("version.published"), events("reference.finished")
        assert (len(published), len(finished)) == (2, 2)
        disturbed, undisturbed = scores(0).without(np.array([300])).tensors(), alone.without(np.array([300])).tensors()
        for name, tensor in undisturbed.items():
            assert torch.equal(disturbed[name], tensor), name

    def test_even_where_the_training_draws_from_torch(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        """Dropout draws from the global state in each step, and the nested run draws from it and seeds it."""
        draws: list[list[float]] = []
        monkeypatch.setattr(work, "LOOK_SECONDS", 0.0)

        def disturbing(model_id: int) -> None:
            torch.manual_seed(4711)
            torch.rand(7)

        def drawing(*_: Any, progress: Any, **__: Any) -> Any:
            torch.manual_seed(1)
            draws.append([])
            for _step in range(3):
                progress(0.5, "a step")
                draws[-1].append(float(torch.rand(1)))
            raise StaleEpoch("enough")

        monkeypatch.setattr(torchrun, "train", drawing)
        train(1)
        expire()
        monkeypatch.setattr(sweep, "due", lambda: [line.model_id])
        monkeypatch.setattr(pipeline, "work", disturbing)
        train(1)
        assert draws[0] == draws[1]

    def test_it_looks_once_a_second_at_most(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[bool] = []
        monkeypatch.setattr(sweep, "due", lambda: looks.append(True) or [])
        monkeypatch.setattr(work, "LOOK_SECONDS", 1e6)
        train(1)
        assert len(looks) == 1

    def test_whatever_goes_wrong_with_tickets_costs_no_reference(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> list[int]:
            raise RuntimeError(TOLD)

        monkeypatch.setattr(sweep, "due", broken)
        train(1)
        assert rows()[0].state is ReferenceState.DONE

    def test_a_retrain_that_is_served_ends_the_training_it_interrupts(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(work, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr("workers.pulse.SHOW_SECONDS", 0.0)
        in_the_midst(monkeypatch, lambda: line.submit(range(20), reason=Reason.UNLAWFUL_TRAINING))
        train(1)
        assert line.versions()[-1].kind is VersionKind.RETRAINED
        assert bank(line).state is BankState.RETIRED
        assert events("reference.finished") == []


class TestTrainings:
    def test_the_policy_builds_a_bank_after_each_and_rings_for_it(
        self, database: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rung: list[str] = []
        monkeypatch.setattr(queue, "send", lambda task, *_: rung.append(task))
        load_clusters()
        body = PolicyBody.model_validate(LENIENT.model_dump() | {"bank": {"build": "training", "references": 4}})
        line = register("net", body)
        line.work()
        assert rung == [queue.REFERENCE] * 4
        train()
        first, old = bank(line), bank(line).digest
        assert first.state is BankState.READY
        line.retrain()
        assert bank(line).id != first.id
        assert (bank(line).state, bank(line).version_id) == (BankState.BUILDING, line.versions()[-1].id)
        with pytest.raises(Gone):
            store.get(str(old))

    def test_the_sweep_rings_for_what_waits(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        rung: list[str] = []
        monkeypatch.setattr(queue, "send", lambda task, *_: rung.append(task))
        train(1)
        tasks.sweep_due()
        assert rung == [queue.REFERENCE] * 3

    def test_the_log_still_explains_the_rows(self, line: Line) -> None:
        train()
        line.submit(range(40))
        line.work()
        assert events("bank.purged")
        with transaction() as session:
            assert audit.verify(session).fault is None


class TestReading:
    def test_a_verdict_s_table_comes_with_its_digest_and_facts(self, line: Line) -> None:
        context = context_for(line, line.versions()[0])
        assert tables.load_bank(context) is None
        train()
        found = tables.load_bank(context)
        assert found is not None
        assert (found.digest, found.facts) == (bank(line).digest, bank(line).facts)
        assert np.array_equal(found.bank.losses_GN, table(line).losses_GN)

    @pytest.mark.parametrize("harm", ["gone", "damaged", "of another kind"])
    def test_one_that_cannot_be_read_is_none(self, line: Line, harm: str) -> None:
        train()
        digest = str(bank(line).digest)
        path = settings().home / "artifacts" / store.path(digest)
        if harm == "of another kind":
            with transaction() as session:
                weights = line.versions()[0].weights_digest
                session.execute(update(Bank).values(digest=weights))
        else:
            path.unlink() if harm == "gone" else path.write_bytes(b"\0" + path.read_bytes()[1:])
        assert tables.load_bank(context_for(line, line.versions()[0])) is None

    def test_one_that_is_replaced_while_it_is_read_is_read_anew(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train()
        real, turns = artifacts.load_bank, []

        def late(digest: str) -> Any:
            turns.append(digest)
            if len(turns) == 1:
                line.submit(range(40))
                line.work()
            return real(digest)

        context = context_for(line, line.versions()[0])
        monkeypatch.setattr(artifacts, "load_bank", late)
        found = tables.load_bank(context)
        assert found is not None
        assert found.digest == bank(line).digest != turns[0]

    def test_nothing_of_a_bank_is_collected_while_it_is_named(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order(line, 8)
        train(5)
        monkeypatch.setattr(store, "datetime", Later)
        sweep.purge()
        assert table(line).references == 4
        assert scores(4).number == 4


def test_what_is_forgotten_is_read_from_the_tombstones(line: Line) -> None:
    with transaction() as session:
        assert list(lineage.forgotten(session, line.model_id)) == []
    line.submit(range(40))
    line.work()
    with transaction() as session:
        assert list(lineage.forgotten(session, line.model_id)) == list(range(40))
