"""What the report makes of a verdict's statistics: assumptions, power, attacks, small sets, and what is left unsaid."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app import policy
from app.evidence import findings
from app.evidence.estimates import Estimate, estimates
from app.evidence.validation import as_judged
from app.policy import PolicyBody
from app.schemas import VerdictView
from app.tables import Decision, VersionKind
from tests.app.story import statistic, statistics


def verdict(made: dict[str, Any], **changes: Any) -> VerdictView:
    fields: dict[str, Any] = {
        "rung": "iau",
        "decision": Decision.PUBLISH,
        "reasons": ["MU [-0.020, +0.000] against ±0.03: the whole interval is within", "UE is fine"],
        "method": {"method": "iau"},
        "statistics": made,
        "thresholds": PolicyBody().thresholds.model_dump() | {"attempt": 1, "attempt_error": 0.03},
        "seconds": {},
        "weights_sha256": "ab" * 32,
        "truth": None,
        "at": datetime(2026, 3, 4, tzinfo=UTC),
    }
    return VerdictView(**fields | changes)


def of(n: int, estimate: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    return statistic(estimate, low, high) | {"n": n} | more


def ue(**others: dict[str, Any]) -> Estimate:
    return estimates(verdict(statistics(**others)))[1]


@pytest.mark.parametrize(
    ("low", "high", "standing"),
    [(-0.15, 0.15, "within"), (-0.1, 0.16, "crosses"), (0.151, 0.3, "above"), (-0.3, -0.151, "below")],
)
def test_it_stands_as_the_policy_judged(low: float, high: float, standing: str) -> None:
    found = ue(ue=of(100, (low + high) / 2, low, high))
    decided = policy.within("UE", {"low": low, "high": high}, 0.15, "", "").decision
    assert found.standing == standing
    assert decided == {"within": "publish", "crosses": "inconclusive"}.get(standing, "escalate")


def test_the_half_width_says_what_could_be_told() -> None:
    found = ue(ue=of(100, 0.02, -0.03, 0.07))
    assert found.half_width == 0.05
    assert found.detectable == (
        "The interval reaches 0.050 to either side: a smaller difference could not have been told from none. With an interval"
        " as wide, an estimate beyond ±0.100 would not have been published."
    )
    assert "no estimate could be published" in ue(ue=of(100, 0.0, -0.2, 0.2)).detectable


@pytest.mark.parametrize(
    ("fair", "state"),
    [
        (None, "not tested"),
        (of(100, 0.0, -0.5, 0.5, interval="none"), "not tested"),
        (of(100, 0.04, 0.01, 0.07), "not contradicted"),
        (of(100, -0.09, -0.14, 0.01), "not contradicted"),
        (of(100, -0.09, -0.14, -0.04), "contradicted"),
    ],
)
def test_a_fair_draw_is_tested_as_the_policy_tests_it(fair: dict[str, Any] | None, state: str) -> None:
    made = statistics() if fair is None else statistics(fair_draw=fair)
    assert estimates(verdict(made))[1].assumption_is == state
    refused = policy.assumption(made, PolicyBody())
    assert (refused is not None) == (state == "contradicted")


def test_a_bank_rests_on_its_references_not_on_a_fair_draw() -> None:
    unfair = of(100, -0.09, -0.14, -0.04)
    shift = of(8, 0.01, -0.02, 0.04)
    found = ue(ue=of(100, 0.0, -0.1, 0.1, estimator="bank"), fair_draw=unfair, reference_shift=shift)
    assert found.assumption_is == "not contradicted"
    assert [test.name for test in found.assumption_tests] == ["reference_shift"]
    assert "reference bank" in found.estimator


def test_what_the_forecast_was_corrected_for_is_said() -> None:
    shift = of(8, 0.05, 0.01, 0.09)
    made = statistics(ue=of(100, 0.0, -0.1, 0.1, estimator="bank"), reference_shift=shift)
    assert estimates(verdict(made))[1].assumption_is == "corrected for"
    assert any(said.startswith("UE was corrected for") for said in judged(made).not_shown)


@pytest.mark.parametrize("source", ["bank", "holdout"])
@pytest.mark.parametrize(("share", "state"), [(0.05, "not contradicted"), (0.9, "contradicted")])
def test_a_set_that_takes_its_kind_along_contradicts_both(source: str, share: float, state: str) -> None:
    quiet = of(100, 0.0, -0.02, 0.02)
    made = statistics(
        ue=of(100, 0.0, -0.1, 0.1, estimator=source),
        fair_draw=quiet,
        reference_shift=quiet,
        kin=of(100, share, share, share),
    )
    assert estimates(verdict(made))[1].assumption_is == state
    assert (policy.assumption(made, PolicyBody()) is not None) is (state == "contradicted")


@pytest.mark.parametrize(("share", "ranked"), [(0.8, True), (0.79, False)])
def test_ranks_among_samples_that_are_not_as_hard_are_not_told(share: float, ranked: bool) -> None:
    made = statistics(support=of(100, share, 0.7, 0.9), ue_before=of(100, 0.0, -0.1, 0.1))
    said = " ".join(findings.power(verdict(made)).says)
    assert ("stood out by rank" in said) is ranked
    assert ("was not judged" in said) is not ranked
    accepted = judged(made, accept_undetectable=True).not_shown
    assert any("the policy accepts that" in each for each in accepted) is not ranked


def test_reasons_are_the_verdicts_own() -> None:
    mu, ue = estimates(verdict(statistics()))
    assert mu.reason == "MU [-0.020, +0.000] against ±0.03: the whole interval is within"
    assert ue.reason == "UE is fine"


def test_an_attack_that_tells_nothing_apart_is_no_evidence() -> None:
    blind = statistics(attack_tpr=of(400, 0.56, 0.5, 0.6), attack_fpr=of(300, 0.55, 0.5, 0.6))
    found = findings.power(verdict(blind))
    assert found.informative is False
    assert policy.informative(blind) is False
    assert "It cannot tell them apart: what it says is no evidence." in found.says[0]
    assert any("its UE is no evidence" in said for said in judged(blind).not_shown)


def judged(made: dict[str, Any], forgotten: int = 100, **rules: Any) -> Any:
    one = verdict(made)
    return as_judged(VersionKind.UNLEARNED, forgotten, PolicyBody(**rules), one, [one])


def test_what_could_not_be_seen_before_says_nothing_by_vanishing() -> None:
    hidden = statistics(exposure_before=of(100, 0.01, -0.05, 0.07), ue_before=of(100, 0.01, -0.05, 0.07))
    said = " ".join(findings.power(verdict(hidden)).says)
    assert said.count("did not detectably stand out") == 2
    accepted = "the policy accepts that"
    assert [
        any(accepted in each for each in judged(hidden, accept_undetectable=yes).not_shown) for yes in (True, False)
    ] == [
        True,
        False,
    ]
    assert not any(accepted in each for each in judged(statistics(), accept_undetectable=True).not_shown)


def test_attacks_stand_side_by_side_and_only_where_there_are_any() -> None:
    made = statistics(
        auc_loss_before=of(100, 0.7, 0.6, 0.8), auc_loss=of(100, 0.5, 0.4, 0.6), recall_loss_fpr5=of(100, 0.1, 0, 0.2)
    )
    (loss,) = findings.attacks(verdict(made))
    assert loss.auc.before is not None
    assert loss.auc.after is not None
    assert (loss.auc.before.estimate, loss.auc.after.estimate) == (0.7, 0.5)
    assert (loss.recall_fpr1.after, loss.recall_fpr5.before) == (None, None)
    assert loss.recall_fpr5.after is not None
    assert findings.attacks(verdict(statistics())) == []


@pytest.mark.parametrize(("forgotten", "few"), [(1, True), (49, True), (50, False)])
def test_below_fifty_no_rate_is_claimed(forgotten: int, few: bool) -> None:
    found = judged(statistics(ue=of(forgotten, 0.0, -0.1, 0.1), members=of(forgotten, 0.0, 0.0, 0.1)), forgotten)
    assert found.estimates[1].claimed is not few
    assert (found.one_by_one.says is not None) is few
    assert any("no rate is claimed" in said for said in found.not_shown) is few


def test_a_ue_of_few_samples_of_many_decides_nothing_either() -> None:
    """A bank may not know all that are to be forgotten."""
    found = judged(statistics(ue=of(49, 0.0, -0.1, 0.1)), 60)
    assert found.one_by_one is None
    assert "UE is of 49 samples, too few for a rate: it decided nothing." in found.not_shown


def test_p_values_of_a_small_set_come_without_names_in_ascending_order() -> None:
    note = "share of D_f that stands out (Benjamini-Hochberg at 1 %); p, ascending: 0.012, 0.250, 0.871"
    found = findings.one_by_one(verdict(statistics(members=of(3, 0.0, 0.0, 0.5, note=note))), 3)
    assert found is not None
    assert found.p_members == [0.012, 0.25, 0.871]
    assert found.p_members_before == []
    assert (
        found.says
        == "3 forgotten samples are too few for a rate: below 50 no rate is claimed of them, and UE decides nothing."
    )


def test_a_set_of_enough_samples_without_such_statistics_has_no_such_part() -> None:
    assert findings.one_by_one(verdict(statistics()), 100) is None


def test_the_constants_are_the_policys() -> None:
    """What is shown as violated is what the policy refuses, at the very edge."""
    for estimate, refused in ((-0.05, False), (-0.0501, True)):
        made = statistics(fair_draw=of(100, estimate, -0.09, -0.01))
        assert (policy.assumption(made, PolicyBody()) is not None) is refused
        assert (estimates(verdict(made))[1].assumption_is == "contradicted") is refused
