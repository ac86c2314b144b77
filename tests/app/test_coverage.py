"""Intervals that hold the truth too seldom stop a model's updates: by a retrain's truth and by simulated tickets."""

from collections.abc import Iterable
from fractions import Fraction
from math import comb, nan
from typing import Any
from uuid import UUID

import pytest

from app import coverage, runs
from app.coverage import Coverage, at_most
from app.db import transaction
from app.tables import AuditEvent, Decision, Verdict
from tests.app import story


@pytest.mark.parametrize(("count", "nominal"), [(1, 0.9), (12, 0.94), (40, 0.5), (160, 0.95)])
def test_the_chance_is_that_of_the_binomial(count: int, nominal: float) -> None:
    exact, hit = Fraction(0), Fraction(nominal)
    for covered in range(count + 1):
        exact += comb(count, covered) * hit**covered * (1 - hit) ** (count - covered)
        assert at_most(covered, count, nominal) == pytest.approx(float(exact), rel=1e-9)


def test_a_thousand_tickets_and_more_are_counted_too() -> None:
    """As many as a bank of 64 references simulates for each size, and ten times as many."""
    assert at_most(1216, 1280, 0.95) == pytest.approx(0.53, abs=0.03)  # the mean itself
    assert at_most(1190, 1280, 0.95) < 0.01
    assert at_most(12_160, 12_800, 0.95) == pytest.approx(0.51, abs=0.02)
    assert at_most(1280, 1280, 0.95) == pytest.approx(1)


@pytest.mark.parametrize(
    ("covered", "count", "short"),
    [
        (0, 0, False),  # nothing is known
        (0, 1, False),  # one miss in ten is chance
        (0, 2, True),
        (2, 3, False),
        (16, 20, False),  # chance 0.13
        (15, 20, True),  # chance 0.043
        (20, 20, False),
    ],
)
def test_short_is_what_chance_does_not_explain(covered: int, count: int, short: bool) -> None:
    assert Coverage(covered, count, 0.9).short is short


def verdict(estimate: tuple[float, float], truth: float | None, n: int = 100, level: float = 0.9) -> Verdict:
    interval = {"low": estimate[0], "high": estimate[1], "n": n, "level": level}
    return Verdict(statistics={"mu": interval, "ue": interval}, truth={"mu": truth, "ue": truth})


class TestOver:
    def test_an_interval_holds_its_ends_and_nothing_beyond(self) -> None:
        inside = [verdict((-0.1, 0.1), truth) for truth in (-0.1, 0.0, 0.1)]
        outside = [verdict((-0.1, 0.1), truth) for truth in (-0.11, 0.11, nan)]
        found = coverage.over("ue", inside + outside)
        assert (found.covered, found.count) == (3, 6)
        assert found.nominal == pytest.approx(0.9)

    def test_levels_differ_from_attempt_to_attempt(self) -> None:
        found = coverage.over("mu", [verdict((0, 1), 0.5, level=0.94), verdict((0, 1), 0.5, level=0.96)])
        assert found.nominal == pytest.approx(0.95)

    def test_ue_of_few_samples_does_not_count_but_mu_does(self) -> None:
        few = [verdict((-0.1, 0.1), 0.5, n=49)]
        assert coverage.over("ue", few).count == 0
        assert coverage.over("mu", few).count == 1
        assert coverage.over("ue", [verdict((-0.1, 0.1), 0.5, n=50)]).count == 1

    def test_nor_does_what_was_not_measured_or_not_estimated(self) -> None:
        unknown = verdict((0, 1), None)
        absent = Verdict(statistics={}, truth={"mu": 0.5, "ue": 0.5})
        untold = Verdict(statistics=unknown.statistics, truth=None)
        for figure in coverage.FIGURES:
            found = coverage.over(figure, [unknown, absent, untold])
            assert (found.covered, found.count, found.short) == (0, 0, False)


@pytest.fixture
def model_id(database: str) -> int:
    story.dataset()
    return story.trained()


def judged(model_id: int, truths: Iterable[dict[str, float] | None]) -> None:
    """Verdicts on a batch of the model with UE of 100 samples in [-0.05, 0.09] and MU in [-0.02, 0], and these truths."""
    batch_id: UUID | None = None
    for truth in truths:
        if batch_id is None:
            story.submit(1)
            batch_id = story.closed(model_id).batch_id
        figures = story.statistics()
        figures["ue"]["n"] = 100
        with transaction() as session:
            row = Verdict(
                batch_id=batch_id, epoch=1, rung="iau", weights_digest="ab" * 32, decision=Decision.PUBLISH, reasons=[],
                method={}, statistics=figures, thresholds={}, seconds={}, truth=truth,
            )  # fmt: skip
            session.add(row)


HELD, MISSED = {"mu": -0.01, "ue": 0.0}, {"mu": -0.01, "ue": 0.3}


class TestTruthThatARetrainRevealed:
    @staticmethod
    def checked(model_id: int) -> str | None:
        with transaction() as session:
            coverage.check(session, model_id)
        return story.model(model_id).stopped

    def test_of_a_model_counts_its_own_verdicts_whose_truth_is_known(self, model_id: int) -> None:
        other = story.trained("other")
        judged(model_id, [HELD, MISSED, None])
        with transaction() as session:
            found = coverage.of_model(session, model_id)
            assert found == {"mu": Coverage(2, 2, 0.95), "ue": Coverage(1, 2, 0.95)}
            assert coverage.of_model(session, other)["ue"].count == 0

    def test_intervals_that_hold_let_it_go_on(self, model_id: int) -> None:
        assert self.checked(model_id) is None  # nothing is known yet
        judged(model_id, [HELD] * 8 + [MISSED])
        assert self.checked(model_id) is None

    def test_too_many_misses_stop_it_once_with_the_figures(self, model_id: int) -> None:
        judged(model_id, [HELD] * 6 + [MISSED] * 3)
        why = "retrains showed the true UE within 6 of 9 intervals of 95%: too few to trust the estimate"
        assert self.checked(model_id) == why
        assert self.checked(model_id) == why
        stops = [event for event in story.all_of(AuditEvent) if event.kind == "model.stopped"]
        assert len(stops) == 1
        assert why in stops[0].body
        with transaction() as session:
            runs.resume_publishing(session, story.model(model_id), "looked at it", "ops")
        assert self.checked(model_id) is None  # what was looked at does not stop it again

    def test_mu_counts_as_much(self, model_id: int) -> None:
        judged(model_id, [{"mu": 0.2, "ue": 0.0}] * 2)
        assert "true MU within 0 of 2" in (self.checked(model_id) or "")


class TestTicketsSimulatedOnABank:
    @staticmethod
    def checked(model_id: int, *rows: dict[str, Any]) -> str | None:
        with transaction() as session:
            coverage.check_bank(session, model_id, {"calibration": list(rows)})
        return story.model(model_id).stopped

    @staticmethod
    def row(covered: int, tickets: int = 160) -> dict[str, Any]:
        return {"size": 50, "covered": covered, "tickets": tickets, "nominal": 0.95}

    def test_a_bank_that_forecasts_its_own_references_goes_on(self, model_id: int) -> None:
        assert self.checked(model_id, self.row(152), self.row(160)) is None
        with transaction() as session:
            coverage.check_bank(session, model_id, {})  # one group alone simulates nothing
        assert story.model(model_id).stopped is None

    def test_a_shortfall_of_less_than_five_in_a_hundred_is_overlap(self, model_id: int) -> None:
        assert Coverage(145, 160, 0.95).short
        assert self.checked(model_id, self.row(145)) is None

    def test_one_beyond_that_stops_it(self, model_id: int) -> None:
        why = self.checked(model_id, self.row(156), self.row(140))
        assert why == "the bank's forecast held for 140 of 160 simulated tickets at 95%: too few to trust it"

    def test_also_of_the_largest_bank(self, model_id: int) -> None:
        assert self.checked(model_id, self.row(1216, 1280)) is None
        assert self.checked(model_id, self.row(1100, 1280)) is not None
