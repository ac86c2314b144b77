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
from app.policy import PolicyBody, judge, judge_retrain
from app.tables import Bank, BankState, Decision, Model, Policy
from tests.app import story
from tests.app.story import statistic, statistics

BODY = PolicyBody()
NAN = (float("nan"),) * 3
UNSEEN = statistic(0.0, -0.1, 0.1)


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
        ("ue", (0.3, 0.151, 0.4), Decision.ESCALATE, "members still stand out"),
        ("ue", (-0.3, -0.4, -0.151), Decision.ESCALATE, "over-forgetting"),
        ("ue", NAN, Decision.INCONCLUSIVE, "crosses"),
        ("worst_class", (-0.15, -0.4, 0.0), Decision.PUBLISH, ""),
        ("worst_class", (-0.16, -0.2, 0.0), Decision.INCONCLUSIVE, "by chance"),
        ("worst_class", (-0.2, -0.3, -0.151), Decision.ESCALATE, "wholly beyond"),
        ("worst_class", (0.2, 0.1, 0.3), Decision.PUBLISH, ""),
        ("worst_class", NAN, Decision.INCONCLUSIVE, "worst class"),
        ("forgetting", (-0.1, -0.2, -0.001), Decision.PUBLISH, "at least half is gone"),
        ("forgetting", (-0.1, -0.2, 0.0), Decision.INCONCLUSIVE, "doing nothing"),
        ("forgetting", NAN, Decision.INCONCLUSIVE, "doing nothing"),
        ("ue_before", (0.04, 0.03, 0.05), Decision.PUBLISH, "at least half is gone"),
        ("ue_before", (0.03, 0.02, 0.05), Decision.INCONCLUSIVE, "more than half is left"),
        ("ue_before", (0.1, 0.0, 0.2), Decision.PUBLISH, "surely below zero"),
        ("ue_before", (float("nan"), 0.1, 0.2), Decision.INCONCLUSIVE, "more than half is left"),
        ("residual", (0.1, -0.001, 0.2), Decision.PUBLISH, ""),
        ("residual", (0.1, 0.001, 0.2), Decision.ESCALATE, "by rank, more than half"),
    ],
)
def test_each_statistic_on_each_side(
    name: str, values: tuple[float, float, float], decision: Decision, words: str
) -> None:
    judgement = judge(BODY, statistics(**{name: statistic(*values)}), 40)
    assert judgement.decision is decision
    assert any(words in reason for reason in judgement.reasons)


@pytest.mark.parametrize(
    ("residual", "decision", "words"),
    [
        ((-0.1, -0.2, -0.001), Decision.PUBLISH, "surely below zero"),
        ((-0.1, -0.2, 0.0), Decision.INCONCLUSIVE, "cannot be told"),
        ((0.1, 0.001, 0.2), Decision.ESCALATE, "more than half"),
        (NAN, Decision.INCONCLUSIVE, "cannot be told"),
    ],
)
def test_where_only_the_rank_shows(residual: tuple[float, float, float], decision: Decision, words: str) -> None:
    judgement = judge(BODY, statistics(ue_before=UNSEEN, residual=statistic(*residual)), 40)
    assert judgement.decision is decision
    assert any(words in reason for reason in judgement.reasons)


def test_an_escalation_outweighs_what_is_merely_open() -> None:
    found = statistics(mu=statistic(0.0, -0.2, 0.2), ue=statistic(0.3, 0.2, 0.4))
    judgement = judge(BODY, found, 40)
    assert judgement.decision is Decision.ESCALATE
    assert len(judgement.reasons) == 1


def test_a_policy_may_accept_what_was_never_detectable() -> None:
    found = statistics(ue_before=UNSEEN, exposure_before=UNSEEN, residual=statistic(0.0, -0.05, 0.05))
    assert judge(PolicyBody(accept_undetectable=True), found, 40).decision is Decision.PUBLISH
    assert judge(BODY, found, 40).decision is Decision.INCONCLUSIVE


rates = st.floats(-1, 1)


@st.composite
def intervals(draw: Any) -> dict[str, Any]:
    low, estimate, high = sorted(draw(st.tuples(rates, rates, rates)))
    return statistic(estimate, low, high)


@given(before=intervals(), mu=intervals(), excess=intervals(), worst=intervals(), thresholds=st.floats(0.001, 1))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_an_update_that_does_nothing_is_never_published(
    before: Any, mu: Any, excess: Any, worst: Any, thresholds: float
) -> None:
    """It leaves the excess as it was, changes no call, and leaves half the exposure over half of it."""
    half = statistic(before["estimate"] / 2, before["low"] / 2, before["high"] / 2)
    lenient = PolicyBody.model_validate(
        {"thresholds": {"mu": thresholds, "ue": thresholds, "worst_class": 1, "retrain_accuracy_drop": 1}}
    )
    found = statistics(
        mu=mu, ue=excess, ue_before=excess, forgetting=statistic(0.0, 0.0, 0.0), worst_class=worst,
        exposure_before=before, residual=half,
    )  # fmt: skip
    assert judge(lenient, found, 10).decision is not Decision.PUBLISH


@given(mu=intervals(), ue=intervals())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_nothing_is_published_but_by_equivalence(mu: Any, ue: Any) -> None:
    decision = judge(BODY, statistics(mu=mu, ue=ue, ue_before=UNSEEN), 10).decision
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
