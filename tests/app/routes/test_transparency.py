"""Heads, proofs and keys over HTTP."""

import pytest

from expunge.evidence import merkle, notes
from expunge.evidence.keys import SigningKeys
from tests.app import story
from tests.app.conftest import TestClient
from tests.app.signing import signing

__all__ = ["signing"]


@pytest.fixture
def head(database: str, signing: SigningKeys, http: TestClient) -> notes.Checkpoint:
    story.dataset()
    story.trained()
    note = http.get("/audit/checkpoint").text
    return notes.read(notes.opened(note, note.partition("\n")[0], signing.public.raw, signing.public.verify))


def test_the_head_stays_until_the_log_is_checkpointed_anew(head: notes.Checkpoint, http: TestClient) -> None:
    story.submit(1)
    assert http.get("/audit/checkpoint").text.startswith(head.text)


def test_an_event_is_shown_to_be_in_the_log(head: notes.Checkpoint, http: TestClient) -> None:
    for seq in range(1, head.size + 1):
        found = http.get("/audit/inclusion", params={"seq": seq, "size": head.size}).json()
        path = [bytes.fromhex(step) for step in found["path"]]
        assert merkle.included(bytes.fromhex(found["leaf"]), seq - 1, head.size, path, head.root)


def test_a_head_is_shown_to_go_on_from_another(head: notes.Checkpoint, http: TestClient) -> None:
    before = http.get("/audit/consistency", params={"first": 1, "second": head.size}).json()
    first = http.get("/audit/inclusion", params={"seq": 1, "size": 1}).json()["leaf"]
    path = [bytes.fromhex(step) for step in before["path"]]
    assert merkle.consistent(1, head.size, bytes.fromhex(first), head.root, path)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/audit/inclusion?seq=1&size=1000", 404),
        ("/audit/inclusion?seq=3&size=2", 422),
        ("/audit/inclusion?seq=0&size=2", 422),
        ("/audit/consistency?first=2&second=1", 422),
        ("/audit/consistency?first=1&second=1000", 404),
    ],
)
def test_what_has_no_proof(head: notes.Checkpoint, http: TestClient, path: str, status: int) -> None:
    assert http.get(path).status_code == status


def test_the_keys_that_signed(head: notes.Checkpoint, http: TestClient, signing: SigningKeys) -> None:
    (key,) = http.get("/audit/keys").json()
    assert (key["fingerprint"], key["current"]) == (signing.public.fingerprint, True)
    assert key["verifier"] == notes.verifier_key(head.origin, signing.public.raw)


def test_without_a_secret_it_says_what_is_missing(database: str, http: TestClient) -> None:
    found = http.get("/audit/checkpoint")
    assert (found.status_code, found.json()["code"]) == (503, "not_configured")
