"""The audit in each form, the signature over the weights, and what was served when."""

import base64
import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from app.auth import Scope
from app.db import transaction
from app.tables import Reason, Restoration, Version
from expunge.evidence import bundle, claims, dsse
from expunge.evidence.keys import SigningKeys
from expunge.evidence.verify import verify
from tests.app import story
from tests.app.conftest import Caller, TestClient
from tests.app.signing import signing

__all__ = ["signing"]


@pytest.fixture
def line(database: str, signing: SigningKeys) -> int:
    """v1 trained, v2 unlearned for one ticket, and a ticket that waits."""
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2)
    story.work(model_id)
    story.submit(7)
    return model_id


@pytest.mark.parametrize(
    ("asked", "media"),
    [
        ({}, "application/json"),
        ({"headers": {"Accept": "text/html"}}, "text/html; charset=utf-8"),
        ({"headers": {"Accept": "application/vnd.in-toto+json"}}, "application/vnd.in-toto+json"),
        ({"headers": {"Accept": "application/vnd.in-toto.bundle"}}, "application/vnd.in-toto.bundle"),
        ({"headers": {"Accept": "application/vnd.cyclonedx+json"}}, "application/vnd.cyclonedx+json"),
        ({"headers": {"Accept": "application/pdf"}}, "application/pdf"),
        ({"headers": {"Accept": "application/zip"}}, "application/zip"),
        ({"headers": {"Accept": "application/zip;q=0.4, application/pdf;q=0.9, */*"}}, "application/pdf"),
        ({"headers": {"Accept": "image/png"}}, "application/json"),
        ({"headers": {"Accept": "text/html"}, "params": {"format": "zip"}}, "application/zip"),
    ],
    ids=["nothing", "html", "in-toto", "bundle", "cyclonedx", "pdf", "zip", "ranked", "unknown", "link"],
)
def test_it_comes_as_asked(line: int, http: TestClient, asked: dict[str, dict[str, str]], media: str) -> None:
    found = http.get("/models/m-v2/audit", **asked)
    assert (found.status_code, found.headers["content-type"], found.headers["vary"]) == (200, media, "Accept")


def test_each_attestation_is_signed_and_about_the_weights(line: int, http: TestClient, signing: SigningKeys) -> None:
    digest = http.get("/models/m-v2").json()["weights_sha256"]
    lines = http.get("/models/m-v2/audit", params={"format": "attestations"}).text.splitlines()
    kinds = []
    for each in lines:
        stated = dsse.opened(json.loads(each), dsse.IN_TOTO, signing.public.verify)
        assert stated["subject"] == [{"name": "m-v2.safetensors", "digest": {"sha256": digest}}]
        kinds.append(stated["predicateType"])
    assert kinds == list(bundle.PREDICATES.values())


@pytest.mark.parametrize("predicate", list(bundle.PREDICATES))
def test_one_attestation_is_plain_json(line: int, http: TestClient, signing: SigningKeys, predicate: str) -> None:
    found = http.get("/models/m-v2/audit", params={"format": "in-toto", "predicate": predicate}).json()
    stated = dsse.opened(found, dsse.IN_TOTO, signing.public.verify)
    assert stated["predicateType"] == bundle.PREDICATES[predicate]


def test_what_the_attestations_claim(line: int, http: TestClient) -> None:
    def predicate(reference: str, kind: str) -> dict:
        found = http.get(f"/models/{reference}/audit", params={"format": "in-toto", "predicate": kind}).json()
        return json.loads(base64.b64decode(found["payload"]))["predicate"]

    update, first = predicate("m-v2", "test-result"), predicate("m-v1", "test-result")
    assert (update["result"], update["passedTests"], update["warnedTests"]) == ("WARNED", ["mu"], ["ue"])
    assert (first["result"], first["passedTests"]) == ("PASSED", ["trained without the samples"])
    assert predicate("m-v2", "svr")["properties"] == [
        "EXPUNGE_PUBLISHED_BY_VERDICT",
        "EXPUNGE_APPROXIMATE_UPDATE",
        "EXPUNGE_MU_WITHIN_THRESHOLD",
    ]
    assert claims.WITHOUT in predicate("m-v1", "svr")["properties"]
    inputs = [each["name"] for each in predicate("m-v2", "provenance")["buildDefinition"]["resolvedDependencies"]]
    assert inputs[:3] == ["manifest of people", "ordinals left out of training", "m-v1.safetensors"]
    assert inputs[3].startswith("ids named by ticket")


def test_a_bundle_over_http_holds(line: int, http: TestClient, signing: SigningKeys) -> None:
    found = http.get("/models/m@current/audit", params={"format": "zip"})
    assert found.headers["content-disposition"] == 'attachment; filename="m-v2-evidence.zip"'
    assert len(list(verify(found.content))) == 8


def test_the_signature_is_over_the_digest_of_the_weights(line: int, http: TestClient) -> None:
    payload = http.get("/models/m-v2/signature").json()["dsseEnvelope"]["payload"]
    stated = json.loads(base64.b64decode(payload))
    digest = http.get("/models/m-v2").json()["weights_sha256"]
    assert [each["digest"] for each in stated["predicate"]["resources"]] == [digest]


def test_without_a_secret_what_is_not_signed_comes_all_the_same(database: str, http: TestClient) -> None:
    story.dataset()
    story.trained()
    forms = {
        form: http.get("/models/m-v1/audit", params={"format": form})
        for form in ("json", "pdf", "cyclonedx", "zip", "in-toto")
    }
    assert {form: found.status_code for form, found in forms.items()} == {
        "json": 200, "pdf": 200, "cyclonedx": 200, "zip": 503, "in-toto": 503,
    }  # fmt: skip
    assert "EXPUNGE_SIGNING_SECRET" in forms["zip"].json()["detail"]
    assert http.get("/models/m-v1/signature").status_code == 503


class TestServing:
    def at(self, number: int) -> datetime:
        with transaction() as session:
            return session.query(Version).filter_by(number=number).one().published_at

    def test_now(self, line: int, http: TestClient) -> None:
        found = http.get("/models/m/serving").json()
        assert (found["version"], found["served_until"], found["samples"]) == ("m-v2", None, 1)
        assert [(each["samples"], each["forgotten_by"]) for each in found["held"]] == [(1, None)]
        assert found["sample_ids"] is None

    def test_before_a_ticket_was_answered(self, line: int, http: TestClient) -> None:
        when = self.at(2) - timedelta(microseconds=1)
        found = http.get("/models/m/serving", params={"at": when.isoformat(), "ids": "true"}).json()
        assert (found["version"], found["samples"]) == ("m-v1", 2)
        assert [(each["samples"], each["forgotten_by"]) for each in found["held"]] == [(2, "m-v2")]
        assert found["sample_ids"] == ["s-0001", "s-0002"]

    def test_samples_that_were_forgotten_before_are_not_named(self, line: int, http: TestClient) -> None:
        """A later ticket names one of them again."""
        story.submit(2, 9)
        found = http.get("/models/m/serving", params={"ids": "true"}).json()
        assert (found["samples"], found["sample_ids"], found["more_ids"]) == (2, ["s-0007", "s-0009"], False)

    def test_samples_that_the_model_never_read_are_not_named(self, database: str, http: TestClient) -> None:
        """A ticket older than the model named one; a later one names it again, with another."""
        story.dataset()
        story.submit(0)
        story.trained(policy=story.PATIENT)
        story.submit(0, 1)
        found = http.get("/models/m/serving", params={"ids": "true"}).json()
        assert (found["samples"], found["sample_ids"]) == (1, ["s-0001"])

    def test_a_ticket_whose_samples_it_had_forgotten_is_not_among_those_held(self, line: int, http: TestClient) -> None:
        """An exact answer is owed all the same; the version is not one that held them."""
        story.submit(1, reason=Reason.UNLAWFUL_TRAINING)
        found = http.get("/models/m/serving", params={"ids": "true"}).json()
        assert (found["samples"], found["sample_ids"], len(found["held"])) == (1, ["s-0007"], 1)

    def test_what_a_restore_has_lost_is_not_passed_off_as_known(self, line: int, http: TestClient) -> None:
        with transaction() as session:
            session.execute(update(Version).values(published_at=Version.published_at - timedelta(hours=9)))
        taken, restored = (self.at(2) + timedelta(hours=hours) for hours in (1, 3))
        with transaction() as session:
            session.add(Restoration(backup="b", taken_at=taken, restored_at=restored, schema="0012", seq=1, hash=b"h"))

        def unsure(at: datetime) -> str:
            return str(http.get("/models/m/serving", params={"at": at.isoformat()}).json()["unsure"])

        assert "locked until it is known" in unsure(restored)
        with transaction() as session:
            session.execute(update(Restoration).values(resolved_at=restored, resolved_by="ada"))
        between = "what was published in between is lost"
        found = [unsure(at) for at in (taken - timedelta(seconds=1), taken, restored - timedelta(seconds=1), restored)]
        assert [between in each for each in found] == [False, True, True, False]
        assert found[0] == found[-1] == "None"

    def test_before_it_was_received(self, line: int, http: TestClient) -> None:
        found = http.get("/models/m/serving", params={"at": self.at(1).isoformat()}).json()
        assert (found["version"], found["held"], found["samples"]) == ("m-v1", [], 0)

    def test_a_ticket_that_was_taken_back_holds_nothing(self, database: str, http: TestClient) -> None:
        story.dataset()
        story.trained(policy=story.PATIENT)
        story.cancel(story.submit(3))
        assert http.get("/models/m/serving").json()["held"] == []

    @pytest.mark.parametrize(
        ("params", "status"),
        [
            ({"at": "2020-01-01T00:00:00Z"}, 404),
            ({"at": "2026-01-01T00:00:00"}, 422),
            ({"at": "yesterday"}, 422),
            ({"at": "2999-01-01T00:00:00Z"}, 422),
        ],
        ids=["before-the-first", "no-zone", "no-time", "future"],
    )
    def test_times_that_have_no_answer(self, line: int, http: TestClient, params: dict[str, str], status: int) -> None:
        assert http.get("/models/m/serving", params=params).status_code == status

    def test_ids_are_for_admins(self, line: int, caller: Caller) -> None:
        reviewer = caller("reviewer", Scope.AUDIT_READ)
        assert reviewer.get("/models/m/serving").status_code == 200
        assert reviewer.get("/models/m/serving", params={"ids": "true"}).status_code == 403
