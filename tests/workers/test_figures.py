"""Figures of a real run: they are in the verdict's row, belong to its statistics, name nobody, and never fail a run."""

import json
from collections.abc import Hashable
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import select

from app.db import transaction
from app.tables import Decision, Verdict
from tests.unlearning.test_looks import Pictures
from tests.workers.conftest import LENIENT, Line, load_clusters, register
from unlearning import looks
from unlearning.evidence import Evidence
from unlearning.figures import FEWEST
from workers import figures
from workers.context import Context


def verdicts(line: Line) -> list[tuple[Verdict, dict[str, object] | None]]:
    """Every verdict of the model, with its figures."""
    batches = [batch.id for batch in line.batches()]
    with transaction() as session:
        found = session.scalars(select(Verdict).where(Verdict.batch_id.in_(batches)).order_by(Verdict.id)).all()
        return [(verdict, verdict.figures) for verdict in found]


def updated(line: Line, count: int) -> tuple[Verdict, dict[str, object]]:
    """After an update for so many samples, of as many people as there are: each has twenty in a row."""
    line.submit([i % 20 * 20 + i // 20 for i in range(count)])
    line.work()
    verdict, drawn = verdicts(line)[-1]
    assert verdict.decision is Decision.PUBLISH, verdict.reasons
    assert drawn is not None
    return verdict, drawn


def test_an_update_keeps_its_figures_beside_its_verdict(lenient: Line) -> None:
    verdict, drawn = updated(lenient, 60)
    spread = drawn["confidence"]
    assert isinstance(spread, dict)
    assert (drawn["n_f"], spread["n_f"], sum(spread["forget_after"]["counts"])) == (60, 60, 60)
    assert spread["quantity"] == "probability"
    curves = drawn["roc"]
    assert isinstance(curves, list)
    assert [one["attack"] for one in curves] == ["loss", "network", "distance"]
    for one in curves:
        for suffix in ("before", "after"):
            name = f"auc_{one['attack']}" + ("_before" if suffix == "before" else "")
            assert one[f"auc_{suffix}"] == pytest.approx(verdict.statistics[name]["estimate"], abs=1e-6)
    classes = drawn["classes"]
    assert isinstance(classes, dict)
    tested = verdict.statistics["accuracy"]
    assert sum(classes["n"]) == tested["n"]
    assert sum(classes["after"]) / tested["n"] == pytest.approx(tested["estimate"])
    assert sum(classes["before"]) / tested["n"] == pytest.approx(verdict.statistics["accuracy_before"]["estimate"])
    norms = drawn["norms"]
    assert isinstance(norms, dict)
    assert sum(norms["forget_before"]["counts"]) == 60
    assert (drawn["maps"], drawn["why_no_norms"]) == (None, None)
    assert "no Conv2d" in str(drawn["why_no_maps"])
    assert "train-0" not in json.dumps(drawn)
    assert verdict.seconds["figures"] > 0


def test_few_samples_have_none_of_their_own(lenient: Line) -> None:
    _, drawn = updated(lenient, FEWEST - 1)
    assert (drawn["confidence"], drawn["roc"], drawn["norms"]) == (None, [], None)
    assert "9 samples" in str(drawn["withheld"])
    assert "9 samples" in str(drawn["why_no_norms"])
    assert drawn["classes"] is not None


def test_many_samples_of_few_people_have_none_of_their_own(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket by subject may name dozens of one person's: their distribution would be that person's own."""
    whose = figures.whose

    def of_nine(context: Context, evidence: Evidence) -> list[Hashable]:
        return [number % (FEWEST - 1) for number, _ in enumerate(whose(context, evidence))]

    monkeypatch.setattr(figures, "whose", of_nine)
    _, drawn = updated(lenient, 60)
    assert (drawn["confidence"], drawn["roc"], drawn["norms"]) == (None, [], None)
    assert "60 samples of the forget set are of 9 people" in str(drawn["withheld"])
    assert drawn["why_no_norms"] == drawn["withheld"]


def test_people_are_told_apart_by_their_samples_subjects() -> None:
    problem = Pictures()
    forget = np.array([i for i, subject in enumerate(problem.train.subjects) if subject in ("p-1", None)][:6])
    context, evidence = SimpleNamespace(problem=problem), SimpleNamespace(forget_N=forget)
    found = figures.whose(context, evidence)  # type: ignore[arg-type]  # what is read of each is there
    assert found == [problem.train.subjects[i] or i for i in forget.tolist()]


def test_a_training_stands_without_its_classes(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("targets that are not read twice alike")

    monkeypatch.setattr(figures, "classes_of", broken)
    lenient.submit(range(20))
    lenient.retrain()
    verdict, drawn = verdicts(lenient)[-1]
    assert (verdict.decision, drawn) == (Decision.PUBLISH, None)


def test_a_training_shows_its_classes(lenient: Line) -> None:
    (_, first), *_ = verdicts(lenient)
    assert first is not None
    assert isinstance(first["classes"], dict)
    assert first.keys() == {"classes"}
    assert first["classes"]["before"] is None
    lenient.submit(range(20))
    lenient.retrain()
    _, last = verdicts(lenient)[-1]
    assert last is not None
    assert isinstance(last["classes"], dict)
    assert len(last["classes"]["before"]) == len(last["classes"]["after"])


def test_weights_that_are_not_published_are_not_drawn(strict: Line) -> None:
    strict.submit(range(60))
    strict.work()
    tried = [(verdict, drawn) for verdict, drawn in verdicts(strict) if verdict.decision is not Decision.PUBLISH]
    assert tried
    for verdict, drawn in tried:
        assert drawn is None
        assert "figures" not in verdict.seconds


def test_figures_fail_no_run(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("train-0007 has no image")

    monkeypatch.setattr(looks, "gradient_norms", broken)
    _, drawn = updated(lenient, 60)
    assert drawn["norms"] is None
    assert drawn["why_no_norms"] == "it could not be taken (RuntimeError)"


def test_a_verdict_may_do_without(lenient: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(figures, "figures_of", broken)
    lenient.submit(range(60))
    lenient.work()
    verdict, drawn = verdicts(lenient)[-1]
    assert verdict.decision is Decision.PUBLISH, verdict.reasons
    assert drawn is None


def test_maps_are_of_nobody_who_is_wholly_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever still has a sample in the training set asked for that one alone to be forgotten."""
    problem = Pictures()
    of_1, of_3 = ([i for i, subject in enumerate(problem.train.subjects) if subject == name] for name in ("p-1", "p-3"))
    of_5 = [i for i, subject in enumerate(problem.train.subjects) if subject == "p-5"]
    forget, tombstoned = np.array([of_1[0], *of_3[1:], 0]), np.array([*of_3[:1], *of_5])
    barred: list[object] = []

    def noted(*_: object) -> None:
        barred.append(_[-1])

    monkeypatch.setattr(looks, "class_maps", noted)
    context = SimpleNamespace(problem=problem, parent=None, audit=SimpleNamespace(test=problem.test))
    task = SimpleNamespace(forget=forget, tombstoned=tombstoned)
    figures.class_maps(context, task, None)  # type: ignore[arg-type]  # what is read of each is there
    assert barred == [{"p-3", "p-5"}], "p-5 was forgotten by an update before"


def test_the_same_weights_are_published_with_figures_and_without(
    database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look changes neither the update nor its statistics."""
    load_clusters()
    policy = LENIENT.model_copy(update={"ladder": ["iau-calibrated", "retrain"]})
    lines = [register(name, policy) for name in ("drawn", "plain")]
    for line in lines:
        line.work()
    lines[0].submit(range(60))  # both models owe it
    found = []
    for line in lines:
        if line.name == "plain":
            monkeypatch.setattr(figures, "of_update", lambda *_, **__: None)
        line.work()
        verdict, _ = verdicts(line)[-1]
        found.append((verdict.weights_digest, verdict.statistics, verdict.decision))
    assert found[0] == found[1]
