"""What a reader gives on the command line: read, or refused in a sentence that names it."""

import json
from pathlib import Path

import pytest

from expunge.evidence.given import Options, Proof, options_of, proof_of
from expunge.evidence.keys import SigningKeys, pem

PUBLIC = SigningKeys(b"a secret of an installation that has 32 bytes").public


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(PUBLIC.statements))
    return str(path)


def test_nothing_given_is_nothing_to_hold_against() -> None:
    assert options_of([], None, None) == Options()


def test_the_first_key_signs_the_bundle_and_the_others_earlier_heads(key: str) -> None:
    other = "AB:" * 31 + "AB"
    found = options_of([key, other], None, None)
    assert (found.fingerprint, found.expected, found.keys) == (PUBLIC.fingerprint, {"ab" * 32}, (PUBLIC.statements,))
    assert options_of([other, key], None, None).fingerprint == "ab" * 32


def test_a_key_that_is_none_is_named(key: str, tmp_path: Path) -> None:
    Path(key).write_text("no key")
    with pytest.raises(ValueError, match=r"key\.pem: .*PEM"):
        options_of([key], None, None)
    with pytest.raises(FileNotFoundError, match="none"):
        options_of([str(tmp_path / "none.pem")], None, None)


def test_a_checkpoint_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "head").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"head: this is no text in UTF-8"):
        options_of([], None, tmp_path / "head")


def test_a_proof_is_of_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--checkpoint"):
        options_of([], None, None, tmp_path / "proof.json")


def test_a_proof_is_what_the_service_answered(tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text(json.dumps({"first": 3, "second": 7, "path": ["ab" * 32]}))
    assert proof_of(tmp_path / "proof.json") == Proof(3, 7, [bytes.fromhex("ab" * 32)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"first": 3, "second": "7", "path": []}',
        '{"first": true, "second": 7, "path": []}',
        '{"first": 3, "second": 7, "path": ["xy"]}',
        '{"first": 3, "second": 7, "path": [7]}',
        "[" * 100_000,
    ],
    ids=["empty", "list", "nothing", "text", "truth", "no-hash", "number", "deep"],
)
def test_what_is_no_proof_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "proof.json").write_text(text)
    with pytest.raises(ValueError, match=r"proof\.json: this is no proof"):
        proof_of(tmp_path / "proof.json")
