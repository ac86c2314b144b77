"""Outliers of a real run: looked for after the publication where the policy asks, gone with the version, never a failure."""

import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from app import exposure, lineage
from app.db import transaction
from app.policy import PolicyBody
from app.tables import BatchState, Version
from tests.workers.conftest import LENIENT, Line, load_clusters, register
from unlearning.exposure import Exposure, expose
from unlearning.looks import NoLook
from unlearning.training import restore
from workers import artifacts, problems, stopping
from workers import exposure as looking

LOOKING = PolicyBody.model_validate(LENIENT.model_dump() | {"outliers": {"look": True, "z": 3.0, "most": 5}})


@pytest.fixture
def looked(database: object) -> Line:
    """A trained model whose policy asks for its outliers."""
    load_clusters()
    line = register("looked", LOOKING)
    line.work()
    return line


def kept(line: Line, number: int) -> dict[str, Any] | None:
    with transaction() as session:
        query = select(Version.exposure).where(Version.model_id == line.model_id, Version.number == number)
        found: dict[str, Any] | None = session.scalars(query).one()
        return found


def again(line: Line) -> Exposure:
    """The same look, by hand."""
    problem, version = problems.load("clusters"), line.versions()[-1]
    model = restore(problem, artifacts.load_weights(version.weights_digest), torch.device("cpu"))
    with transaction() as session:
        dead = np.asarray(lineage.tombstoned(session, 1), dtype=np.int64)
    return expose(model, problem, np.setdiff1d(np.arange(len(problem.train)), dead), 3.0, 5)


def test_a_publication_is_followed_by_a_look(looked: Line) -> None:
    found = kept(looked, 1)
    assert found is not None
    made = again(looked)
    assert (found["n"], found["of"], found["seed"], found["z"], found["most"]) == (400, 400, None, 3.0, 5)
    assert [each["position"] for each in found["outliers"]] == [each.position for each in made.outliers]
    assert found["median"] == pytest.approx(made.median)
    assert sum(found["counts"]) == 400
    assert "train-" not in json.dumps(found), "ordinals, not ids"
    assert looked.versions()[-1].gradients_digest is not None


def test_a_policy_that_does_not_ask_costs_nothing(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_look(*_: object) -> None:
        raise AssertionError("nobody has asked")

    monkeypatch.setattr(looking, "seen", no_look)
    lenient.submit(range(20))
    lenient.work()
    assert (kept(lenient, 1), kept(lenient, 2)) == (None, None)
    assert lenient.versions()[-1].gradients_digest is not None


def test_an_update_ends_the_look_and_the_next_reads_no_forgotten_sample(
    looked: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[set[int]] = []
    real, ordinals = looking.seen, import_module("test_problems").READ

    def watched(*asked: Any) -> dict[str, Any]:
        ordinals.clear()
        made = real(*asked)
        read.append(set(ordinals))
        return made

    monkeypatch.setattr(looking, "seen", watched)
    looked.submit(range(60))
    looked.work()
    assert kept(looked, 1) is None
    found = kept(looked, 2)
    assert found is not None
    assert (found["n"], found["of"]) == (340, 340)
    assert all(each["position"] >= 60 for each in found["outliers"])
    assert read == [set(range(60, 400))]
    assert found["found"] == again(looked).found


def test_its_samples_are_named_by_the_manifest(looked: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    made = again(looked)
    planted = [{"position": 7, "norm": 9.0, "z": 8.0}, {"position": 301, "norm": 8.0, "z": 7.0}]
    with transaction() as session:
        session.execute(
            text("UPDATE version SET exposure = jsonb_set(exposure, '{outliers}', CAST(:planted AS jsonb))"),
            {"planted": json.dumps(planted)},
        )
        seen = exposure.view(session, "looked")
    assert seen.look is not None
    assert [each.sample_id for each in seen.look.outliers] == ["train-0007", "train-0301"]
    assert seen.look.found == made.found
    assert seen.look.median == pytest.approx(made.median)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (NoLook("0 is LSTM, a fused recurrent layer"), "0 is LSTM, a fused recurrent layer"),
        (KeyError("train-0007"), "it could not be looked at (KeyError)"),
    ],
)
def test_a_look_that_fails_says_why_and_fails_no_run(
    database: object, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(looking, "expose", broken)
    load_clusters()
    line = register("looked", LOOKING)
    line.work()
    assert line.batch().state is BatchState.PUBLISHED
    assert kept(line, 1) == {"why": why}
    assert line.versions()[0].gradients_digest is not None
    with transaction() as session:
        assert exposure.view(session, "looked").why == why


def test_nor_does_one_that_cannot_be_kept(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("no database")

    monkeypatch.setattr(looking, "keep", broken)
    load_clusters()
    line = register("looked", LOOKING)
    line.work()
    assert (line.batch().state, kept(line, 1)) == (BatchState.PUBLISHED, None)


def test_a_worker_that_is_to_stop_drops_it(database: object, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def told() -> bool:
        asked.append(1)
        return True

    real = looking.seen

    def seen(*rest: Any) -> dict[str, Any]:
        monkeypatch.setattr(stopping, "asked", told)
        return real(*rest)

    monkeypatch.setattr(looking, "seen", seen)
    load_clusters()
    line = register("looked", LOOKING)
    line.work()
    assert asked
    assert (line.batch().state, kept(line, 1)) == (BatchState.PUBLISHED, None)


def test_what_comes_late_is_not_written_down(looked: Line) -> None:
    """The version was superseded while somebody was still looking."""
    first, found = looked.versions()[0], kept(looked, 1)
    assert found is not None
    looked.submit(range(20))
    looked.work()
    looking.keep(first, found)
    assert kept(looked, 1) is None
    with pytest.raises(IntegrityError, match="exposure_until_superseded"), transaction() as session:
        session.execute(text("UPDATE version SET exposure = '{}' WHERE superseded_at IS NOT NULL"))
