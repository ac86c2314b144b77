"""Runs as OpenLineage events, sent by the library's own transport to a real server: what is told, in which order, how it ends."""

import base64
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
import structlog

from app import config, rollback, runs, store, versions
from app.db import transaction
from app.exports import follow, openlineage
from app.tables import BatchState
from tests.app import story
from tests.app.exports import scene
from tests.receiver import Call, Receiver, receiver

ENDS = {"COMPLETE", "FAIL", "ABORT"}
Event = dict[str, Any]


def told(marquez: Receiver) -> list[Event]:
    """What came, each held against the specification's rules."""
    found = [json.loads(call.body) for call in marquez.calls]
    for event in found:
        check(event)
    return found


def check(event: Event) -> None:
    """A RunEvent, as the specification has it: what is required, in which form."""
    assert event["eventType"] in {"START", *ENDS}
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    assert UUID(event["run"]["runId"]).version == 5
    assert re.fullmatch(
        r"https://openlineage\.io/spec/2-\d+-\d+/OpenLineage\.json#/\$defs/RunEvent", event["schemaURL"]
    )
    assert event["producer"].startswith("urn:expunge:")
    assert set(event["job"]) == {"namespace", "name", "facets"}
    facets = {**event["run"]["facets"], **event["job"]["facets"]}
    for dataset in (*event["inputs"], *event["outputs"]):
        assert {"namespace", "name"} <= set(dataset)
        facets |= dataset["facets"]
    for facet in facets.values():
        assert facet["_producer"] == event["producer"]
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/facets/")


def states(events: list[Event]) -> list[str]:
    return [event["eventType"] for event in events]


def tags(event: Event) -> dict[str, str]:
    """Ours; the library adds its own version."""
    found = event["run"]["facets"]["tags"]["tags"]
    return {tag["key"]: tag["value"] for tag in found if tag["source"] == "EXPUNGE"}


def datasets(found: list[Event]) -> list[tuple[str, str]]:
    return [(each["name"], each["facets"]["version"]["datasetVersion"]) for each in found]


def export(marquez: Receiver) -> list[Event]:
    """What is told now, beyond what was told before."""
    before = len(marquez.calls)
    follow.export()
    return told(marquez)[before:]


def test_a_run_starts_and_is_complete(marquez: Receiver) -> None:
    scene.updated()
    events = export(marquez)
    assert states(events) == ["START", "COMPLETE"] * 2
    assert {call.path for call in marquez.calls} == {"/api/v1/lineage"}
    assert {(e["job"]["namespace"], e["job"]["name"]) for e in events} == {("expunge", "m")}
    first, trained, start, complete = events
    assert first["run"]["runId"] == trained["run"]["runId"] != start["run"]["runId"] == complete["run"]["runId"]
    loaded, published = scene.events("dataset.loaded")[0], scene.events("version.published")
    people = ("datasets/people", f"sha256:{loaded.data['manifest']}")
    one, two = ((f"versions/{each.data['version']}", f"sha256:{each.data['weights']}") for each in published)
    assert (datasets(first["inputs"]), datasets(first["outputs"])) == ([people], [])
    assert (datasets(trained["inputs"]), datasets(trained["outputs"])) == ([people], [one])
    assert (datasets(start["inputs"]), datasets(start["outputs"])) == ([people, one], [])
    assert (datasets(complete["inputs"]), datasets(complete["outputs"])) == ([people, one], [two])
    assert tags(start) == {"expunge.batch": str(published[1].batch_id), "expunge.epoch": "1", "expunge.attempt": "1"}
    assert tags(complete) == tags(start) | {
        "expunge.version": "m-v2",
        "expunge.kind": "unlearned",
        "expunge.rung": "iau",
        "expunge.verdict": "publish",
        "expunge.audit": "https://expunge.example/models/m-v2/audit",
        "expunge.tickets": "1",
    }
    assert start["eventTime"] == scene.events("run.claimed")[1].at
    assert complete["eventTime"] == published[1].at


def test_what_was_held_against_thresholds_is_told(marquez: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = story.statistics(ue=story.statistic(0.02, -0.05, 0.3, n=50))
    monkeypatch.setattr(story, "statistics", lambda: enough)
    scene.updated()
    _, trained, _, complete = export(marquez)
    (exact,) = trained["run"]["facets"]["test"]["tests"]
    assert (exact["name"], exact["status"]) == ("trained_without_forgotten_samples", "pass")
    mu, ue = complete["run"]["facets"]["test"]["tests"]
    assert (mu["name"], mu["status"], mu["severity"], mu["actual"]) == ("mu", "pass", "error", "-0.01 [-0.02, 0]")
    assert mu["expected"].startswith("±0.")
    assert (ue["name"], ue["status"], ue["actual"]) == ("ue", "fail", "0.02 [-0.05, 0.3]")


def test_no_rate_is_told_of_few(marquez: Receiver) -> None:
    scene.updated()
    (ue,) = [each for each in export(marquez)[-1]["run"]["facets"]["test"]["tests"] if each["name"] == "ue"]
    assert ue["status"] == "skip"
    assert not {"actual", "expected"} & ue.keys()


def test_a_run_that_fails_and_the_next(marquez: Receiver) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    story.fail(story.closed(model_id), "the disk is full")
    story.rested(model_id)
    story.publish(story.claimed(model_id))
    events = export(marquez)[2:]
    assert states(events) == ["START", "FAIL", "START", "COMPLETE"]
    facet = events[1]["run"]["facets"]["errorMessage"]
    assert (facet["message"], facet["programmingLanguage"], facet.get("stackTrace")) == (
        "the disk is full",
        "Python",
        None,
    )
    assert events[0]["run"]["runId"] == events[1]["run"]["runId"] != events[2]["run"]["runId"]
    assert [tags(event)["expunge.epoch"] for event in events] == ["1", "1", "2", "2"]
    assert "errorMessage" not in events[3]["run"]["facets"]


def test_a_run_whose_lease_was_taken_away_is_aborted_when_the_next_one_is_claimed(marquez: Receiver) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1)
    lost = story.closed(model_id)
    story.expire(lost)
    assert states(export(marquez)[2:]) == ["START"]
    found = story.claimed(model_id, "w2")
    abort, start = export(marquez)
    assert (abort["eventType"], start["eventType"]) == ("ABORT", "START")
    assert tags(abort)["expunge.ended"] == "it was put off, or its lease was taken away"
    assert (tags(abort)["expunge.epoch"], tags(start)["expunge.epoch"]) == ("1", "2")
    story.publish(found)
    (complete,) = export(marquez)
    assert (complete["eventType"], complete["run"]["runId"]) == ("COMPLETE", start["run"]["runId"])


def test_a_run_that_is_given_back_is_aborted(marquez: Receiver) -> None:
    story.dataset()
    lease = story.claimed(story.register())
    with transaction() as session:
        runs.give_back(session, lease)
    start, abort = export(marquez)
    assert (start["eventType"], abort["eventType"], tags(abort)["expunge.ended"]) == ("START", "ABORT", "given back")


def test_a_run_with_nothing_to_forget_is_aborted(marquez: Receiver) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1, client="tool")
    waits = story.closed(model_id)
    with transaction() as session:
        runs.nothing_left(session, waits)
    events = export(marquez)[2:]
    assert states(events) == ["START", "ABORT"]
    assert tags(events[1])["expunge.ended"] == "nothing left to forget"


def test_failures_then_a_split_end_each_run_once(marquez: Receiver) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1), story.submit(2)
    story.close(model_id)
    story.exhaust(model_id)
    assert scene.events("batch.split")
    events = export(marquez)[2:]
    assert states(events) == ["START", "FAIL"] * 3
    assert len({event["run"]["runId"] for event in events}) == 3


@pytest.mark.parametrize(("samples", "ended"), [((1, 2), "split"), ((1,), "quarantined")])
def test_a_batch_whose_workers_were_all_lost(marquez: Receiver, samples: tuple[int, ...], ended: str) -> None:
    """It is given up when it would be claimed the next time: that ends the last run."""
    story.dataset()
    model_id = story.trained()
    for ordinal in samples:
        story.submit(ordinal)
    lease = story.closed(model_id)
    for _ in range(2):
        story.expire(lease)
        lease = story.claimed(model_id)
    story.expire(lease)
    assert story.claim(model_id) is None
    assert story.batch(lease.batch_id).state is BatchState(ended)
    events = export(marquez)[2:]
    assert states(events) == ["START", "ABORT"] * 3
    assert ended in tags(events[-1])["expunge.ended"]


def test_a_retrain_that_waits_for_consent_ends_its_run_at_the_next_claim(marquez: Receiver) -> None:
    """The log has no event of that end; what comes next of the batch tells of it."""
    story.dataset()
    model_id = story.trained(policy=story.EAGER | {"window": {"max_share": 0.1}})
    story.retrain(model_id)
    lease = story.claimed(model_id)
    story.submit(*range(8))
    with transaction() as session:
        assert not runs.absorb(session, lease)
    assert states(export(marquez)[2:]) == ["START"]
    story.close(model_id)
    story.approve(model_id)
    story.rested(model_id)
    story.publish(story.claimed(model_id))
    assert states(export(marquez)) == ["ABORT", "START", "COMPLETE"]


def test_a_rollback_starts_and_is_complete_at_once(marquez: Receiver) -> None:
    story.dataset()
    model_id = story.register()
    for weights in (b"old", b"new"):
        if weights == b"new":
            story.retrain(model_id)
        story.publish(story.claimed(model_id), weights)
        store.put(weights)
    export(marquez)
    with transaction() as session:
        model = versions.find_model(session, "m")
        rollback.roll_back(session, model, versions.resolve(session, "m-v1"), "two points", "ada")
    start, complete = export(marquez)
    assert (states([start, complete]), start["run"]["runId"]) == (["START", "COMPLETE"], complete["run"]["runId"])
    assert [name for name, _ in datasets(complete["inputs"])] == ["datasets/people", "versions/m-v2"]
    assert datasets(complete["outputs"])[0][0] == "versions/m-v3"


def test_every_run_ends_once_at_most_and_none_before_it_starts(marquez: Receiver) -> None:
    """A long life, told in one go and then again: the same events, and of every run one START and one end."""
    story.dataset(samples=40)
    model_id, other = story.trained(), story.trained("other")
    for ordinal in range(6):
        story.submit(ordinal)
        lease = story.closed(model_id)
        if ordinal % 3 == 0:
            story.expire(lease)
        elif ordinal % 3 == 1:
            story.fail(lease)
            story.rested(model_id)
        else:
            with transaction() as session:
                runs.give_back(session, lease)
        lease = story.claimed(model_id, "w2")
        story.record(lease, b"no", story.ESCALATE)
        story.publish(lease)
    story.work(other)
    open_ = (story.retrain(model_id), story.claimed(model_id))
    events = export(marquez)
    by_run = defaultdict(list)
    for event in events:
        by_run[event["run"]["runId"]].append(event["eventType"])
    claims = scene.events("run.claimed")
    assert len(by_run) == len(claims)
    unended = [run for run, seen in by_run.items() if seen == ["START"]]
    assert len(unended) == 1
    assert all(
        seen[0] == "START" and len(seen) == 2 and seen[1] in ENDS for run, seen in by_run.items() if run not in unended
    )
    assert next(event for event in events if event["run"]["runId"] == unended[0])["job"]["name"] == "m"
    assert open_[1].batch_id == open_[0]
    before = [call.body for call in marquez.calls]
    scene.rewind("openlineage")
    follow.export()
    assert [call.body for call in marquez.calls[len(before) :]] == before


def test_an_outage_keeps_the_order_and_loses_nothing(marquez: Receiver) -> None:
    scene.updated()
    answers = iter([201, 503, 500, 201])

    def answer(_: Call) -> tuple[int, dict[str, str]]:
        return next(answers, 201), {}

    marquez.answer = answer
    for _ in range(2):
        with structlog.testing.capture_logs() as lines:
            follow.export()
        assert [line["failure"][:38] for line in lines] == ["The receiver did not take it: status 5"]
    assert scene.cursor("openlineage").failed_at is not None
    follow.export()
    assert states(told(marquez)) == ["START", "COMPLETE", "COMPLETE", "COMPLETE", "START", "COMPLETE"]
    assert len({call.body for call in marquez.calls[1:4]}) == 1
    assert (scene.cursor("openlineage").failure, scene.cursor("openlineage").seq) == (None, scene.head())


def test_who_is_not_there_is_said_without_the_password(marquez: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    story.dataset()
    story.trained()
    with receiver() as away:
        port = away.port
    scene.configure(monkeypatch, openlineage_url=f"http://ada:hunter2@127.0.0.1:{port}")
    with structlog.testing.capture_logs() as lines:
        follow.export()
    failure = scene.cursor("openlineage").failure
    assert failure == "The receiver did not take it: ConnectionError."
    assert "hunter2" not in str(lines)
    scene.configure(monkeypatch, openlineage_url=f"http://ada:hunter2@127.0.0.1:{marquez.port}/behind/a/proxy")
    assert states(export(marquez)) == ["START", "COMPLETE"]
    assert {call.path for call in marquez.calls} == {"/behind/a/proxy/api/v1/lineage"}
    assert marquez.calls[0].headers["authorization"] == "Basic " + base64.b64encode(b"ada:hunter2").decode()


def test_a_key_of_the_library_s_own_is_sent(marquez: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "k-1")
    story.dataset()
    story.trained()
    export(marquez)
    assert {call.headers["authorization"] for call in marquez.calls} == {"Bearer k-1"}


@pytest.fixture
def own(marquez: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The same receiver, named to the library alone; it writes variables of its own, which are taken back."""
    monkeypatch.delenv("EXPUNGE_OPENLINEAGE_URL")
    config.settings.cache_clear()
    assert follow.configured() == []
    before = dict(os.environ)
    yield marquez
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE") and name not in before]:
        del os.environ[name]


def test_the_library_s_own_variables_will_do(own: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", own.url(path=""))
    scene.configure(monkeypatch, openlineage_namespace="plant")
    story.dataset()
    story.trained()
    events = export(own)
    assert states(events) == ["START", "COMPLETE"]
    assert {event["job"]["namespace"] for event in events} == {"plant"}
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert follow.configured() == []


def test_a_transport_that_takes_before_it_has_sent_is_refused(own: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "async_http")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__URL", own.url(path=""))
    story.dataset()
    story.trained()
    follow.export()
    assert str(scene.cursor("openlineage").failure).endswith("Use `http`.")
    assert own.calls == []


def test_without_the_extra_it_is_said_and_nothing_is_lost(marquez: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    story.dataset()
    story.trained()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "openlineage.client", None)
        follow.export()
    assert scene.cursor("openlineage").failure == openlineage.MISSING
    assert states(export(marquez)) == ["START", "COMPLETE"]


def test_no_sample_subject_or_ticket_is_named(marquez: Receiver) -> None:
    model_id = scene.updated()
    ticket = story.submit(3, external_id="case-77")
    story.fail(story.closed(model_id))
    story.rested(model_id)
    story.work(model_id)
    export(marquez)
    whole = b"".join(call.body for call in marquez.calls).decode()
    assert "versions/m-v3" in whole
    for named in (*(story.sample(i) for i in range(20)), "p-0", "p-1", "case-77", str(ticket)):
        assert named not in whole
