"""The operator's and the approver's pages: what they show, and that each button does what its confirmation says."""

from typing import Any

import pytest

from app import audit, batches
from app.auth import Scope
from app.db import transaction
from app.errors import Conflict
from app.tables import (
    ApprovalState,
    Batch,
    BatchState,
    Model,
    Policy,
    Proposal,
    ProposalState,
    Schedule,
    Verdict,
    Version,
)
from tests.app import story
from tests.app.pages import scene
from tests.app.pages.browser import Browser, text, typed
from tests.app.pages.conftest import SignedIn


@pytest.fixture
def operator(signed_in: SignedIn) -> Browser:
    return signed_in("operator", Scope.DELETIONS_READ, Scope.RETRAINS_WRITE, Scope.POLICIES_WRITE)


@pytest.fixture
def approver(signed_in: SignedIn) -> Browser:
    return signed_in("approver", Scope.DELETIONS_READ, Scope.POLICIES_APPROVE)


def told(batch: Batch) -> list[dict[str, Any]]:
    with transaction() as session:
        return audit.timeline(session, batch_id=batch.id)


class TestQueue:
    def test_it_says_what_waits_and_why(self, operator: Browser) -> None:
        known = scene.furnish()
        shown = text(operator.get("/ui/queue"))
        assert "waits for a second person's approval" in shown
        assert "CUDA ran out of memory" in shown
        assert "Updates are stopped: the true UE" in shown
        assert "step 24 of 40" in shown
        assert "60 %" in shown
        assert str(known.quarantined) in operator.get("/ui/queue").text

    def test_empty_it_says_what_comes_here(self, operator: Browser) -> None:
        assert "Nothing is owed and nothing runs" in text(operator.get("/ui/queue"))
        story.dataset()
        story.trained()
        assert "Owing nothing m m-v1" in text(operator.get("/ui/queue"))

    def test_a_flush_with_its_reason(self, operator: Browser) -> None:
        story.dataset()
        model_id = story.trained(policy=story.PATIENT)
        story.submit(1)
        assert story.close(model_id) is None
        assert "worked off at once" in text(operator.get("/ui/models/m/flush"))
        shown = text(operator.follow(operator.post("/ui/models/m/flush", {"why": "before the audit"})))
        assert "The next batch of m closes at once." in shown
        assert "A flush was asked for" in shown
        assert story.close(model_id) is not None

    def test_a_retrain_with_its_reason(self, operator: Browser) -> None:
        story.dataset()
        story.trained()
        shown = text(operator.follow(operator.post("/ui/models/m/retrain", {"why": "the recipe changed"})))
        assert "Retrain of m" in shown
        assert "the recipe changed" in shown
        missing = operator.post("/ui/models/nothing/retrain", {"why": "x"})
        assert missing.status_code == 404
        assert "No model of that name" in text(missing)

    def test_a_reason_is_needed_and_kept(self, operator: Browser) -> None:
        story.dataset()
        story.trained()
        answer = operator.post("/ui/models/m/retrain", {"why": "x" * 501})
        assert answer.status_code == 422
        assert "at most 500 characters" in text(answer)
        assert typed(answer, "why") == "x" * 501
        assert len(story.all_of(Batch)) == 1


class TestBatches:
    def test_trying_again(self, operator: Browser) -> None:
        story.dataset()
        model_id = story.trained()
        story.submit(1)
        story.close(model_id)
        lease = story.claimed(model_id)
        story.fail(lease, "the disk was full", again=False)
        path = f"/ui/batches/{lease.batch_id}"
        assert "the disk was full" in text(operator.get(path))
        shown = text(operator.follow(operator.post(f"{path}/retry", {"why": "there is room again"})))
        assert "has its attempts back" in shown
        assert "there is room again" in shown
        again = operator.post(f"{path}/retry", {"why": "and again"})
        assert again.status_code == 409
        assert "only a quarantined one can be tried again" in text(again)

    def test_cancelling_what_was_ordered(self, operator: Browser) -> None:
        story.dataset()
        model_id = story.trained()
        batch_id = story.retrain(model_id)
        path = f"/ui/batches/{batch_id}"
        assert "Cancel" in text(operator.get(path))
        shown = text(operator.follow(operator.post(f"{path}/cancel", {"why": "ordered twice"})))
        assert "The batch is cancelled." in shown
        assert story.batch(batch_id).state is BatchState.CANCELLED
        assert "Cancel " not in text(operator.get(path)).partition("Update")[0]

    def test_the_list_with_filters(self, operator: Browser) -> None:
        known = scene.furnish()
        shown = operator.get("/ui/batches?state=quarantined").text
        assert str(known.quarantined) in shown
        assert str(known.published) not in shown
        assert "No batch is like that" in text(operator.get("/ui/batches?kind=train&state=running"))
        assert operator.get("/ui/batches?model=nothing").status_code == 404

    def test_who_sees_its_own_tickets_alone_sees_no_other_s_in_the_timeline(self, signed_in: SignedIn) -> None:
        story.dataset()
        model_id = story.trained()
        ticket_id = story.submit(1, client="another")
        story.close(model_id)
        (batch,) = (each for each in story.all_of(Batch) if each.state is BatchState.READY)
        assert str(ticket_id) not in signed_in("me", Scope.DELETIONS_READ).get(f"/ui/batches/{batch.id}").text


class TestDecisions:
    def held(self) -> int:
        story.dataset()
        model_id = story.trained(policy=story.EAGER | {"window": {"max_share": 0.1}})
        story.submit(*range(5), client="tool")
        story.close(model_id)
        return model_id

    def test_a_request_is_approved_as_it_was_seen(self, approver: Browser) -> None:
        model_id = self.held()
        assert "m, request 1" in text(approver.get("/ui/decisions"))
        asked = approver.get("/ui/models/m/approvals/1/approve")
        sent = {name: typed(asked, name) for name in ("samples", "tickets_sha256", "hours")}
        shown = text(approver.follow(approver.post("/ui/models/m/approvals/1/approve", sent | {"why": "genuine"})))
        assert "Request 1 is approved." in shown
        assert story.requested(model_id).state is ApprovalState.APPROVED

    def test_more_than_was_seen_is_not(self, approver: Browser) -> None:
        model_id = self.held()
        asked = approver.get("/ui/models/m/approvals/1/approve")
        sent = {name: typed(asked, name) for name in ("samples", "tickets_sha256", "hours")}
        story.submit(10, 11, client="tool")
        story.close(model_id)
        answer = approver.post("/ui/models/m/approvals/1/approve", sent | {"why": "genuine"})
        assert answer.status_code == 409
        assert "Look again before you approve" in text(answer)
        assert typed(answer, "why") == "genuine"
        assert typed(answer, "samples") == "7", "what is to be seen now"

    def test_a_submitter_may_not(self, signed_in: SignedIn) -> None:
        self.held()
        mine = signed_in("tool", Scope.POLICIES_APPROVE)
        assert "somebody else must decide" in text(mine.get("/ui/decisions"))
        answer = mine.post("/ui/models/m/approvals/1/approve", {"samples": "5", "hours": "1", "why": "x"})
        assert answer.status_code == 403
        assert "Tickets of your own" in text(answer)

    def test_a_refusal_for_a_retrain(self, approver: Browser, signed_in: SignedIn) -> None:
        """Which nobody else then takes back."""
        model_id = self.held()
        sent = {"instead": "retrain", "why": "too many at once"}
        assert "is refused" in text(approver.follow(approver.post("/ui/models/m/approvals/1/refuse", sent)))
        assert story.requested(model_id).state is ApprovalState.REFUSED
        (ordered,) = (each for each in story.all_of(Batch) if each.kind == "retrain")
        root = signed_in("root")
        assert "Cancel" not in text(root.get(f"/ui/batches/{ordered.id}")).partition("Update")[0]
        answer = root.post(f"/ui/batches/{ordered.id}/cancel", {"why": "not now"})
        assert answer.status_code == 409
        assert "wants a retrain instead" in text(answer)
        assert story.batch(ordered.id).state is BatchState.READY

    def test_only_who_may_see_it_is_led_there(self, signed_in: SignedIn) -> None:
        model_id = self.held()
        alone = signed_in("grace", Scope.POLICIES_APPROVE)
        with transaction() as session:
            session.get_one(Model, model_id).stopped = "the audit failed"
        shown = alone.follow(alone.post("/ui/models/m/resume", {"why": "looked at"}))
        assert shown.status_code == 200
        assert "Updates of m are published again." in text(shown)

    def test_a_proposal_is_shown_with_what_it_loosens_and_decided(self, approver: Browser, operator: Browser) -> None:
        known = scene.furnish()
        path = f"/ui/policies/lenet-mnist/proposals/{known.proposal}"
        shown = text(approver.get(path))
        assert "thresholds.ue: 0.15 -> 0.25" in shown
        assert "Of the last 5 batches" in shown
        assert "Somebody else must approve it" in text(operator.get(path))
        assert operator.get(f"{path}/approve").status_code == 403
        assert "is in force" in text(approver.follow(approver.post(f"{path}/approve", {"why": "fine"})))
        again = approver.post(f"{path}/approve", {"why": "fine"})
        assert again.status_code == 409
        assert "approved already" in text(again)

    def test_its_author_may_take_it_back_and_not_approve_it(self, signed_in: SignedIn) -> None:
        known = scene.furnish()
        path = f"/ui/policies/lenet-mnist/proposals/{known.proposal}"
        author = signed_in("operator", Scope.DELETIONS_READ, Scope.POLICIES_APPROVE)
        assert "You wrote the proposal" in text(author.post(f"{path}/approve", {"why": "mine"}))
        assert "is refused" in text(author.follow(author.post(f"{path}/refuse", {"why": "a slip"})))
        assert story.all_of(Proposal)[0].state is ProposalState.REFUSED

    def test_resuming_a_model_that_was_stopped(self, approver: Browser) -> None:
        story.dataset()
        model_id = story.trained()
        assert approver.get("/ui/models/m/resume").status_code == 409
        story.stop(model_id, "truth and estimate differ")
        assert "truth and estimate differ" in text(approver.get("/ui/models/m/resume"))
        assert "published again" in text(approver.follow(approver.post("/ui/models/m/resume", {"why": "recalibrated"})))
        assert story.model(model_id).stopped is None


class TestPolicies:
    @pytest.fixture
    def form(self, operator: Browser) -> dict[str, str]:
        story.dataset()
        story.trained(policy=story.EAGER)
        return self.fields(operator)

    def fields(self, browser: Browser) -> dict[str, str]:
        from app.routes.pages import policy_form

        answer = browser.get("/ui/policies/m/edit")
        names = [each.path for each in policy_form.entries()] + ["if_match", "how"]
        return {name: typed(answer, name) for name in names} | {"do": "save"}

    def test_the_form_sent_back_as_it_was_changes_no_value(self, operator: Browser, form: dict[str, str]) -> None:
        shown = text(operator.follow(operator.post("/ui/policies/m/edit", form)))
        assert "Policy 2 is in force" in shown
        first, second = story.all_of(Policy)
        assert first.body == second.body
        assert "It changed nothing" in text(operator.get("/ui/policies/m/history"))

    def test_a_tighter_one_is_in_force_at_once(self, operator: Browser, form: dict[str, str]) -> None:
        sent = form | {"thresholds.ue": "0.1", "update.eta": "2.5", "retrain_tiers": "high, standard"}
        assert "Policy 2 is in force" in text(operator.follow(operator.post("/ui/policies/m/edit", sent)))
        body = story.all_of(Policy)[1].body
        assert (body["thresholds"]["ue"], body["update"]["eta"]) == (0.1, 2.5)
        assert body["retrain_tiers"] == ["high", "standard"]
        history = text(operator.get("/ui/policies/m/history"))
        assert "thresholds.ue 0.15 0.1" in history

    def test_a_looser_one_is_proposed(self, operator: Browser, form: dict[str, str]) -> None:
        shown = text(operator.follow(operator.post("/ui/policies/m/edit", form | {"thresholds.ue": "0.3"})))
        assert "somebody else must approve" in shown
        assert len(story.all_of(Policy)) == 1
        assert "Proposal 1" in text(operator.get("/ui/policies/m"))

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"thresholds.mu": "two"}, "Input should be a valid number"),
            ({"thresholds.mu": "7"}, "Input should be less than or equal to 1"),
            ({"ladder": "iau"}, "end in 'retrain'"),
            ({"methods": "{"}, "not JSON"),
            ({"compute.processes": "many"}, "Input should be"),
            ({"bank.references": "5"}, "multiple of 4"),
            ({"retrain_tiers": "gigantic"}, "Input should be 'low', 'standard' or 'high'"),
        ],
    )
    def test_what_is_wrong_stands_at_its_field_and_the_rest_is_kept(
        self, operator: Browser, form: dict[str, str], wrong: dict[str, str], sentence: str
    ) -> None:
        sent = form | {"keep_weights_days": "12"} | wrong
        answer = operator.post("/ui/policies/m/edit", sent)
        assert answer.status_code == 422
        assert sentence in text(answer)
        for name in ("keep_weights_days", *wrong):
            assert typed(answer, name) == sent[name]
        assert len(story.all_of(Policy)) == 1

    def test_one_that_somebody_else_changed_meanwhile(self, operator: Browser, form: dict[str, str]) -> None:
        story.replace(1, story.EAGER | {"keep_weights_days": 7})
        answer = operator.post("/ui/policies/m/edit", form | {"thresholds.ue": "0.1"})
        assert answer.status_code == 412
        assert "keep_weights_days 30 7" in text(answer), "it shows what"
        assert typed(answer, "thresholds.ue") == "0.1"
        again = form | {"thresholds.ue": "0.1", "if_match": typed(answer, "if_match")}
        assert operator.post("/ui/policies/m/edit", again).status_code == 303

    def test_what_somebody_else_changed_is_shown_even_after_another_error(
        self, operator: Browser, form: dict[str, str]
    ) -> None:
        story.replace(1, story.EAGER | {"keep_weights_days": 7})
        wrong = operator.post("/ui/policies/m/edit", form | {"thresholds.ue": "two"})
        assert wrong.status_code == 422
        mended = form | {"thresholds.ue": "0.1", "if_match": typed(wrong, "if_match")}
        answer = operator.post("/ui/policies/m/edit", mended)
        assert answer.status_code == 412, "it would have undone what they never saw"
        assert "keep_weights_days 30 7" in text(answer)

    @pytest.mark.parametrize("sent", ["[" * 100_000, "9" * 5000], ids=["deep", "long"])
    def test_json_that_cannot_be_read(self, operator: Browser, form: dict[str, str], sent: str) -> None:
        answer = operator.post("/ui/policies/m/edit", {"how": "json", "if_match": form["if_match"], "body": sent})
        assert answer.status_code == 422
        answer = operator.post("/ui/policies/m/edit", form | {"methods": sent})
        assert answer.status_code == 422

    def test_as_json(self, operator: Browser, form: dict[str, str]) -> None:
        shown = operator.get("/ui/policies/m/edit?how=json")
        sent = {"how": "json", "if_match": typed(shown, "if_match"), "do": "save"}
        broken = operator.post("/ui/policies/m/edit", sent | {"body": '{"thresholds":'})
        assert broken.status_code == 422
        assert typed(broken, "body") == '{"thresholds":'
        unknown = operator.post("/ui/policies/m/edit", sent | {"body": '{"treshold": 1}'})
        assert "no such field" in text(unknown)
        body = typed(shown, "body").replace('"ue": 0.15', '"ue": 0.12')
        assert operator.post("/ui/policies/m/edit", sent | {"body": body}).status_code == 303
        assert story.all_of(Policy)[1].body["thresholds"]["ue"] == 0.12

    def test_trying_writes_nothing(self, operator: Browser, signed_in: SignedIn) -> None:
        scene.furnish()
        browser = signed_in("root")
        page = browser.get("/ui/policies/lenet-mnist/edit?how=json")
        sent = {"how": "json", "do": "try", "if_match": typed(page, "if_match")}
        body = typed(page, "body").replace('"ue": 0.15', '"ue": 0.05')
        answer = browser.post("/ui/policies/lenet-mnist/edit", sent | {"body": body})
        assert answer.status_code == 200
        assert "Tried on past batches" in text(answer)
        assert "thresholds.ue 0.15 0.05" in text(answer)
        assert typed(answer, "body") == body
        assert len([row for row in story.all_of(Policy) if row.model_id == 1]) == 1

    def test_past_verdicts_are_drawn_between_the_thresholds(self, operator: Browser) -> None:
        scene.furnish()
        page = operator.get("/ui/policies/lenet-mnist/past?ue=0.3")
        assert page.text.count('class="strip"') == 2
        assert page.text.count('class="edge tried"') == 2, "only where another one is tried"
        assert page.text.count('<line class="interval"') == 2 * 7
        wrong = operator.get("/ui/policies/lenet-mnist/past?ue=much")
        assert wrong.status_code == 422
        assert "Input should be a valid number" in text(wrong)
        assert typed(wrong, "ue") == "much"

    def test_a_model_without_verdicts(self, operator: Browser, form: dict[str, str]) -> None:
        assert "nothing to try a policy on" in text(operator.get("/ui/policies/m/past"))


class TestSchedules:
    def test_made_and_stopped(self, operator: Browser) -> None:
        story.dataset()
        story.trained()
        assert "No retrain is scheduled" in text(operator.get("/ui/schedules"))
        wrong = operator.post("/ui/schedules", {"model": "m", "cron": "every day"})
        assert wrong.status_code == 422
        assert "Five fields are needed" in text(wrong)
        assert typed(wrong, "cron") == "every day"
        shown = text(operator.follow(operator.post("/ui/schedules", {"model": "m", "cron": "0 3 * * 0"})))
        assert "m is retrained on 0 3 * * 0" in shown
        assert "never yet" in shown
        (schedule,) = story.all_of(Schedule)
        path = f"/ui/schedules/{schedule.id}"
        ahead = operator.get(path)
        assert "It has not come due yet" in text(ahead)
        assert ahead.text.count("03:00\xa0UTC") + ahead.text.count("03:00 UTC") >= 5, "the next five Sundays"
        assert "is stopped" in text(operator.follow(operator.post(f"{path}/remove", {"why": "no longer needed"})))
        assert not story.all_of(Schedule)[0].enabled
        assert operator.get(f"{path}/remove").status_code == 404

    def test_past_due_times(self, operator: Browser) -> None:
        known = scene.furnish()
        assert "opened a retrain" in text(operator.get(f"/ui/schedules/{known.schedule}"))


class TestModels:
    def test_a_version_s_facts(self, signed_in: SignedIn) -> None:
        story.dataset()
        story.trained()
        shown = text(signed_in("root").get("/ui/versions/m@current"))
        assert "m-v1" in shown
        assert "The release that trained kept no losses" in shown
        assert "None were kept" in shown

    def test_what_its_training_cost_restriction_included(self, signed_in: SignedIn) -> None:
        story.dataset()
        story.trained()
        recipe = {"epochs": 40, "restriction": "per-sample", "alpha": 0.005}
        kept = {"of": "m-v1", "bytes": 1234, "steps": 400}
        with transaction() as session:
            version, verdict = session.query(Version).one(), session.query(Verdict).one()
            version.environment = {"recipe": recipe, "threads": 1}
            version.records, version.records_digest = kept, "ab" * 32
            verdict.seconds, verdict.method = {"train": 220.0}, {"epochs": 40, "samples": 10000}
        shown = text(signed_in("root").get("/ui/versions/m-v1"))
        assert "seconds 220 s, 5.5 s an epoch" in shown
        assert "gradient restriction per-sample, alpha 0.005: its cost is within these seconds" in shown
        assert "samples 10,000" in shown
        with transaction() as session:
            session.query(Version).one().environment = {"recipe": recipe | {"restriction": "none", "alpha": 0.0}}
        assert "gradient restriction" not in text(signed_in("root").get("/ui/versions/m-v1"))
        assert "steps 400" in shown

    def test_how_it_came_about_is_for_reviewers(self, signed_in: SignedIn) -> None:
        """As it is where a program asks: of a version the report alone tells that."""
        story.dataset()
        story.trained()
        whole, part = (
            text(signed_in(*who).get("/ui/versions/m-v1")) for who in (("root",), ("me", Scope.DELETIONS_READ))
        )
        for told in ("left out in all", "Environment", "Records of the training"):
            assert told in whole
            assert told not in part
        assert "scope audit:read" in part

    def test_one_without_a_version(self, signed_in: SignedIn) -> None:
        story.dataset()
        story.register()
        browser = signed_in("root")
        assert "first training has not ended" in text(browser.get("/ui/models/m"))
        assert "The model has no version yet" in text(browser.get("/ui/policies/m"))
        assert browser.get("/ui/versions/m-v1").status_code == 404


class TestSystem:
    def test_who_is_there(self, signed_in: SignedIn) -> None:
        browser = signed_in("root")
        assert "nothing is worked off" in text(browser.get("/ui/system"))
        scene.furnish()
        shown = text(browser.get("/ui/system"))
        assert "gpu-1:4711" in shown
        assert "✕ lost" in shown
        assert "revision 0016" in shown

    def test_home_says_what_waits(self, signed_in: SignedIn) -> None:
        scene.furnish()
        everything = text(signed_in("root").get("/"))
        for sentence in (
            "1 ticket is past the deadline",
            "A batch of vgg-photos is quarantined",
            "1 request passes a cap and waits for approval",
            "1 policy is proposed and waits for approval",
            "Updates of vgg-photos are stopped",
            "The worker gpu-2:4712 is lost",
        ):
            assert sentence in everything
        assert "quarantined" not in text(signed_in("someone", Scope.DELETIONS_READ).get("/"))


class TestCancelledBatches:
    """The domain function behind the button."""

    def test_only_what_was_ordered_and_not_begun(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        batch_id = story.retrain(model_id)
        story.claimed(model_id)
        with pytest.raises(Conflict, match="only one that waits"), transaction() as session:
            batches.cancel(session, batch_id, "why", "operator")

    def test_never_the_first_training(self, database: str) -> None:
        story.dataset()
        story.register()
        (batch,) = story.all_of(Batch)
        with pytest.raises(Conflict, match="first training"), transaction() as session:
            batches.cancel(session, batch.id, "why", "operator")
        assert story.batch(batch.id).state is BatchState.READY

    def test_never_one_that_holds_tickets(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        story.submit(1)
        batch = story.close(model_id)
        assert batch is not None
        with pytest.raises(Conflict, match="owed an answer"), transaction() as session:
            batches.cancel(session, batch.id, "why", "operator")
        assert story.batch(batch.id).state is BatchState.READY

    def test_it_is_on_record_and_nothing_is_lost(self, database: str) -> None:
        story.dataset()
        model_id = story.trained()
        batch_id = story.retrain(model_id)
        with transaction() as session:
            batch = batches.cancel(session, batch_id, "ordered twice", "operator")
        assert batch.failure == "cancelled by operator: ordered twice"
        assert told(batch)[-1]["data"]["why"] == "ordered twice"
        ticket_id = story.submit(1)
        story.work(model_id)
        assert story.ticket(ticket_id).state == "fulfilled"
        assert story.claim(model_id) is None
        with transaction() as session:
            assert audit.verify(session).fault is None
