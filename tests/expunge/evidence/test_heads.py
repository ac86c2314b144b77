"""Two heads of the log: of one history, contradicting each other, or with nothing that tells which."""

import json
import sys
from pathlib import Path

import pytest

from expunge.evidence import heads, merkle, notes
from expunge.evidence.fault import Fault
from expunge.evidence.given import Proof
from expunge.evidence.keys import SigningKeys, pem

PAIR = SigningKeys(b"a secret of an installation that has 32 bytes")
OLD = SigningKeys(b"the secret that it had before, of 32 bytes too")
LOG = "example.com/log"
LEAVES = [merkle.leaf_hash(f"event {number}".encode()) for number in range(1, 12)]
NAMES = ("kept", "shown")


def node(level: int, index: int) -> bytes:
    return merkle.complete(LEAVES[index << level : (index + 1) << level])


def at(size: int, origin: str = LOG) -> notes.Checkpoint:
    return notes.Checkpoint(origin, size, merkle.root(node, size))


def proof(first: int, second: int) -> Proof:
    return Proof(first, second, merkle.consistency(node, first, second))


def rewritten(size: int) -> notes.Checkpoint:
    return notes.Checkpoint(LOG, size, bytes(32))


@pytest.mark.parametrize("size", [1, 4, 5, 10])
def test_a_proof_leads_from_one_to_the_other_whichever_is_older(size: int) -> None:
    assert heads.agree(at(size), at(11), NAMES, proof(size, 11)).startswith("shown goes on from kept")
    assert heads.agree(at(11), at(size), NAMES, proof(size, 11)).startswith("kept goes on from shown")


def test_the_same_head_needs_no_proof() -> None:
    assert heads.agree(at(7), at(7), NAMES, None) == "kept is shown"


def test_every_log_goes_on_from_an_empty_one() -> None:
    assert "without events" in heads.agree(at(0), at(7), NAMES, None)
    with pytest.raises(Fault):
        heads.agree(rewritten(0), at(7), NAMES, None)


@pytest.mark.parametrize(
    ("kept", "given", "says"),
    [
        (at(7, "example.com/log/restored-1"), None, "nothing can relate two logs"),
        (rewritten(11), None, "of one size and differ"),
        (rewritten(7), None, "nothing shows that shown"),
        (at(7), None, r"GET /audit/consistency\?first=7&second=11"),
        (at(7), proof(6, 11), "the proof is for 6 and 11 events"),
        (at(7), Proof(11, 7, []), "the proof is for 11 and 7 events"),
        (at(7), Proof(7, 11, []), "does not go on from kept"),
        (rewritten(7), proof(7, 11), "does not go on from kept"),
    ],
    ids=["origin", "same-size", "rewritten", "unproven", "sizes", "turned", "no-path", "another-root"],
)
def test_what_is_not_shown_to_be_one_history_is_a_fault(kept: notes.Checkpoint, given: Proof | None, says: str) -> None:
    with pytest.raises(Fault, match=says):
        heads.agree(kept, at(11), NAMES, given)


def note(found: notes.Checkpoint, pair: SigningKeys = PAIR) -> str:
    return notes.sign(found.text, found.origin, pair.public.raw, pair.sign)


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A head of each key, the keys, and the proof between the heads."""
        (tmp_path / "old").write_text(note(at(5), OLD), encoding="utf-8")
        (tmp_path / "new").write_text(note(at(11)), encoding="utf-8")
        (tmp_path / "old.pem").write_bytes(pem(OLD.public.statements))
        (tmp_path / "new.pem").write_bytes(pem(PAIR.public.statements))
        path = [step.hex() for step in proof(5, 11).path]
        (tmp_path / "proof.json").write_text(json.dumps({"first": 5, "second": 11, "path": path}))
        return tmp_path

    def called(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["heads", "old", "new", *arguments])
        return heads.main()

    def test_it_holds(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        keys = ("--key", "new.pem", "--key", "old.pem")
        assert self.called(folder, monkeypatch, *keys, "--proof", "proof.json") == 0
        assert capsys.readouterr().out == "holds          new goes on from old, 6 events later\n"

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--key", "new.pem", "--key", "old.pem"], "DOES NOT HOLD  nothing shows"),
            (["--key", "new.pem", "--proof", "proof.json"], "DOES NOT HOLD  old is signed by another key"),
        ],
        ids=["no-proof", "no-key"],
    )
    def test_it_does_not_hold(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        says: str,
    ) -> None:
        assert self.called(folder, monkeypatch, *arguments) == 1
        assert capsys.readouterr().out.startswith(says)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--key", "ab" * 32], "give the key's PEM file"),
            (["--key", "none.pem"], "none.pem"),
            (["--key", "new.pem", "--key", "old.pem", "--proof", "old"], "old: this is no proof"),
        ],
        ids=["fingerprint", "no-file", "no-proof"],
    )
    def test_what_cannot_be_used_is_said(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        says: str,
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            self.called(folder, monkeypatch, *arguments)
        assert (ended.value.code, says in capsys.readouterr().err) == (2, True)
