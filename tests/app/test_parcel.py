"""The evidence bundle: what is in it, that it verifies without the service, and that any changed byte is found."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from sqlalchemy import func, text, update
from sqlalchemy.orm import Session

from app import audit, checkpoints, runs, versions
from app.db import transaction
from app.evidence import parcel, weights
from app.evidence.bom import bom
from app.tables import Version, VersionKind
from expunge.evidence import archive, bundle, claims, dsse, merkle, notes
from expunge.evidence.keys import SigningKeys, pem
from expunge.evidence.verify import Fault, Options, options_of, run, verify
from tests.app import story
from tests.app.signing import signing

__all__ = ["signing"]
CHECKS = ["container", "signature", "contents", "weights", "attestations", "checkpoint", "log", "story"]
Files = dict[str, bytes]
INPUTS = ["predicate", "buildDefinition", "resolvedDependencies"]


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


def remade(pair: SigningKeys, *path: Any, to: Any) -> Callable[[Files], None]:
    """Another report, and everything that is made from it made again from that one: only the log knows better."""

    def edit(files: Files) -> None:
        report = json.loads(files[bundle.REPORT])
        set_in(*path, to=to)(report)
        report["attempts_at_a_verdict"][-1] = report["verdict"]
        for estimate in report["validation"]["estimates"]:
            found = report["verdict"]["statistics"][estimate["name"]]
            estimate |= {part: found[part] for part in ("estimate", "low", "high", "n")}
        files[bundle.REPORT], files[bundle.METRICS] = bundle.line(report), bundle.line(report["attempts_at_a_verdict"])
        committed = claims.commitments(json.loads(each["body"]) for each in json.loads(files[bundle.LOG])["entries"])
        made = {
            "provenance": claims.provenance(report, committed),
            "test-result": claims.test_result(report),
            "svr": claims.summary(report),
        }
        for kind, predicate in made.items():
            attested(pair, kind, set_in("predicate", to=predicate))(files)
        component = ("metadata", "component", "properties")
        edited(bundle.BOM, set_in(*component, 0, "value", to=report["version"]["kind"]))(files)
        edited(bundle.BOM, set_in(*component, 2, "value", to=report["verdict"]["rung"]))(files)

    return edit


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


def test_a_changed_byte_of_a_key_is_found(line: int) -> None:
    """Wherever it is: some make of it a key of a kind that is not known here, which no library may answer with a traceback."""
    files = archive.unpack(made())
    for name in (bundle.STATEMENTS_KEY, bundle.WEIGHTS_KEY):
        for at in range(len(files[name])):
            changed = bytearray(files[name])
            changed[at] ^= 1
            assert fault(archive.pack(files | {name: bytes(changed)})), (name, at)


DEEP = b"[" * 100_000 + b"]" * 100_000


def test_what_is_nested_too_deeply_is_found(line: int, signing: SigningKeys) -> None:
    def statement(files: Files) -> None:
        signed = dsse.envelope(dsse.IN_TOTO, DEEP, signing.public.fingerprint, signing.sign)
        files[bundle.attestation("svr")] = bundle.line(signed)

    assert "svr.dsse.json: what is signed is nested too deeply" in fault(forged(signing, statement))

    def event(files: Files) -> None:
        """A log of one event, and its head."""
        head = notes.Checkpoint(head_of(made()).origin, 1, merkle.leaf_hash(DEEP))
        files[bundle.CHECKPOINT] = shown(signing, head).encode()
        log = {"origin": head.origin, "size": 1, "hashes": []}
        files[bundle.LOG] = bundle.line(log | {"entries": [{"seq": 1, "body": DEEP.decode(), "path": []}]})
        del files[bundle.EARLIER]

    assert fault(forged(signing, event)) == "log: a part is not of the form that it has in a bundle (RecursionError)"


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
        ("report.json", ["timeline", 0, "actor"], "nobody", "of the timeline is not what the log tells"),
        ("report.json", ["timeline"], [], "of the batch is left out of the timeline"),
        ("log.json", ["entries", 1], {"seq": 1}, "a part is not of the form"),
        ("report.json", ["lineage", "manifest_sha256"], "0" * 64, "other data than the report"),
        (
            "report.json",
            ["policy", "ladder"],
            [],
            "test-result.dsse.json says otherwise than the report: configuration",
        ),
        (
            "report.json",
            ["validation", "estimates", 1, "high"],
            0.01,
            "the estimate of ue is another than the verdict's",
        ),
        ("report.json", ["validation", "estimates"], [], "the estimates are not those of the verdict: mu"),
        ("report.json", ["attempts_at_a_verdict"], [], "metrics.json has other verdicts than the report"),
        ("metrics.json", [0, "statistics", "mu", "low"], 0.0, "metrics.json has other verdicts than the report"),
        ("bom.cdx.json", ["metadata", "component", "hashes"], [], "bom.cdx.json is about other weights"),
        (
            "bom.cdx.json",
            ["metadata", "component", "properties", 0, "value"],
            "retrained",
            "bom.cdx.json tells of another making than the report",
        ),
        ("log.json", ["origin"], "example.com/another", "log.json is a slice of another log"),
        ("log.json", ["size"], 1, "log.json is a slice of another log, or of another size, than checkpoint.txt"),
        ("log.json", ["entries", 0, "seq"], 1, "is not in the log that the checkpoint is the head of"),
        ("log.json", ["entries", 0, "body"], "{}", "is not in the log that the checkpoint is the head of"),
        ("log.json", ["hashes", 0], "00" * 32, "is not in the log that the checkpoint is the head of"),
        ("log.json", ["consistency", 0], "00" * 32, "does not go on from checkpoint-before.txt"),
        ("log.json", ["entries"], [], "has 0 events version.published"),
        ("log.json", ["entries"], 7, "a part is not of the form"),
    ],
    ids=[
        "version",
        "verdict",
        "measured",
        "timeline",
        "no-timeline",
        "entry",
        "manifest",
        "policy",
        "estimate",
        "estimates",
        "attempts",
        "metrics",
        "bom",
        "kind",
        "log",
        "log-size",
        "seq",
        "body",
        "path",
        "rewritten",
        "no-events",
        "form",
    ],
)
def test_parts_that_disagree_are_found_though_all_are_signed(
    line: int, signing: SigningKeys, name: str, path: list[Any], to: Any, expected: str
) -> None:
    assert expected in fault(forged(signing, edited(name, set_in(*path, to=to))))


@pytest.mark.parametrize(
    ("kind", "path", "to", "expected"),
    [
        ("svr", ["_type"], "https://in-toto.io/Statement/v0.1", "svr.dsse.json is about something else"),
        ("svr", ["subject", 0, "digest", "sha256"], "0" * 64, "svr.dsse.json is about something else"),
        ("provenance", ["predicateType"], "another", "provenance.dsse.json is about something else"),
        ("provenance", ["predicate", "buildDefinition", "buildType"], "urn:expunge:retrained:v1", "buildType"),
        ("provenance", ["predicate", "buildDefinition", "externalParameters", "policy", "sha256"], "0" * 64, "policy"),
        ("provenance", [*INPUTS, 0, "digest", "sha256"], "0" * 64, "buildDefinition.resolvedDependencies"),
        ("provenance", [*INPUTS, 1, "annotations", "count"], 0, "buildDefinition.resolvedDependencies"),
        ("provenance", [*INPUTS, 2, "digest", "sha256"], "0" * 64, "buildDefinition.resolvedDependencies"),
        ("test-result", ["predicate", "passedTests"], ["ue_before"], "says otherwise of the test mu than"),
        ("test-result", ["predicate", "passedTests"], ["mu", "ue_before"], "than the report: passedTests"),
        (
            "test-result",
            ["predicate", "warnedTests"],
            [],
            "says otherwise of the test ue than the report's figures: warned",
        ),
        ("test-result", ["predicate", "result"], "PASSED", "than the report: result"),
        ("test-result", ["predicate", "configuration", 0, "digest", "sha256"], "0" * 64, "configuration"),
        (
            "svr",
            ["predicate", "properties", 1],
            claims.WITHOUT,
            "svr.dsse.json says otherwise than the report: properties",
        ),
        ("svr", ["predicate", "verifier", "policies", 0, "digest", "sha256"], "0" * 64, "verifier.policies"),
        ("svr", ["predicate", "timeCreated"], "2020-01-01T00:00:00Z", "timeCreated"),
        (
            "provenance",
            [*INPUTS, 3, "digest", "sha256"],
            "0" * 64,
            "commits to other samples of ticket",
        ),
    ],
    ids=[
        "type",
        "subject",
        "predicate",
        "making",
        "provenance-policy",
        "manifest",
        "count",
        "parent",
        "not-passed",
        "unknown",
        "warned",
        "result",
        "test-policy",
        "property",
        "svr-policy",
        "time",
        "commitment",
    ],
)
def test_an_attestation_that_says_otherwise_is_found(
    line: int, signing: SigningKeys, kind: str, path: list[Any], to: Any, expected: str
) -> None:
    assert expected in fault(forged(signing, attested(signing, kind, set_in(*path, to=to))))


def test_a_test_that_did_not_pass_is_found(line: int, signing: SigningKeys) -> None:
    """The figures outside the threshold, and everything made to agree but the result."""

    def widen(files: Files) -> None:
        before = files[bundle.attestation("test-result")]
        remade(signing, "verdict", "thresholds", "mu", to=0.001)(files)
        edited(bundle.REPORT, set_in("validation", "estimates", 0, "threshold", to=0.001))(files)
        files[bundle.attestation("test-result")] = before

    assert "says otherwise of the test mu than the report's figures: failed" in fault(forged(signing, widen))


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        (["version", "kind"], "retrained", "the log says that the version was unlearned, the report retrained"),
        (["verdict", "rung"], "retrain", "the log's verdict has another rung than the report's"),
        (["verdict", "reasons"], [], "the log's verdict has another reasons than the report's"),
        (["verdict", "statistics", "ue", "estimate"], 0.0, "the log's verdict rests on other measurements"),
        (["batch"], "00000000-0000-0000-0000-000000000000", "has 0 events version.published"),
        (["lineage", "tickets"], [], "the log tells that the version answers other tickets than the report"),
    ],
    ids=["kind", "rung", "reasons", "measured", "batch", "tickets"],
)
def test_a_report_that_only_the_log_contradicts_is_found(
    line: int, signing: SigningKeys, path: list[Any], to: Any, expected: str
) -> None:
    if path == ["version", "kind"]:  # a training has no estimates

        def change(files: Files) -> None:
            edited(bundle.REPORT, set_in("validation", "estimates", to=[]))(files)
            remade(signing, *path, to=to)(files)
    else:
        change = remade(signing, *path, to=to)
    assert expected in fault(forged(signing, change))


def test_a_ticket_that_came_later_and_found_nothing_left_is_told(database: str, signing: SigningKeys) -> None:
    """The version answers it too, though its publication did not know of it."""
    late, data = story.answered_late(), made()
    assert str(late) in archive.unpack(data)[bundle.REPORT].decode()
    assert dict(verify(data))["story"].endswith("2 tickets")

    def forget(files: Files) -> None:
        kept = [
            each
            for each in json.loads(files[bundle.LOG])["entries"]
            if json.loads(each["body"])["kind"] != "batch.cancelled"
        ]
        edited(bundle.LOG, set_in("entries", to=kept))(files)

    assert "answers other tickets than the report" in fault(forged(signing, forget))


@pytest.mark.parametrize(("logged", "holds"), [({"version": "m-v9"}, False), ({}, True)], ids=["another", "unnamed"])
def test_the_log_names_the_version_that_answers_a_ticket_that_came_later(
    database: str, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch, logged: dict[str, Any], holds: bool
) -> None:
    """Earlier releases did not: there a later end of a batch may be any version's."""
    append = audit.append

    def altered(session: Session, kind: str, actor: str, **told: Any) -> None:
        if kind == "batch.cancelled":
            assert told.pop("version") == "m-v2"
            told |= logged
        append(session, kind, actor, **told)

    monkeypatch.setattr("app.runs.audit.append", altered)
    story.answered_late()
    if holds:
        assert dict(verify(made()))["story"].endswith("2 tickets")
    else:
        assert "answers other tickets than the report" in fault(made())


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


def head_of(data: bytes, name: str = bundle.CHECKPOINT) -> notes.Checkpoint:
    return notes.read(archive.unpack(data)[name].decode().partition("\n\n")[0] + "\n")


def shown(pair: SigningKeys, head: notes.Checkpoint) -> str:
    """A head as whoever has the key would sign it."""
    return notes.sign(head.text, head.origin, pair.public.raw, pair.sign)


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


def test_a_file_that_is_not_there_is_named(line: int, tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "evidence.zip"
    path.write_bytes(made())
    assert not run(path, Options(weights=tmp_path / "none.safetensors"), said.append)
    assert said[-1] == f"cannot be read: {tmp_path / 'none.safetensors'}: No such file or directory"


def published(model_id: int, environment: dict[str, Any], **found: dict[str, Any]) -> None:
    """An update with these figures, by a worker with this environment."""
    lease = story.closed(model_id)
    verdict_id = story.record(lease, b"new", found=story.statistics(**found))
    offered = replace(story.candidate(lease, b"new", verdict_id), environment=environment)
    with transaction() as session:
        runs.publish(session, lease, offered)


def predicates(reference: str, pair: SigningKeys) -> dict[str, Any]:
    found = parcel.attested(gathered(reference)).items()
    return {kind: dsse.opened(each, dsse.IN_TOTO, pair.public.verify)["predicate"] for kind, each in found}


def test_what_did_not_pass_is_no_property(database: str, signing: SigningKeys) -> None:
    """UE within its threshold, on an assumption that a test contradicted: a warning for both."""
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2)
    published(
        model_id, {}, ue=story.statistic(0.02, -0.05, 0.09, n=200), fair_draw=story.statistic(0.3, 0.2, 0.4, n=200)
    )
    found = predicates("m-v2", signing)
    assert (found["test-result"]["passedTests"], found["test-result"]["warnedTests"]) == (["mu"], ["ue"])
    assert [each for each in found["svr"]["properties"] if each.endswith("_WITHIN_THRESHOLD")] == [
        "EXPUNGE_MU_WITHIN_THRESHOLD"
    ]
    assert [name for name, _ in verify(made())] == CHECKS


def test_provenance_names_the_release_that_made_the_weights(database: str, signing: SigningKeys) -> None:
    """And not the one that exports it, which may be a later one."""
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2)
    published(model_id, {"expunge": "0.0.7"})
    found = predicates("m-v2", signing)
    assert found["provenance"]["runDetails"]["builder"]["version"] == {"expunge": "0.0.7"}
    assert "version" not in predicates("m-v1", signing)["provenance"]["runDetails"]["builder"]


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
