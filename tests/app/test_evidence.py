"""The audit report of each kind of version, and that it outlives the weights."""

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from app import banks, evidence, pages, versions
from app.db import transaction
from app.errors import Unprocessable
from app.evidence.comparison import Comparison
from app.evidence.copies import Copy
from app.tables import Decision, Model, Verdict, Version, VersionKind
from tests.app import story


def report(reference: str) -> evidence.Report:
    with transaction() as session:
        return evidence.report(session, versions.resolve(session, reference))


@pytest.fixture
def line(database: str) -> int:
    """v1 trained, v2 unlearned, v3 retrained after an update that did not pass."""
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2)
    story.work(model_id)
    story.submit(3, subjects=["p-5"])
    lease = story.closed(model_id)
    story.record(lease, b"rejected", story.ESCALATE)
    story.publish(lease, b"retrained", VersionKind.RETRAINED)
    return model_id


def test_a_first_version(line: int) -> None:
    found = report("m-v1")
    assert found.summary == "m-v1 is the model's first version, trained on all 20 samples of its manifest."
    assert (found.version.parent, found.version.current) == (None, False)
    assert (found.lineage.parents, found.lineage.tickets) == ([], [])
    assert found.not_promised == list(evidence.LIMITS_OF_A_RETRAIN)


def test_an_update(line: int) -> None:
    found = report("m-v2")
    assert "approximate update for 2 samples" in found.summary
    assert "MU -0.010 [-0.020, +0.000] within ±0.03" in found.summary
    assert "UE +0.020 [-0.050, +0.090], of too few samples to claim a rate" in found.summary
    assert found.not_promised == list(evidence.LIMITS_OF_AN_UPDATE)
    (ticket,) = found.lineage.tickets
    assert ticket.samples == 2
    assert [parent.version for parent in found.lineage.parents] == ["m-v1"]
    assert (found.lineage.samples_excluded, found.lineage.forgotten_by_this_version) == (2, 2)
    assert found.verdict.decision is Decision.PUBLISH
    assert found.verdict.weights_sha256 == found.version.weights_sha256
    assert (found.drift.updates, found.drift.forgotten, found.drift.live_samples) == (1, 2, 20)
    assert found.drift.false_publishes == 0.05
    assert found.drift.expectation == (
        "At most 0.05 of 1 update since the last training is expected to be false: published although the true UE or MU lies"
        " beyond its threshold."
    )
    assert (found.verdict.thresholds["attempt"], found.verdict.thresholds["attempt_error"]) == (1, pytest.approx(0.03))
    assert found.verdict.truth == {"mu": 0.0, "ue": 0.0}
    assert [run.outcome for run in found.runs] == ["published"]


def test_a_retrain_shows_what_was_tried_before_it(line: int) -> None:
    found = report("m@current")
    assert found.version.version == "m-v3"
    assert found.version.current
    assert "retrained from its initial weights on 15 samples of the manifest's 20" in found.summary
    assert [(v.rung, v.decision) for v in found.attempts_at_a_verdict] == [
        ("iau", Decision.ESCALATE),
        ("retrain", Decision.PUBLISH),
    ]
    assert [parent.version for parent in found.lineage.parents] == ["m-v2", "m-v1"]
    assert (found.drift.updates, found.drift.forgotten, found.drift.live_samples) == (0, 0, 15)
    assert found.drift.false_publishes == 0
    assert found.drift.expectation == "Nothing was published on an estimate since the last training."
    kinds = [event["kind"] for event in found.timeline]
    assert kinds[0] == "batch.closed"
    assert "version.published" in kinds


def test_one_sample_is_not_called_samples(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    story.work(model_id)
    assert "approximate update for 1 sample that" in report("m-v2").summary


@pytest.mark.parametrize("reference", ["m-v1", "m-v2", "m-v3"])
def test_no_id_is_in_it_and_it_is_plain_json(line: int, reference: str) -> None:
    said = json.dumps(report(reference).model_dump(mode="json"), allow_nan=False)
    assert "s-00" not in said
    assert '"p-' not in said


def test_a_version_that_also_answers_a_late_ticket(database: str) -> None:
    story.answered_late()
    assert len(report("m-v2").lineage.tickets) == 2


def test_the_errors_of_updates_add_up_until_a_training(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    for ordinal, error in enumerate([0.05, 0.05, 0.2]):
        story.replace(model_id, story.EAGER | {"thresholds": {"error": error}})
        story.submit(ordinal)
        story.work(model_id)
    assert [report(f"m-v{number}").drift.false_publishes for number in (1, 2, 3, 4)] == [0, 0.05, 0.1, 0.3]
    story.retrain(model_id)
    story.work(model_id)
    assert report("m@current").drift.false_publishes == 0
    assert "At most 0.3 of 3 updates since the last training are expected" in report("m-v4").drift.expectation


def test_how_an_update_was_judged(line: int) -> None:
    found = report("m-v2").validation
    mu, ue = found.estimates
    assert (mu.name, mu.estimate, mu.threshold, mu.standing, mu.of) == ("mu", -0.01, 0.03, "within", "test samples")
    assert (ue.name, ue.n, ue.claimed, ue.assumption_is) == ("ue", 40, False, "not tested")
    (turn,) = found.attempts
    assert (turn.rung, turn.attempt, turn.of, turn.error, turn.this) == ("iau", 1, 2, pytest.approx(0.03), True)
    assert found.error == 0.05
    assert found.expected_false == report("m-v2").drift.expectation
    assert found.one_by_one is not None
    assert found.one_by_one.says == (
        "2 forgotten samples are too few for a rate: below 50 no rate is claimed of them, and UE decides nothing."
    )
    assert found.one_by_one.says in found.not_shown


def test_a_retrain_has_nothing_to_estimate(line: int) -> None:
    found = report("m-v3")
    assert (found.validation.estimates, found.validation.power, found.validation.not_shown) == ([], None, [])
    assert [(turn.rung, turn.attempt, turn.this) for turn in found.validation.attempts] == [
        ("iau", 1, False),
        ("retrain", None, True),
    ]
    assert [answer.question for answer in found.answers] == [
        "What was asked?",
        "What was done?",
        "How do we know?",
        "What still holds the samples?",
    ]
    assert "Before that, approximate updates were tried and not published: iau (escalate)." in found.answers[1].answer


def test_retrains_have_counted_whose_intervals_held(line: int) -> None:
    """Of both updates, the one that was not published too; UE of so few samples does not count."""
    (mu,) = report("m-v2").validation.calibration.retrains
    assert (mu.name, mu.covered, mu.count, mu.nominal) == ("mu", 2, 2, 0.95)
    said = report("m-v2").answers[2].answer
    assert (
        "Retrains of this model have since shown the true MU for 2 verdicts: 2 of 2 intervals held it, of 95% that should."
        in said
    )


def copies(reference: str) -> dict[str, Copy]:
    return {copy.what: copy for copy in report(reference).validation.copies}


def test_earlier_weights_hold_what_was_forgotten_until_they_are_purged(line: int) -> None:
    assert copies("m-v1") == {}, "it forgot nothing"
    there = copies("m-v3")
    assert {what for what in there if what.startswith("weights")} == {"weights of m-v2", "weights of m-v1"}
    purged = there["weights of m-v2"]
    superseded = report("m-v2").version.superseded_at
    assert superseded is not None
    assert (purged.state, purged.at) == ("there", superseded + timedelta(days=30))
    story.replace(line, story.EAGER | {"keep_weights_days": 0})
    with transaction() as session:
        versions.expire_weights(session)
    gone = copies("m-v3")["weights of m-v2"]
    assert (gone.state, gone.at) == ("gone", report("m-v2").version.weights_purged_at)
    assert "No earlier weights that learnt from them are kept here." in report("m-v3").answers[-1].answer


def test_what_the_service_cannot_know_is_said_to_be_unknown(line: int) -> None:
    found = copies("m-v2")
    assert {what for what, copy in found.items() if copy.state == "unknown"} == {
        "back-ups of this service",
        "copies elsewhere",
        "the samples themselves",
    }
    (ticket,) = report("m-v2").lineage.tickets
    assert found["the samples themselves"].at == ticket.data_releasable_at
    assert found["what was prepared for updates of m-v1"].state == "gone"


def test_raw_samples_that_are_still_needed_say_so(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    story.work(model_id)
    raw = copies("m-v2")["the samples themselves"]
    assert (raw.state, raw.at) == ("there", None)
    assert "the owner may not destroy them yet" in raw.says


def test_a_bank_has_no_rows_of_what_was_forgotten_and_ends_with_the_line(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    with transaction() as session:
        model = session.get_one(Model, model_id)
        banks.order(session, model, banks.anchor(session, model_id), 4, "to be sure", "operator")
    story.submit(1)
    story.work(model_id)
    assert copies("m-v2")["reference bank of m-v1"].state == "there"
    story.retrain(model_id)
    story.work(model_id)
    ended = copies("m-v3")["reference bank of m-v1"]
    assert ended.state == "gone"
    assert copies("m-v2")["reference bank of m-v1"] == ended


def test_the_bank_that_a_verdict_leant_on(line: int) -> None:
    facts = {
        "sha256": "ab" * 32,
        "references": 8,
        "noise_floor": {"level": 0.95, "mu": 0.012, "ue": 0.06},
        "calibration": [{"size": 50, "tickets": 160, "covered": 152, "nominal": 0.95, "a later field": 1}],
    }
    rewrite(line, method={"method": "iau", "bank": facts})
    found = report("m-v2").validation
    bank = found.calibration.bank
    assert bank is not None
    assert (bank.references, bank.noise_floor_ue, bank.ready_at, bank.samples) == (8, 0.06, None, None)
    assert [(row.covered, row.tickets) for row in bank.simulated] == [(152, 160)]
    assert [estimate.noise_floor for estimate in found.estimates] == [0.012, 0.06]
    assert not [said for said in found.not_shown if "reference bank" in said]


def rewrite(model_id: int, **values: Any) -> None:
    """Let the verdict on the model's second version be another."""
    with transaction() as session:
        second = select(Version.verdict_id).where(Version.model_id == model_id, Version.number == 2).scalar_subquery()
        session.execute(update(Verdict).where(Verdict.id == second).values(**values))


def test_a_verdict_of_an_earlier_release_still_has_its_report(line: int) -> None:
    """Fewer statistics, no attempt, no error, no bank: what it lacks is left out, and the page is drawn."""
    old = {name: story.statistics()[name] for name in ("mu", "ue", "exposure_before", "exposure", "recall", "accuracy")}
    rewrite(line, statistics=old, thresholds={"mu": 0.03, "ue": 0.15, "worst_class": 0.15}, method={"method": "iau"})
    found = report("m-v2")
    assert [turn.attempt for turn in found.validation.attempts] == [None]
    assert (found.validation.error, found.validation.attacks, found.validation.calibration.bank) == (None, [], None)
    assert found.validation.power is not None
    assert found.validation.power.informative is None
    assert "No attack but the one behind UE was tried." in found.validation.not_shown
    page = pages.templates.env.get_template("audit.html").render(report=found)
    for answer in found.answers:
        assert answer.question in page


DRAWN = {
    "n_f": 2,
    "coarse": True,
    "withheld": "2 samples of the forget set can be compared",
    "source": "holdout",
    "confidence": None,
    "roc": [],
    "classes": {"labels": [0, 1], "n": [30, 40], "before": [28, 39], "after": [27, 39], "left_out": 0},
    "norms": None,
    "why_no_norms": "2 samples of the forget set can be compared",
    "maps": None,
    "why_no_maps": "MLP has no Conv2d layer",
    "of a later release": 1,
}


def draw(*numbers: int) -> None:
    """Give versions the figures that a worker would have recorded with their verdicts."""
    with transaction() as session:
        found = select(Version.verdict_id).where(Version.number.in_(numbers))
        session.execute(update(Verdict).where(Verdict.id.in_(found)).values(figures=DRAWN))


def test_figures_are_those_of_the_version_own_verdict(line: int) -> None:
    draw(2)
    found = report("m-v2").figures
    assert found is not None
    assert found.classes is not None
    assert (found.classes.after, found.why_no_maps) == ([27, 39], "MLP has no Conv2d layer")
    assert report("m-v1").figures is None, "a verdict of an earlier release"
    assert report("m-v3").figures is None


class TestComparison:
    """Two versions of one model, side by side."""

    def compare(self, one: str, other: str) -> Comparison:
        with transaction() as session:
            return evidence.compare(session, versions.resolve(session, one), versions.resolve(session, other))

    def test_the_earlier_one_comes_first_whatever_the_order(self, line: int) -> None:
        found = self.compare("m-v3", "m-v2")
        assert (found.earlier.version.version, found.later.version.version) == ("m-v2", "m-v3")
        assert found == self.compare("m-v2", "m@current")

    def test_an_update_and_what_it_began_from(self, line: int) -> None:
        found = self.compare("m-v1", "m-v2").lineage
        assert (found.publications, found.updates, found.trainings, found.forgotten) == (1, 1, 0, 2)
        assert (found.anchor_earlier, found.anchor_later) == ("m-v1", "m-v1")
        assert [step.version for step in found.path] == ["m-v2"]
        assert found.says == "m-v2 descends from the weights of m-v1 by 1 approximate update."

    def test_a_training_lies_between(self, line: int) -> None:
        found = self.compare("m-v1", "m-v3").lineage
        assert (found.publications, found.updates, found.trainings) == (2, 1, 1)
        assert found.forgotten == 5
        assert (found.anchor_earlier, found.anchor_later) == ("m-v1", "m-v3")
        assert [step.version for step in found.path] == ["m-v2", "m-v3"]
        assert "m-v3 has none of the weights of m-v1" in found.says

    def test_statistics_stand_in_pairs(self, line: int) -> None:
        with transaction() as session:
            second = session.scalars(select(Version).where(Version.number == 2)).one()
            row = session.get_one(Verdict, second.verdict_id)
            row.statistics = {name: value for name, value in row.statistics.items() if name != "recall"}
        found = {pair.name: pair for pair in self.compare("m-v2", "m-v3").statistics}
        assert next(iter(found)) == "mu"
        assert found["mu"].earlier == found["mu"].later
        assert (found["recall"].earlier is None, found["recall"].later is None) == (True, False)

    def test_rules_that_differ_are_told_by_their_path(self, line: int) -> None:
        assert self.compare("m-v2", "m-v3").policy == []
        story.replace(line, story.EAGER | {"thresholds": {"mu": 0.02}, "ladder": ["iau", "retrain"]})
        story.submit(9)
        story.work(line)
        found = {each.path: (each.earlier, each.later) for each in self.compare("m-v2", "m-v4").policy}
        assert found["thresholds.mu"] == (0.03, 0.02)
        assert found["ladder"] == (["iau", "iau-calibrated", "retrain"], ["iau", "retrain"])
        assert found.keys() == {"thresholds.mu", "ladder"}

    def test_only_two_versions_of_one_model(self, line: int) -> None:
        story.trained("other")
        for one, other, why in (("m-v1", "other-v1", "different models"), ("m-v3", "m@current", "name the same")):
            with pytest.raises(Unprocessable, match=why):
                self.compare(one, other)

    @pytest.mark.parametrize("numbers", [(), (2,), (2, 3)])
    def test_the_page_shows_both(self, line: int, numbers: tuple[int, ...]) -> None:
        draw(*numbers)
        found = self.compare("m-v2", "m-v3")
        page = pages.templates.env.get_template("compare.html").render(report=found)
        text = " ".join(re.sub("<[^>]*>", " ", page).split())
        for part in (found.earlier.summary, found.later.summary, found.lineage.says, *found.not_shown):
            assert html.escape(part, quote=False) in text.replace("&#39;", "'"), part
        assert page.count(found.later.version.weights_sha256) == 2
        assert "+0.020" in text
        assert ('id="utility"' in page) == (len(numbers) == 2)
        assert "style=" not in page
        for href in re.findall(r'(?:href|src)="([^"]*)"', page):
            assert href.startswith(("../../", "#"))
        identities = re.findall(r'\bid="([^"]*)"', page)
        assert len(set(identities)) == len(identities)


def test_the_training_that_the_weights_come_from(line: int) -> None:
    curve = [
        {"number": 1, "train_loss": 2.1, "tuning_loss": 2.0, "tuning_accuracy": 0.4},
        {"number": 2, "train_loss": 1.2, "tuning_loss": 1.3, "tuning_accuracy": 0.7},
    ]
    kept = {"method": "retrain", "samples": 20, "curve": curve, "seconds_a_step": {"restricted": 0.004, "plain": 0.002}}
    with transaction() as session:
        first = versions.resolve(session, "m-v1")
        session.execute(update(Verdict).where(Verdict.id == first.verdict_id).values(method=kept))
        recipe = {"recipe": {"restriction": "per-sample", "alpha": 0.005}}
        session.execute(update(Version).where(Version.id == first.id).values(environment=recipe))
    found = report("m-v2").training
    assert (found.version, found.samples, found.cost) == ("m-v1", 20, 2.0)
    assert [epoch.train_loss for epoch in found.epochs] == [2.1, 1.2]
    page = pages.templates.get_template("audit.html").render(report=report("m-v2"))
    assert "Training loss from 2.1 to 1.2 in 2 epochs" in page
    assert "a step with it took 2.00 times as long as one without" in page
    assert report("m-v3").training.epochs == []
