"""The verdict from statistics, and a policy's own rules."""

import threading
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import update

from app import banks, policy
from app.db import transaction
from app.errors import PreconditionFailed, Unprocessable
from app.policy import PolicyBody, Settle, judge, judge_retrain
from app.tables import Bank, BankState, Decision, Model, Policy
from tests.app import story
from tests.app.story import statistic, statistics

BODY = PolicyBody()
ACCEPTING = PolicyBody(accept_undetectable=True)
NAN = (float("nan"),) * 3
COUNT = 100
READ = (
    "mu", "ue", "ue_before", "forgetting", "exposure_before", "exposure", "exposure_change", "residual", "overshoot",
    "worst_class", "attack_tpr", "attack_fpr",
)  # fmt: skip
"""What `judge` cannot do without."""


def shown(estimate: float, low: float, high: float, n: int = COUNT) -> dict[str, Any]:
    return statistic(estimate, low, high, n)


UNSEEN = shown(0.0, -0.1, 0.1)
UNDETECTED = {"exposure_before": UNSEEN, "exposure": UNSEEN, "exposure_change": UNSEEN}
"""By rank there was nothing to forget."""
NEVER_SEEN = UNDETECTED | {"ue_before": shown(0.0, -0.1, 0.1)}
ALWAYS_MEMBER = {
    "ue": shown(0.0, 0.0, 0.0), "ue_before": shown(0.0, 0.0, 0.0), "forgetting": shown(0.0, -0.01, 0.01),
    "attack_tpr": shown(1.0, 0.97, 1.0), "attack_fpr": shown(1.0, 0.98, 1.0),
}  # fmt: skip


def found(n: int = COUNT, **replaced: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Statistics of an update that passes, of `n` samples, some replaced."""
    return {name: value | {"n": n} for name, value in statistics().items()} | replaced


def test_every_question_is_answered_with_publish() -> None:
    judgement = judge(BODY, found(), COUNT)
    assert (judgement.decision, judgement.settle) == (Decision.PUBLISH, None)
    assert len(judgement.reasons) == 4  # MU, UE, the worst class, progress: the rest has nothing to say


@pytest.mark.parametrize(
    ("name", "values", "decision", "words"),
    [
        ("mu", (0.0, -0.03, 0.03), Decision.PUBLISH, "within"),
        ("mu", (0.0, -0.031, 0.03), Decision.INCONCLUSIVE, "crosses"),
        ("mu", (0.0, -0.01, 0.031), Decision.INCONCLUSIVE, "crosses"),
        ("mu", (0.0, -0.2, 0.2), Decision.INCONCLUSIVE, "crosses"),
        ("mu", (0.05, 0.031, 0.06), Decision.ESCALATE, "accuracy rose"),
        ("mu", (-0.05, -0.06, -0.031), Decision.ESCALATE, "accuracy fell"),
        ("ue", (0.0, -0.15, 0.15), Decision.PUBLISH, "within"),
        ("ue", (0.1, 0.0, 0.151), Decision.INCONCLUSIVE, "crosses"),
        ("ue", (-0.1, -0.151, 0.0), Decision.INCONCLUSIVE, "crosses"),
        ("ue", (0.3, 0.151, 0.4), Decision.ESCALATE, "members still stand out"),
        ("ue", (-0.3, -0.4, -0.151), Decision.ESCALATE, "over-forgetting"),
        ("worst_class", (-0.15, -0.4, 0.0), Decision.PUBLISH, "limit 0.15"),
        ("worst_class", (-0.16, -0.2, 0.0), Decision.PUBLISH, "beyond, but not surely"),
        ("worst_class", (-0.2, -0.3, -0.151), Decision.ESCALATE, "surely beyond"),
        ("worst_class", (0.2, 0.1, 0.3), Decision.PUBLISH, "loses 0.000"),
        ("cumulative_mu", (-0.02, -0.04, 0.0), Decision.PUBLISH, "since the last training"),
        ("cumulative_mu", (-0.031, -0.05, -0.01), Decision.INCONCLUSIVE, "since the last training"),
        ("cumulative_mu", (-0.05, -0.06, -0.031), Decision.ESCALATE, "wholly beyond"),
        ("cumulative_mu", (0.1, 0.08, 0.12), Decision.PUBLISH, "since the last training"),
        ("exposure_change", (-0.1, -0.2, -0.001), Decision.PUBLISH, "surely fallen"),
        ("exposure_change", (-0.1, -0.2, 0.0), Decision.INCONCLUSIVE, "cannot be told from doing nothing"),
        ("exposure", (0.2, 0.1, 0.3), Decision.PUBLISH, "at most half is left"),
        ("exposure", (0.21, 0.1, 0.3), Decision.INCONCLUSIVE, "more than half is left"),
        ("exposure", (-0.2, -0.3, -0.1), Decision.PUBLISH, "at most half is left"),
        ("exposure", (-0.41, -0.5, -0.3), Decision.INCONCLUSIVE, "all of it overshot"),
        ("residual", (0.1, 0.0, 0.2), Decision.PUBLISH, "exposure went"),
        ("residual", (0.1, 0.001, 0.2), Decision.ESCALATE, "surely more than half is left"),
        ("overshoot", (-0.1, -0.2, 0.0), Decision.PUBLISH, "exposure went"),
        ("overshoot", (-0.1, -0.2, -0.001), Decision.ESCALATE, "over-forgetting, D_f stands out below"),
        ("members", (0.0, 0.0, 0.03), Decision.PUBLISH, ""),
        ("members", (0.02, 0.0, 0.06), Decision.ESCALATE, "2 of 100 samples stand out one by one, still as members"),
        ("strangers", (0.01, 0.0, 0.05), Decision.ESCALATE, "1 of 100 samples stand out one by one, below unseen data"),
        ("neighbours", (0.1, 0.05, 0.2), Decision.PUBLISH, ""),
        ("neighbours", (0.1, 0.051, 0.2), Decision.PUBLISH, "to be watched: the exposure of retained samples"),
        ("fair_draw", (-0.05, -0.08, -0.02), Decision.PUBLISH, ""),
        ("fair_draw", (-0.2, -0.45, 0.01), Decision.PUBLISH, ""),
        ("fair_draw", (-0.06, -0.08, -0.02), Decision.INCONCLUSIVE, "no fair draw"),
        ("fair_draw", (0.06, 0.02, 0.08), Decision.INCONCLUSIVE, "no fair draw"),
    ],
)
def test_each_statistic_on_each_side(
    name: str, values: tuple[float, float, float], decision: Decision, words: str
) -> None:
    judgement = judge(BODY, found(**{name: shown(*values)}), COUNT)
    assert judgement.decision is decision
    assert any(words in reason for reason in judgement.reasons)
    assert (judgement.settle is not None) is (decision is Decision.INCONCLUSIVE)


@pytest.mark.parametrize("name", [*READ, "cumulative_mu", "members", "strangers", "neighbours", "fair_draw"])
@pytest.mark.parametrize("part", ["estimate", "low", "high"])
@pytest.mark.parametrize("body", [BODY, ACCEPTING])
@pytest.mark.parametrize("given", [{}, NEVER_SEEN], ids=["detectable", "undetectable"])
def test_what_is_no_number_is_never_published(
    name: str, part: str, body: PolicyBody, given: dict[str, dict[str, Any]]
) -> None:
    figures = found(**given)
    for value in (float("nan"), float("inf"), float("-inf")):
        broken = figures | {name: figures.get(name, shown(0.0, 0.0, 0.0)) | {part: value}}
        assert judge(body, broken, COUNT).decision is not Decision.PUBLISH


@pytest.mark.parametrize("name", READ)
def test_what_is_missing_is_our_fault(name: str) -> None:
    """But for what only the other view of progress reads."""
    figures = found(**(UNDETECTED if name in ("ue_before", "forgetting") else {}))
    del figures[name]
    with pytest.raises(KeyError):
        judge(BODY, figures, COUNT)


@pytest.mark.parametrize(
    ("replaced", "decision", "words"),
    [
        ({}, Decision.PUBLISH, "at least half is gone"),
        ({"forgetting": shown(-0.1, -0.2, -0.001)}, Decision.PUBLISH, "at least half is gone"),
        ({"forgetting": shown(-0.1, -0.2, 0.0)}, Decision.INCONCLUSIVE, "too few calls to tell it from doing nothing"),
        ({"ue_before": shown(0.03, 0.02, 0.05)}, Decision.INCONCLUSIVE, "more than half is left"),
        ({"ue": shown(-0.1, -0.12, -0.08), "ue_before": shown(0.1, 0.05, 0.15)}, Decision.INCONCLUSIVE, "overshot"),
        ({"ue_before": shown(0.1, 0.0, 0.2)}, Decision.INCONCLUSIVE, "not detectable"),
        ({"attack_tpr": shown(0.7, 0.65, 0.75)}, Decision.INCONCLUSIVE, "not detectable"),  # hardly above the unseen
    ],
)
def test_where_only_the_attack_sees_something(
    replaced: dict[str, dict[str, Any]], decision: Decision, words: str
) -> None:
    judgement = judge(BODY, found(**UNDETECTED | replaced), COUNT)
    assert judgement.decision is decision
    assert any(words in reason for reason in judgement.reasons)


def test_an_escalation_outweighs_what_is_merely_open() -> None:
    judgement = judge(BODY, found(mu=shown(0.0, -0.2, 0.2), ue=shown(0.3, 0.2, 0.4)), COUNT)
    assert (judgement.decision, judgement.settle) == (Decision.ESCALATE, None)
    assert len(judgement.reasons) == 1


class TestFewSamples:
    """Below 50 no rate is claimed: neither for an update nor against it."""

    @pytest.mark.parametrize("n", [1, 49])
    @pytest.mark.parametrize("ue", [(0.0, -0.1, 0.1), (0.0, -0.9, 0.9), (0.5, 0.3, 0.7), (-0.5, -0.7, -0.3)])
    def test_ue_says_nothing(self, n: int, ue: tuple[float, float, float]) -> None:
        judgement = judge(BODY, found(n, ue=shown(*ue, n)), n)
        assert judgement.decision is Decision.PUBLISH  # by rank
        assert not any("UE" in reason for reason in judgement.reasons)

    def test_fifty_have_one(self) -> None:
        assert judge(BODY, found(50, ue=shown(0.5, 0.3, 0.7, 50)), 50).decision is Decision.ESCALATE

    def test_nor_does_what_the_attack_saw_before(self) -> None:
        judgement = judge(BODY, found(49, **UNDETECTED), 49)
        assert judgement.decision is Decision.INCONCLUSIVE
        assert any("49 samples was not detectable" in reason for reason in judgement.reasons)

    def test_a_bank_that_knows_too_few_of_many_has_none_either(self) -> None:
        judgement = judge(BODY, found(55, ue=shown(0.5, 0.3, 0.7, 45)), 55)
        assert not any("UE" in reason for reason in judgement.reasons)
        unseen = judge(BODY, found(55, **UNDETECTED | {"ue": shown(0.02, -0.05, 0.09, 45)}), 55)
        assert unseen.decision is Decision.INCONCLUSIVE

    def test_what_stands_out_one_by_one_counts_all_the_same(self) -> None:
        assert judge(BODY, found(3, members=shown(1 / 3, 0.1, 0.7, 3)), 3).decision is Decision.ESCALATE


class TestAnAttackThatSaysMemberOfAll:
    """Its recall is one and its UE nought for every model: that is no evidence, whatever the interval."""

    def test_is_called_uninformative_and_settles_nothing_by_itself(self) -> None:
        judgement = judge(BODY, found(**ALWAYS_MEMBER), COUNT)
        assert judgement.decision is Decision.PUBLISH  # by rank, which does not need it
        assert any("uninformative: that is no evidence" in reason for reason in judgement.reasons)
        for body in (BODY, ACCEPTING):
            unseen = judge(body, found(**UNDETECTED | ALWAYS_MEMBER), COUNT)
            assert (unseen.decision is Decision.PUBLISH) is body.accept_undetectable
            assert any("not detectable" in reason for reason in unseen.reasons)

    def test_cannot_show_that_there_was_something_to_forget(self) -> None:
        seeming = ALWAYS_MEMBER | {"ue_before": shown(0.3, 0.2, 0.4), "forgetting": shown(-0.3, -0.4, -0.2)}
        assert judge(BODY, found(**UNDETECTED | seeming), COUNT).decision is Decision.INCONCLUSIVE

    def test_does_not_ask_for_a_larger_batch(self) -> None:
        wide = ALWAYS_MEMBER | {"ue": shown(0.0, -0.5, 0.5)}
        judgement = judge(BODY, found(**wide), COUNT)
        assert judgement.decision is Decision.INCONCLUSIVE
        assert judgement.settle is not None
        assert judgement.settle.kind == "next_rung"


class TestUndetectable:
    def test_a_policy_may_accept_it(self) -> None:
        assert judge(ACCEPTING, found(**NEVER_SEEN), COUNT).decision is Decision.PUBLISH
        judgement = judge(BODY, found(**NEVER_SEEN), COUNT)
        assert judgement.decision is Decision.INCONCLUSIVE
        assert any("nothing shows that they were forgotten" in reason for reason in judgement.reasons)

    def test_but_not_that_they_stand_out_the_other_way_now(self) -> None:
        below = NEVER_SEEN | {"exposure": shown(-0.3, -0.4, -0.2), "exposure_change": shown(-0.3, -0.4, -0.2)}
        judgement = judge(ACCEPTING, found(**below), COUNT)
        assert judgement.decision is Decision.INCONCLUSIVE
        assert any("stand out below unseen data" in reason for reason in judgement.reasons)
        as_before = below | {"exposure_change": shown(0.0, -0.1, 0.1)}  # hard samples, as they always were
        assert judge(ACCEPTING, found(**as_before), COUNT).decision is Decision.PUBLISH

    def test_nor_a_rate_beyond_the_threshold(self) -> None:
        assert judge(ACCEPTING, found(**NEVER_SEEN, ue=shown(-0.3, -0.4, -0.2)), COUNT).decision is Decision.ESCALATE


class TestWhatWouldSettleIt:
    @staticmethod
    def settle(count: int = COUNT, body: PolicyBody = BODY, **replaced: dict[str, Any]) -> Settle:
        judgement = judge(body, found(**replaced), count)
        assert judgement.decision is Decision.INCONCLUSIVE
        assert judgement.settle is not None
        return judgement.settle

    def test_a_wide_ue_asks_for_the_samples_that_narrow_it_to_half_the_threshold(self) -> None:
        settle = self.settle(ue=shown(0.0, -0.3, 0.3))
        assert (settle.kind, settle.samples) == ("larger_batch", 1601)  # 0.3 / 0.075 squared, times 100
        assert "1601 samples" in settle.says

    def test_a_narrow_ue_across_the_threshold_asks_for_another_update(self) -> None:
        assert self.settle(ue=shown(0.1, 0.03, 0.17)).kind == "next_rung"

    def test_a_change_that_cannot_be_told_asks_for_more_samples_if_they_could_tell(self) -> None:
        settle = self.settle(exposure_before=shown(0.1, 0.02, 0.18), exposure_change=shown(-0.09, -0.21, 0.03),
                             exposure=shown(0.01, -0.1, 0.1))  # fmt: skip
        assert (settle.kind, settle.samples) == ("larger_batch", int(100 * 1.2**2) + 1)
        idle = self.settle(exposure_change=shown(0.0, -0.01, 0.01), exposure=shown(0.4, 0.3, 0.5))
        assert idle.kind == "next_rung"  # more samples would show the same

    def test_a_signal_within_chance_asks_for_more_samples(self) -> None:
        near = shown(0.08, -0.02, 0.18)
        settle = self.settle(**NEVER_SEEN | {"exposure_before": near})
        assert (settle.kind, settle.samples) == ("larger_batch", int(100 * (0.1 / 0.08) ** 2) + 1)
        assert self.settle(**NEVER_SEEN | {"exposure_before": shown(-0.01, -0.1, 0.1)}).kind == "next_rung"

    def test_what_no_batch_will_bring_is_not_asked_for(self) -> None:
        """More than a hundred times as many: neither for a signal of next to nothing nor for a hair's breadth of UE."""
        assert self.settle(**NEVER_SEEN | {"exposure_before": shown(0.009, -0.1, 0.1)}).kind == "next_rung"
        assert self.settle(**NEVER_SEEN | {"exposure_before": shown(5e-324, -0.1, 0.1)}).kind == "next_rung"
        narrow = PolicyBody.model_validate({"thresholds": {"ue": 0.001}})
        assert self.settle(body=narrow).kind == "next_rung"

    def test_of_two_batches_the_larger_is_asked_for(self) -> None:
        settle = self.settle(**NEVER_SEEN | {"exposure_before": shown(0.08, -0.02, 0.18), "ue": shown(0.0, -0.3, 0.3)})
        assert settle.samples == 1601

    def test_an_unfair_draw_asks_for_a_bank_unless_there_is_none_to_come(self) -> None:
        unfair = shown(-0.2, -0.3, -0.1)
        settle = self.settle(fair_draw=unfair)
        assert (settle.kind, settle.references) == ("references", 8)
        never = PolicyBody.model_validate({"bank": {"build": "never"}})
        assert self.settle(body=never, fair_draw=unfair).kind == "next_rung"
        by_bank = found(fair_draw=unfair, ue=shown(0.02, -0.05, 0.09) | {"estimator": "bank"})
        assert judge(BODY, by_bank, COUNT).decision is Decision.PUBLISH  # the bank needs no fair draw

    def test_a_bank_before_a_batch_and_another_update_before_both(self) -> None:
        unfair, wide = shown(-0.2, -0.3, -0.1), shown(0.0, -0.3, 0.3)
        assert self.settle(fair_draw=unfair, ue=wide).kind == "references"
        assert self.settle(fair_draw=unfair, ue=wide, mu=shown(0.0, -0.1, 0.1)).kind == "next_rung"


rates = st.floats(-1, 1)


@st.composite
def intervals(draw: Any) -> dict[str, Any]:
    low, estimate, high = sorted(draw(st.tuples(rates, rates, rates)))
    return shown(estimate, low, high)


def times(statistic: dict[str, Any], factor: float) -> dict[str, Any]:
    return shown(*(statistic[part] * factor for part in ("estimate", "low", "high")), statistic["n"])


@given(
    before=intervals(), mu=intervals(), excess=intervals(), worst=intervals(), tpr=intervals(), fpr=intervals(),
    chance=st.floats(0, 0.2), thresholds=st.floats(0.001, 1), n=st.sampled_from([10, 100]),
)  # fmt: skip
@settings(max_examples=500, deadline=None, derandomize=True)
def test_an_update_that_does_nothing_is_never_published(
    before: Any, mu: Any, excess: Any, worst: Any, tpr: Any, fpr: Any, chance: float, thresholds: float, n: int
) -> None:
    """It leaves excess and exposure as they were and changes no call, whatever chance makes of it."""
    lenient = PolicyBody.model_validate(
        {"thresholds": {"mu": thresholds, "ue": thresholds, "worst_class": 1, "retrain_accuracy_drop": 1}}
    )
    idle = found(
        mu=mu, ue=excess | {"n": n}, ue_before=excess, forgetting=shown(0.0, -chance, chance), worst_class=worst,
        exposure_before=before, exposure=before, exposure_change=shown(0.0, -chance, chance), residual=times(before, 0.5),
        overshoot=times(before, 1.5), attack_tpr=tpr, attack_fpr=fpr,
    )  # fmt: skip
    assert judge(lenient, idle, n).decision is not Decision.PUBLISH


@given(mu=intervals(), ue=intervals())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_nothing_is_published_but_by_equivalence(mu: Any, ue: Any) -> None:
    decision = judge(BODY, found(mu=mu, ue=ue), COUNT).decision
    inside = all(
        -limit <= found["low"] and found["high"] <= limit
        for found, limit in ((mu, BODY.thresholds.mu), (ue, BODY.thresholds.ue))
    )
    assert (decision is Decision.PUBLISH) is inside


@pytest.mark.parametrize(
    ("accuracy", "before", "decision"),
    [
        (0.1, None, Decision.PUBLISH),
        (0.80, 0.89, Decision.PUBLISH),
        (0.78, 0.89, Decision.ESCALATE),
        (0.95, 0.5, Decision.PUBLISH),
    ],
)
def test_a_retrain_is_held_only_when_it_is_no_use(accuracy: float, before: float | None, decision: Decision) -> None:
    assert judge_retrain(BODY, accuracy, before).decision is decision


@pytest.mark.parametrize(
    "body",
    [
        {"ladder": []},
        {"ladder": ["iau"]},
        {"ladder": ["retrain", "iau"]},
        {"ladder": ["iau", "iau", "retrain"]},
        {"ladder": ["magic", "retrain"]},
        {"ladder": ["nothing", "retrain"]},
        {"ladder": ["own:", "retrain"]},
        {"ladder": ["own:a b", "retrain"]},
        {"ladder": ["iau", "iau-calibrated", "scrub", "retrain"]},
        {"thresholds": {"error": 0.0005}},
        {"thresholds": {"error": 0.25}},
        {"drift": {"false_publishes": 0}},
        {"methods": {"scrub": {}}},
        {"ladder": ["scrub", "retrain"], "methods": {"scrub": 1}},
        {"ladder": ["iau", "retrain"], "methods": {"iau": {}}},
        {"recorder": {"limit_bytes": -1}},
        {"recorder": {"importance_batch": 0}},
        {"recorder": {"watched": [1]}},
        {"thresholds": {"mu": 0}},
        {"thresholds": {"mu": 1.1}},
        {"thresholds": {"ue": -0.1}},
        {"thresholds": {"mu": float("nan")}},
        {"thresholds": {"mu": float("inf")}},
        {"thresholds": {"mew": 0.1}},
        {"update": {"eta": 0}},
        {"update": {"evaluations": 2}},
        {"batching": {"max_samples": 0}},
        {"batching": {"max_wait_seconds": -1}},
        {"drift": {"max_share": 1.5}},
        {"window": {"days": 0}},
        {"retrain_tiers": ["extreme"]},
        {"release": "never"},
        {"keep_weights_days": -1},
        {"unheard_of": 1},
    ],
)
def test_bounds(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicyBody.model_validate(body)


def test_further_methods_may_be_named_with_their_settings() -> None:
    body = {"ladder": ["scrub", "own:mine", "retrain"], "methods": {"scrub": {"rewind": True}, "own:mine": {"a": [1]}}}
    made = PolicyBody.model_validate(body)
    assert made.model_dump(mode="json") | body == made.model_dump(mode="json")
    assert PolicyBody.model_validate_json(made.model_dump_json()) == made


def test_nothing_is_recorded_by_default() -> None:
    assert not BODY.recorder.asked
    for part in ("initial", "membership", "journal", "fisher", "importance"):
        assert PolicyBody.model_validate({"recorder": {part: True}}).recorder.asked


def test_the_default_is_written_and_read_alike() -> None:
    assert PolicyBody.model_validate(BODY.model_dump(mode="json")) == BODY
    assert BODY.ladder[-1] == "retrain"


class TestAttempts:
    @pytest.mark.parametrize(
        ("ladder", "shares"),
        [
            (["iau", "iau-calibrated", "retrain"], [0.06, 0.04]),
            (["scrub", "retrain"], [0.1]),
            (["retrain"], []),
        ],
    )
    def test_they_share_the_whole_error(self, ladder: list[str], shares: list[float]) -> None:
        body = PolicyBody.model_validate({"ladder": ladder, "thresholds": {"error": 0.1}})
        assert policy.attempts(body) == len(shares)
        found = [policy.attempt_error(body, number) for number in range(1, len(shares) + 1)]
        assert found == pytest.approx(shares)
        for wrong in (0, len(shares) + 1):
            with pytest.raises(ValueError, match="attempt"):
                policy.attempt_error(body, wrong)

    def test_a_longer_ladder_is_refused_with_the_reason_and_still_read(self) -> None:
        body = BODY.model_dump(mode="json") | {"ladder": ["iau", "iau-calibrated", "scrub", "retrain"]}
        with pytest.raises(ValidationError, match="one split of the audit's data"):
            PolicyBody.model_validate(body)
        assert policy.attempts(policy.stored(body)) == 2


class TestNoiseFloor:
    FACTS: ClassVar = {"references": 8, "noise_floor": {"mu": 0.02, "ue": 0.08, "level": 0.95}}

    @pytest.mark.parametrize(
        ("mu", "ue", "named"),
        [
            (0.03, 0.15, []),
            (0.02, 0.08, []),
            (0.01, 0.15, ["thresholds.mu"]),
            (0.03, 0.05, ["thresholds.ue"]),
            (0.01, 0.05, ["thresholds.mu", "thresholds.ue"]),
        ],
    )
    def test_thresholds_below_it_are_named(self, mu: float, ue: float, named: list[str]) -> None:
        body = PolicyBody.model_validate({"thresholds": {"mu": mu, "ue": ue}})
        assert [sentence.split()[0] for sentence in policy.below_floor(body, self.FACTS)] == named

    def test_the_sentence_has_the_figures(self) -> None:
        body = PolicyBody.model_validate({"thresholds": {"ue": 0.05}})
        assert policy.below_floor(body, self.FACTS) == [
            "thresholds.ue is 0.05, below the noise floor of 0.08: in 5% of the cases two retrains of this model differ by more"
        ]

    @pytest.mark.parametrize("facts", [{}, {"noise_floor": None}, {"noise_floor": {}}, {"noise_floor": {"mu": 0.001}}])
    def test_what_was_not_measured_refuses_nothing(self, facts: dict[str, Any]) -> None:
        assert policy.below_floor(PolicyBody.model_validate({"thresholds": {"ue": 0.001}}), facts) == []

    def test_without_an_approximate_rung_nothing_is_held_against_it(self) -> None:
        body = PolicyBody.model_validate({"thresholds": {"ue": 0.001}, "ladder": ["retrain"]})
        assert policy.below_floor(body, self.FACTS) == []

    def test_a_policy_below_that_of_the_models_bank_is_refused(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        narrow = story.EAGER | {"thresholds": {"ue": 0.05}}
        with transaction() as session:
            model = session.get_one(Model, model_id)
            bank = banks.order(session, model, banks.anchor(session, model_id), 8, "for the test", "ops")
        story.replace(model_id, narrow)  # nothing is known yet
        with transaction() as session:
            has = {"state": BankState.READY, "digest": "ab" * 32, "facts": self.FACTS}
            session.execute(update(Bank).where(Bank.id == bank.id).values(**has))
        with pytest.raises(Unprocessable, match=r"thresholds\.ue is 0\.05, below the noise floor of 0\.08"):
            story.replace(model_id, narrow)
        story.replace(model_id, story.EAGER)
        assert len(story.all_of(Policy)) == 3


class TestReplace:
    @staticmethod
    def put(model_id: int, if_match: str, mu: float = 0.02) -> Policy:
        with transaction() as session:
            body = PolicyBody.model_validate({"thresholds": {"mu": mu}})
            return policy.replace(session, session.get_one(Model, model_id), body, if_match, "operator")

    @staticmethod
    def tag(model_id: int) -> str:
        with transaction() as session:
            return policy.etag(policy.current(session, model_id))

    def test_a_new_one_is_in_force_and_the_old_one_stays(self, database: str) -> None:
        story.dataset()
        model_id = story.register()
        self.put(model_id, self.tag(model_id))
        with transaction() as session:
            assert policy.current(session, model_id).number == 2
        assert [row.number for row in story.all_of(Policy)] == [1, 2]

    def test_a_stale_tag_is_refused_with_the_present_one(self, database: str) -> None:
        story.dataset()
        model_id = story.register()
        stale = self.tag(model_id)
        self.put(model_id, stale)
        with pytest.raises(PreconditionFailed) as refused:
            self.put(model_id, stale)
        assert refused.value.headers == {"ETag": self.tag(model_id)}

    def test_a_tag_is_its_models(self, database: str) -> None:
        story.dataset()
        one, two = story.register("one"), story.register("two")
        with pytest.raises(PreconditionFailed):
            self.put(one, self.tag(two))

    def test_of_two_writers_with_one_tag_one_wins(self, database: str) -> None:
        story.dataset()
        model_id = story.register()
        tag, barrier, outcome = self.tag(model_id), threading.Barrier(4), []

        def write(number: int) -> None:
            barrier.wait()
            try:
                self.put(model_id, tag, 0.01 * (number + 1))
                outcome.append("won")
            except PreconditionFailed:
                outcome.append("told")

        threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcome) == ["told", "told", "told", "won"]
