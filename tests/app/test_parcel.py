"""The evidence bundle: what is in it, that it verifies without the service, and that any changed byte is found."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from sqlalchemy import func, text, update

from app import checkpoints, versions
from app.db import transaction
from app.evidence import parcel, weights
from app.evidence.bom import bom
from app.tables import Version, VersionKind
from expunge.evidence import archive, bundle, dsse, notes
from expunge.evidence.keys import SigningKeys, pem
from expunge.evidence.measured import measured_sha256
from expunge.evidence.verify import Fault, Options, options_of, run, verify
from tests.app import story
from tests.app.signing import signing

__all__ = ["signing"]
CHECKS = ["container", "signature", "contents", "weights", "attestations", "checkpoint", "log", "story"]
Files = dict[str, bytes]


@pytest.fixture
def line(database: str, signing: SigningKeys) -> int:
    """v1 trained, v2 unlearned, v3 retrained; a checkpoint before v2."""
    story.dataset()
    model_id = story.trained()
    with transaction() as session:
        checkpoints.sign(session)
    story.submit(1, 2)
    story.work(model_id)
    story.submit(3, subjects=["p-5"])
    lease = story.closed(model_id)
    story.record(lease, b"rejected", story.ESCALATE)
    story.publish(lease, b"retrained", VersionKind.RETRAINED)
    return model_id


def gathered(reference: str) -> parcel.Evidence:
    with transaction() as session:
        return parcel.gather(session, versions.resolve(session, reference))


def made(reference: str = "m-v2") -> bytes:
    return parcel.build(gathered(reference))


def fault(data: bytes, **options: Any) -> str:
    with pytest.raises(Fault) as raised:
        list(verify(data, Options(**options)))
    return str(raised.value)


def forged(pair: SigningKeys, change: Callable[[Files], None]) -> bytes:
    """The bundle with something else in it, signed again by whoever has the key."""
    files = archive.unpack(made())
    manifest = dsse.opened(json.loads(files.pop(bundle.MANIFEST)), bundle.MANIFEST_TYPE, pair.public.verify)
    change(files)
    return archive.pack(bundle.sealed(files, manifest["version"], manifest["weights_sha256"], pair))


def edited(name: str, change: Callable[[Any], None]) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        value = json.loads(files[name])
        change(value)
        files[name] = bundle.line(value)

    return edit


def attested(pair: SigningKeys, kind: str, change: Callable[[Any], None]) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        name = bundle.attestation(kind)
        stated = dsse.opened(json.loads(files[name]), dsse.IN_TOTO, pair.public.verify)
        change(stated)
        signed = dsse.envelope(dsse.IN_TOTO, dsse.canonical(stated), pair.public.fingerprint, pair.sign)
        files[name] = bundle.line(signed)

    return edit


@pytest.mark.parametrize("reference", ["m-v1", "m-v2", "m-v3"])
def test_a_bundle_holds(line: int, signing: SigningKeys, reference: str) -> None:
    data = made(reference)
    assert [name for name, _ in verify(data, Options(fingerprint=signing.public.fingerprint))] == CHECKS
    assert made(reference) == data, "the same version and checkpoint give the same bytes"


def test_any_tool_opens_it(line: int) -> None:
    with zipfile.ZipFile(BytesIO(made())) as opened:
        assert opened.testzip() is None
        names = set(opened.namelist())
    attestations = {bundle.attestation(kind) for kind in bundle.PREDICATES}
    assert names == {
        "HOW-TO-CHECK.md", "report.json", "report.html", "report.pdf", "metrics.json", "bom.cdx.json", "weights.sig",
        "log.json", "checkpoint.txt", "checkpoint-before.txt", "keys/statements.pem", "keys/weights.pem",
        "manifest.dsse.json", *attestations,
    }  # fmt: skip


def test_a_flipped_bit_of_any_part_is_found(line: int, signing: SigningKeys) -> None:
    """In each file at its first, middle and last byte, and each byte between the files and in the directory at the end."""
    data = made()
    places, inside = set[int](), bytearray(len(data))
    with zipfile.ZipFile(BytesIO(data)) as opened:
        for entry in opened.infolist():
            begin = entry.header_offset + archive.LOCAL.size + len(entry.filename.encode())
            places |= {begin, begin + entry.file_size // 2, begin + entry.file_size - 1}
            inside[begin : begin + entry.file_size] = b"\x01" * entry.file_size
    between = [at for at, filled in enumerate(inside) if not filled]
    for at in sorted(places | set(between)):
        changed = bytearray(data)
        changed[at] ^= 1
        assert fault(bytes(changed)), f"byte {at}"


def test_each_changed_file_is_named(line: int) -> None:
    data = made()
    files = archive.unpack(data)
    for name in files:
        for at in {0, len(files[name]) // 2, len(files[name]) - 1}:
            changed = bytearray(files[name])
            changed[at] ^= 1
            said = fault(archive.pack(files | {name: bytes(changed)}))
            assert name in said or name.startswith("keys/") or name == bundle.MANIFEST, (name, at, said)


def test_a_missing_or_added_file_is_named(line: int) -> None:
    files = archive.unpack(made())
    for name in files:
        rest = {other: data for other, data in files.items() if other != name}
        assert fault(archive.pack(rest)) == f"{name} is missing"
    assert fault(archive.pack(files | {"extra.txt": b"x"})) == "extra.txt is not in the manifest"


@pytest.mark.parametrize("data", [b"", b"PK", b"no archive at all", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    assert "archive" in fault(data) or "missing" in fault(data)


def test_another_key_shows_only_where_one_is_expected(line: int, signing: SigningKeys) -> None:
    other = SigningKeys(b"the secret of whoever makes evidence up at home")
    files = archive.unpack(made())
    assert fault(made(), fingerprint=other.public.fingerprint).startswith("the bundle is signed by the key")
    del files[bundle.MANIFEST]
    digest = json.loads(files[bundle.REPORT])["version"]["weights_sha256"]
    files[bundle.STATEMENTS_KEY] = pem(other.public.statements)
    assert "no signature on the envelope" in fault(archive.pack(bundle.sealed(files, "m-v2", digest, other)))


def set_in(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("name", "path", "to", "expected"),
    [
        ("report.json", ["version", "weights_sha256"], "0" * 64, "about another version than the manifest"),
        ("report.json", ["verdict", "weights_sha256"], "0" * 64, "on other weights than those published"),
        ("report.json", ["verdict", "statistics", "ue", "low"], -0.01, "the measurements that the provenance names"),
        ("report.json", ["lineage", "manifest_sha256"], "0" * 64, "other data than the report"),
        ("bom.cdx.json", ["metadata", "component", "hashes"], [], "bom.cdx.json is about other weights"),
        ("log.json", ["entries", 0, "seq"], 1, "is not in the log that the checkpoint is the head of"),
        ("log.json", ["entries", 0, "body"], "{}", "is not in the log that the checkpoint is the head of"),
        ("log.json", ["hashes", 0], "00" * 32, "is not in the log that the checkpoint is the head of"),
        ("log.json", ["consistency", 0], "00" * 32, "does not go on from checkpoint-before.txt"),
        ("log.json", ["entries"], [], "has 0 events version.published"),
        ("log.json", ["entries"], 7, "a part is not of the form"),
    ],
    ids=["version", "verdict", "measured", "manifest", "bom", "seq", "body", "path", "rewritten", "no-events", "form"],
)
def test_parts_that_disagree_are_found_though_all_are_signed(
    line: int, signing: SigningKeys, name: str, path: list[Any], to: Any, expected: str
) -> None:
    assert expected in fault(forged(signing, edited(name, set_in(*path, to=to))))


@pytest.mark.parametrize(
    ("kind", "path", "to", "expected"),
    [
        ("svr", ["subject", 0, "digest", "sha256"], "0" * 64, "svr.dsse.json is about something else"),
        ("provenance", ["predicateType"], "another", "provenance.dsse.json is about something else"),
        ("test-result", ["predicate", "passedTests"], ["ue_before"], None),
        ("test-result", ["predicate", "passedTests"], ["mu"], None),
        (
            "provenance",
            ["predicate", "buildDefinition", "resolvedDependencies", 3, "digest", "sha256"],
            "0" * 64,
            "commits to other samples of ticket",
        ),
    ],
    ids=["subject", "predicate", "no-threshold", "passed", "commitment"],
)
def test_an_attestation_that_says_otherwise_is_found(
    line: int, signing: SigningKeys, kind: str, path: list[Any], to: Any, expected: str | None
) -> None:
    data = forged(signing, attested(signing, kind, set_in(*path, to=to)))
    if expected is None:
        assert [name for name, _ in verify(data)] == CHECKS
    else:
        assert expected in fault(data)


def test_a_test_that_did_not_pass_is_found(line: int, signing: SigningKeys) -> None:
    """The figures outside the threshold, and everything made to agree but the result."""

    def widen(files: Files) -> None:
        edited("report.json", set_in("verdict", "thresholds", "mu", to=0.001))(files)
        report = json.loads(files["report.json"])
        digest = measured_sha256(report["verdict"])
        attested(
            signing, "provenance", set_in("predicate", "runDetails", "byproducts", 0, "digest", "sha256", to=digest)
        )(files)

    assert "says that mu passed, the report's interval says not" in fault(forged(signing, widen))


def test_measurements_that_the_log_does_not_know_are_found(line: int, signing: SigningKeys) -> None:
    def soften(files: Files) -> None:
        edited("report.json", set_in("verdict", "statistics", "ue", "estimate", to=0.0))(files)
        digest = measured_sha256(json.loads(files["report.json"])["verdict"])
        attested(
            signing, "provenance", set_in("predicate", "runDetails", "byproducts", 0, "digest", "sha256", to=digest)
        )(files)

    assert fault(forged(signing, soften)) == "the log's verdict rests on other measurements than the report's"


def story_weights() -> bytes:
    """What the story's worker published as m-v2."""
    with transaction() as session:
        batch = versions.resolve(session, "m-v2").batch
        return f"{batch.id}/{batch.lease_epoch}".encode()


def test_weights_are_held_against_the_signature(line: int, tmp_path: Path) -> None:
    with transaction() as session:
        digest = versions.resolve(session, "m-v2").weights_digest
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_bytes(story_weights())
    wrong.write_bytes(b"others")
    assert "the file given has them" in dict(verify(made(), Options(weights=right)))["weights"]
    assert fault(made(), weights=wrong).endswith(f"the version has {digest}")


def test_a_checkpoint_that_somebody_kept(line: int, signing: SigningKeys) -> None:
    data = made()
    note = archive.unpack(data)[bundle.CHECKPOINT].decode()
    assert dict(verify(data, Options(checkpoint=note)))["checkpoint"].endswith("the checkpoint given")
    earlier = archive.unpack(data)[bundle.EARLIER].decode()
    assert "GET /audit/consistency" in dict(verify(data, Options(checkpoint=earlier)))["checkpoint"]
    assert "no signed note" in fault(data, checkpoint="nothing")


def test_another_log_of_the_same_size_is_found(line: int, signing: SigningKeys) -> None:
    data = made()
    head = notes.read(archive.unpack(data)[bundle.CHECKPOINT].decode().partition("\n\n")[0] + "\n")
    other = notes.Checkpoint(head.origin, head.size, bytes(32))
    shown = notes.sign(other.text, head.origin, signing.public.raw, signing.sign)
    assert fault(data, checkpoint=shown).endswith("somebody was shown another log")


@pytest.mark.parametrize("reference", ["m-v1", "m-v2", "m-v3"])
def test_the_bill_of_materials_is_valid_where_the_schema_is_strict(line: int, reference: str) -> None:
    document = json.dumps(bom(gathered(reference).report))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None


def test_model_signing_verifies_the_weights(tmp_path: Path, signing: SigningKeys) -> None:
    """Its own command line, on a file; and it refuses another one."""
    file, sig, key = tmp_path / "m-v2.safetensors", tmp_path / "weights.sig", tmp_path / "weights.pem"
    file.write_bytes(b"the weights")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    sig.write_bytes(bundle.line(weights.signature(file.name, digest)))
    key.write_bytes(pem(signing.public.weights))
    command = [sys.executable, "-m", "model_signing", "verify", "key", file, "--signature", sig, "--public_key", key]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "succeeded" in done.stdout) == (0, True), done.stderr
    file.write_bytes(b"other weights")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_it_is_checked_without_service_torch_or_network(line: int, signing: SigningKeys, tmp_path: Path) -> None:
    path, code = (
        tmp_path / "evidence.zip",
        (
            "import sys; from expunge.evidence.verify import main; code = main();"
            "loaded = {name.partition('.')[0] for name in sys.modules};"
            "heavy = loaded & {'app', 'torch', 'httpx', 'pydantic', 'sqlalchemy', 'socket'};"
            "sys.exit(f'imported {heavy}' if heavy else code)"
        ),
    )
    path.write_bytes(made())
    command = [sys.executable, "-c", code, str(path), "--key", signing.public.fingerprint]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("holds  ") == len(CHECKS)


def test_the_command_line_says_what_does_not_hold(line: int, signing: SigningKeys, tmp_path: Path) -> None:
    said: list[str] = []
    path, key = tmp_path / "evidence.zip", tmp_path / "key.pem"
    path.write_bytes(made()[:-1])
    key.write_bytes(pem(signing.public.statements))
    assert not run(path, options_of([str(key)], None, None), said.append)
    assert said[-1].startswith("DOES NOT HOLD")
    assert not run(tmp_path / "nowhere", Options(), said.append)
    assert said[-1].startswith("cannot be read")
    key.write_text("no key")
    with pytest.raises(ValueError, match="PEM"):
        options_of([str(key)], None, None)


def test_old_versions_have_bundles_too(line: int) -> None:
    """Of a release whose log did not tell what was measured, and whose tickets have no commitment."""
    with transaction() as session:
        session.execute(text("ALTER TABLE audit_event DISABLE TRIGGER ALL"))
        session.execute(
            text("UPDATE audit_event SET body = (body::jsonb #- '{data,measured}' #- '{data,commitment}')::text")
        )
        session.execute(text("ALTER TABLE audit_event ENABLE TRIGGER ALL"))
        session.execute(text("DELETE FROM checkpoint"))
    assert "did not log what was measured" in dict(verify(made()))["story"]


def test_weights_may_be_long_gone(line: int) -> None:
    with transaction() as session:
        session.execute(update(Version).where(Version.number == 2).values(weights_purged_at=func.now()))
    assert [name for name, _ in verify(made())] == CHECKS
