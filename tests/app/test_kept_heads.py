"""Bundles held against heads of the log that somebody kept, before and after the installation's key was changed."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from app import checkpoints
from app.config import settings
from app.db import transaction
from app.tables import Checkpoint
from app.tree import Tree
from expunge.evidence import archive, bundle, merkle, notes
from expunge.evidence.given import Proof
from expunge.evidence.keys import SigningKeys, pem
from expunge.evidence.verify import Options, options_of, verify
from tests.app import story
from tests.app.signing import signing
from tests.app.test_parcel import Files, fault, forged, head_of, line, made, shown

__all__ = ["line", "signing"]  # fixtures


def proof(first: int, second: int) -> Proof:
    with transaction() as session:
        return Proof(first, second, checkpoints.consistency(session, first, second))


def test_a_checkpoint_that_somebody_kept(line: int, signing: SigningKeys) -> None:
    data = made()
    note, earlier = (archive.unpack(data)[name].decode() for name in (bundle.CHECKPOINT, bundle.EARLIER))
    assert dict(verify(data, Options(checkpoint=note)))["checkpoint"].endswith("the checkpoint given is checkpoint.txt")
    told = dict(verify(data, Options(checkpoint=earlier)))["checkpoint"]
    assert told.endswith("the checkpoint given is checkpoint-before.txt")
    assert "no signed note" in fault(data, checkpoint="nothing")


@pytest.mark.parametrize("name", [bundle.CHECKPOINT, bundle.EARLIER])
def test_another_log_of_the_same_size_is_found(line: int, signing: SigningKeys, name: str) -> None:
    """Also where it is the earlier head that contradicts the one kept: no proof is needed to tell."""
    data = made()
    head = head_of(data, name)
    other = notes.Checkpoint(head.origin, head.size, bytes(32))
    said = fault(data, checkpoint=shown(signing, other))
    assert (name in said, said.endswith("somebody was shown another log")) == (True, True)


def test_a_checkpoint_of_another_log_is_found(line: int, signing: SigningKeys) -> None:
    data = made()
    head = head_of(data)
    for origin in ("example.com/another", f"{head.origin}/restored-1"):
        other = notes.Checkpoint(origin, head.size, head.root)
        assert f"the log {origin}" in fault(data, checkpoint=shown(signing, other))


def test_a_checkpoint_of_another_size_needs_its_proof(line: int, signing: SigningKeys) -> None:
    data = made("m-v2")
    head, size = head_of(data), head_of(data, bundle.EARLIER).size + 1
    with transaction() as session:
        kept = shown(signing, notes.Checkpoint(head.origin, size, merkle.root(Tree(session).node, size)))
    asked = f"GET /audit/consistency?first={size}&second={head.size}"
    assert asked in fault(data, checkpoint=kept)
    found = dict(verify(data, Options(checkpoint=kept, proof=proof(size, head.size))))["checkpoint"]
    assert found.endswith(f"checkpoint.txt goes on from the checkpoint given, {head.size - size} events later")
    assert f"the proof is for 1 and {head.size} events" in fault(data, checkpoint=kept, proof=proof(1, head.size))


def test_a_checkpoint_that_the_log_does_not_go_on_from_is_found(line: int, signing: SigningKeys) -> None:
    """The service answers with a path whatever was rewritten; it leads from another root than the one kept."""
    data = made("m-v2")
    head, size = head_of(data), head_of(data, bundle.EARLIER).size + 1
    kept = shown(signing, notes.Checkpoint(head.origin, size, bytes(32)))
    assert "does not go on from the checkpoint given" in fault(data, checkpoint=kept, proof=proof(size, head.size))


def test_a_later_checkpoint_is_held_against_the_bundle_too(line: int, signing: SigningKeys) -> None:
    data = made("m-v2")
    head = head_of(data)
    story.submit(9)
    with transaction() as session:
        later = checkpoints.sign(session)
    assert f"first={head.size}&second={later.size}" in fault(data, checkpoint=later.note)
    found = dict(verify(data, Options(checkpoint=later.note, proof=proof(head.size, later.size))))["checkpoint"]
    assert "the checkpoint given goes on from checkpoint.txt" in found


@pytest.fixture
def rotated(line: int, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch) -> SigningKeys:
    """The installation signs with another key from here on."""
    secret = "another secret for tests that has thirty-two characters"
    monkeypatch.setenv("EXPUNGE_SIGNING_SECRET", secret)
    settings.cache_clear()
    return SigningKeys(secret.encode())


def test_after_a_rotation_the_earlier_head_comes_with_its_own_key(rotated: SigningKeys, signing: SigningKeys) -> None:
    data, old = made(), signing.public.fingerprint
    files = archive.unpack(data)
    assert files[bundle.EARLIER_KEY] == pem(signing.public.statements)
    told = dict(verify(data, options_of([rotated.public.fingerprint], None, None)))["checkpoint"]
    assert told.endswith(f"{bundle.EARLIER} is signed by the key {old}, which came with the bundle")
    told = dict(verify(data, options_of([rotated.public.fingerprint, old], None, None)))["checkpoint"]
    assert told.endswith(f"{bundle.EARLIER} is signed by the key {old}, as expected")
    kept = files[bundle.EARLIER].decode()
    assert "the checkpoint given is checkpoint-before.txt" in dict(verify(data, Options(checkpoint=kept)))["checkpoint"]

    def without(files: Files) -> None:
        del files[bundle.EARLIER_KEY]

    assert fault(forged(rotated, without)) == "checkpoint-before.txt is signed by another key"
    assert "earlier.pem: " in fault(forged(rotated, lambda files: files.update({bundle.EARLIER_KEY: b"no key"})))


def test_a_kept_checkpoint_of_a_key_that_the_bundle_does_not_have(
    rotated: SigningKeys, signing: SigningKeys, tmp_path: Path
) -> None:
    """m-v1 has no earlier head, and so no key of one."""
    data, kept, key = made("m-v1"), tmp_path / "kept.txt", tmp_path / "old.pem"
    with transaction() as session:
        first = session.scalars(select(Checkpoint).where(Checkpoint.key == signing.public.fingerprint)).one()
    kept.write_text(first.note)
    key.write_bytes(pem(signing.public.statements))
    answer = tmp_path / "proof.json"
    found = proof(first.size, head_of(data).size)
    answer.write_text(
        json.dumps({"first": found.first, "second": found.second, "path": [step.hex() for step in found.path]})
    )
    assert "is signed by another key" in fault(data, checkpoint=first.note)
    options = options_of([rotated.public.fingerprint, str(key)], None, kept, answer)
    assert "goes on from the checkpoint given" in dict(verify(data, options))["checkpoint"]
