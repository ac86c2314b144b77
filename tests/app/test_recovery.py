"""Back-up, restore and replay against real Postgres: what is lost comes back, and nothing is trained before it has."""

import ast
import gzip
import hashlib
import json
import os
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from alembic import command
from sqlalchemy import func, select, text, update

from app import audit, exposure, keys, lineage, lockdown, references, runs, store, sweep, tickets, versions
from app.auth import Principal, Scope
from app.db import alembic_config, check_schema, engine, transaction
from app.errors import Conflict, Corrupt, Gone, NotFound, Unavailable, Unprocessable
from app.recovery import again, backup, journal, replay
from app.recovery import restore as restoring
from app.recovery.archive import Checked, Manifest, open_archive, read_manifest
from app.recovery.replay import Replayed
from app.tables import (
    BatchState,
    Dataset,
    Model,
    ObligationState,
    Policy,
    Reason,
    Restoration,
    Run,
    Ticket,
    TicketState,
    Version,
    VersionKind,
    WebhookEndpoint,
    WebSession,
)
from app.webhooks import deliveries, endpoints, relay
from tests import databases
from tests.app import story, test_exposure
from tests.app.pages.browser import Browser
from tests.app.pages.browser import text as shown
from tests.app.webhooks import scene
from tests.app.webhooks.conftest import configured  # noqa: F401 - a fixture
from tests.servers import Servers

ROOT = Path(__file__).parent.parent.parent
_number = count(1)
Elsewhere = Callable[[], None]


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(tmp_path / "archive")


@pytest.fixture
def log(tmp_path: Path) -> str:
    """Where the journal goes: another place than the back-ups."""
    return str(tmp_path / "journal")


@pytest.fixture
def elsewhere(database: str, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    """Lose everything: from here on this process uses another database, empty and not even migrated, and another store."""
    made: list[str] = []

    def lose() -> None:
        made.append(f"restored_{next(_number)}")
        monkeypatch.setenv("DATABASE_URL", servers.database_url(made[-1]))
        monkeypatch.setenv("EXPUNGE_DATA_DIR", str(tmp_path / made[-1]))
        databases.forget_settings()

    yield lose
    databases.forget_settings()
    with psycopg.connect(servers.database_url("postgres"), autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def back_up(place: str) -> Manifest:
    return backup.take(open_archive(place))


def restore(place: str, name: str | None = None, sha256: str | None = None) -> Manifest:
    opened = open_archive(place)
    manifest = restoring.find(opened, name, sha256)
    restoring.restore(opened, manifest)
    return manifest


def export(place: str) -> journal.Segment | None:
    return journal.export(open_archive(place))


def replayed(place: str, sha256: str | None = None) -> Replayed:
    with transaction() as session:
        return replay.replay(session, open_archive(place), "ada", sha256)


def declare() -> None:
    with transaction() as session:
        replay.declare(session, "ada", "the intake was closed")


def published(model_id: int, weights: bytes) -> Version:
    """A version whose bytes are really kept."""
    store.put(weights)
    story.close(model_id)
    return story.publish(story.claimed(model_id), weights)


def lived() -> tuple[int, UUID]:
    """An installation with something in every part of it: returns the model, and a ticket that is fulfilled."""
    story.dataset(samples=40)
    story.key()
    model_id = story.register()
    published(model_id, b"first")
    ticket = story.submit(1, 2, external_id="case-1")
    published(model_id, b"second")
    return model_id, ticket


def rows() -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, but for what a restoration adds to."""
    with transaction() as session:
        names = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        left_out = {"alembic_version", "restoration", "audit_head"}
        return {
            name: sorted((tuple(row) for row in session.execute(text(f"SELECT * FROM {name}"))), key=repr)
            for name in set(names) - left_out
        }


def verification() -> audit.Verification:
    with transaction() as session:
        return audit.verify(session)


def dead(dataset: str = "people") -> list[int]:
    with transaction() as session:
        dataset_id = session.scalars(select(Dataset.id).where(Dataset.name == dataset)).one()
        return list(lineage.tombstoned(session, dataset_id))


def test_everything_comes_back_row_by_row(archive: str, elsewhere: Elsewhere) -> None:
    model_id, ticket = lived()
    with transaction() as session:
        tickets.submit(session, "tool", story.submission(3), "key-1", b"body")
    made, before = back_up(archive), rows()
    elsewhere()
    restore(archive)
    check_schema()
    command.check(alembic_config())
    after = rows()
    told = [row for row in after["audit_event"] if row not in before["audit_event"]]
    assert [row[1] for row in told] == ["installation.restored"]
    assert {name: found for name, found in after.items() if name != "audit_event"} == {
        name: found for name, found in before.items() if name != "audit_event"
    }
    assert verification().fault is None
    assert verification().restored[0].startswith(f"Restored from back-up {made.name}")
    assert store.get(made_weights(model_id)) == b"second"
    declare()
    assert story.ticket(ticket).state is TicketState.FULFILLED
    with transaction() as session:
        assert tickets.submit(session, "tool", story.submission(3), "key-1", b"body").replayed
    assert story.dataset("more") > 1, "numbers go on after those that were restored"
    assert story.register("m2") > model_id
    story.work(model_id)


def test_who_was_signed_in_signs_in_again_and_reads_that_all_is_locked(archive: str, elsewhere: Elsewhere) -> None:
    """A session that was ended since, or whose key was revoked, must not live again."""
    lived()
    signed_in = Browser().sign_in("ada")
    assert signed_in.get("/").status_code == 200
    back_up(archive)
    elsewhere()
    restore(archive)
    assert story.all_of(WebSession) == []
    assert signed_in.get("/").status_code == 303
    assert "Restored from a back-up: nothing is trained" in shown(signed_in.sign_in("ada").get("/"))


def made_weights(model_id: int) -> str:
    with transaction() as session:
        current = session.get_one(Model, model_id).current_version_id
        return session.get_one(Version, current).weights_digest


@pytest.mark.service
@pytest.mark.both
def test_artifacts_are_copied_once_and_leave_with_the_last_backup_that_names_them(
    database: str, archive: str, tmp_path: Path
) -> None:
    model_id, _ = lived()
    first = back_up(archive)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "archive/artifacts").rglob("*/*/*")}
    assert set(files) == set(first.artifacts) == {store.put(b"first"), store.put(b"second")}
    with transaction() as session:
        session.execute(update(Version).where(Version.number == 1).values(weights_purged_at=func.now()))
    story.submit(5)
    published(model_id, b"third")
    second = back_up(archive)
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "archive/artifacts").rglob("*/*/*")}
    assert {name: now[name] for name in files} == files
    assert set(second.artifacts) == {store.put(b"second"), store.put(b"third")}
    aged(tmp_path / "archive/artifacts")
    assert backup.prune(open_archive(archive), 1) == [first.name]
    left = {path.name for path in (tmp_path / "archive").rglob("*") if path.is_file()}
    assert store.put(b"first") not in left
    assert set(second.artifacts) <= left
    with pytest.raises(NotFound):
        read_manifest(open_archive(archive), first.name)
    assert restoring.find(open_archive(archive), None) == second


@pytest.mark.service
def test_a_large_artifact_is_restored_without_being_held_whole(archive: str, database: str) -> None:
    data = os.urandom(2**25)
    digest = hashlib.sha256(data).hexdigest()
    path = f"artifacts/{store.path(digest)}"
    open_archive(archive).put(path, data)
    tracemalloc.start()
    try:
        restoring.restore_artifact(open_archive(archive), digest)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.get(digest) == data
    assert most < len(data) / 2


def test_a_stream_is_read_in_any_sizes() -> None:
    data = bytes(range(256)) * 8
    for size in (1, 7, 300, 5000):
        seen = Checked(data[n : n + 100] for n in range(0, len(data), 100))
        assert seen.read(0) == b""
        assert b"".join(iter(partial(seen.read, size), b"")) == data
        seen.finish("it", hashlib.sha256(data).hexdigest())
    halved = Checked([data, data])
    assert halved.read(10) + halved.read() == data + data


def aged(folder: Path) -> None:
    """Let all that lies there have lain for two days."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 2 * 86400,) * 2)


def test_what_a_crashed_backup_left_goes_after_a_day(archive: str, database: str) -> None:
    lived()
    whole = back_up(archive)
    place, orphan = Path(archive), "ab" * 32
    left = [
        place / "backups/20200101T000000.000000Z-7/tables/ticket.gz",
        place
        / "backups/20200101T000000.000000Z-7/tables/sample_1.gz#1",  # as a folder's writer leaves it when it is killed
        place / f"incoming/{orphan}",
        place / f"artifacts/{store.path(orphan)}",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"somebody")
    assert backup.prune(open_archive(archive), 1) == []
    assert [path.exists() for path in left] == [True] * 4, "another back-up may be under way"
    aged(place / "artifacts")
    backup.prune(open_archive(archive), 1)
    assert left[3].exists(), "which may rely on an artifact that was there"
    aged(place)
    assert backup.prune(open_archive(archive), 1) == []
    assert [path.exists() for path in left] == [False] * 4
    names = {path.name for path in place.rglob("*") if path.is_file()}
    assert names == {*whole.artifacts, "manifest.json", *(f"{part.table}.gz" for part in whole.parts)}


@pytest.mark.service
@pytest.mark.both
def test_a_backup_whose_parts_were_pruned_meanwhile_is_none(
    archive: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived()
    copy = backup.copy_artifacts

    def prune_then_copy(opened: Any, wanted: set[str]) -> Any:
        aged(Path(archive))
        backup.prune(opened, 1)
        return copy(opened, wanted)

    monkeypatch.setattr(backup, "copy_artifacts", prune_then_copy)
    with pytest.raises(Unavailable, match="deleted meanwhile"):
        back_up(archive)
    with pytest.raises(NotFound):
        restoring.find(open_archive(archive), None)


@pytest.mark.service
@pytest.mark.both
def test_what_is_written_while_it_is_taken_is_in_it_whole_or_not_at_all(archive: str, elsewhere: Elsewhere) -> None:
    lived()
    came: list[UUID] = []

    def busy(line: str) -> None:
        if line.startswith("table "):
            came.append(story.submit(3 + len(came)))

    made = backup.take(open_archive(archive), busy)
    assert len(came) > 10
    elsewhere()
    restore(archive)
    assert not set(came) & {ticket.id for ticket in story.all_of(Ticket)}
    assert dead() == [1, 2]
    assert verification().events == made.head.seq + 1


@pytest.mark.service
@pytest.mark.both
def test_weights_purged_meanwhile_are_looked_for_anew_and_the_rest_is_done_without(
    archive: str, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id, _ = lived()
    gradients = store.put(b"gradients")
    copy, looks = backup.copy_artifacts, []

    def purge_first(opened: Any, wanted: set[str]) -> Any:
        looks.append(wanted)
        if len(looks) == 1:
            with transaction() as session:
                session.execute(update(Version).where(Version.number == 1).values(weights_purged_at=func.now()))
                session.execute(update(Version).where(Version.number == 2).values(gradients_digest=gradients))
            store.delete(store.put(b"first"))
        if len(looks) == 2:
            with transaction() as session:
                session.execute(update(Version).values(gradients_digest=None))
            store.delete(gradients)
        return copy(opened, wanted)

    monkeypatch.setattr(backup, "copy_artifacts", purge_first)
    made = back_up(archive)
    assert len(looks) == 2
    assert (made.missing, made.damaged) == ([gradients], [])
    elsewhere()
    restore(archive)
    assert store.get(made_weights(model_id)) == b"second"


@pytest.mark.service
@pytest.mark.both
def test_a_damaged_artifact_is_named_and_the_rest_backed_up(database: str, archive: str, tmp_path: Path) -> None:
    lived()
    (file,) = tmp_path.glob(f"artifacts/{store.path(store.put(b'second'))}")
    file.write_bytes(b"other")
    made = back_up(archive)
    assert made.damaged == [file.name]
    assert set(made.artifacts) == {store.put(b"first")}
    file.unlink()
    assert back_up(archive).damaged == [file.name], "gone, although a version names it"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.service
@pytest.mark.both
def test_a_backup_that_was_changed_is_refused_and_leaves_nothing(
    archive: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    lived()
    made = back_up(archive)
    elsewhere()
    table = tmp_path / f"archive/backups/{made.name}/tables/ticket.gz"
    whole = table.read_bytes()
    for damaged in (whole[: len(whole) // 2], gzip.compress(gzip.decompress(whole).replace(b"case-1", b"case-2"))):
        table.write_bytes(damaged)
        with pytest.raises(Corrupt, match=r"ticket\.gz"):
            restore(archive)
        assert tables_of_ours() == []
    table.write_bytes(whole)
    artifact = next((tmp_path / "archive/artifacts").rglob("*/*/*"))
    store.delete(artifact.name)  # what is here already is not copied again
    flip(artifact)
    with pytest.raises(Corrupt, match=artifact.name):
        restore(archive)
    flip(artifact)
    table.unlink()
    with pytest.raises(NotFound, match=r"ticket\.gz"):
        restore(archive)
    table.write_bytes(whole)
    restore(archive)


def forge(archive: str, made: Manifest, table: str, change: Callable[[bytes], bytes] | None) -> Manifest:
    """Another back-up in which one table was changed, or with None left out, and all digests are right again."""
    parts = []
    for part in made.parts:
        path = Path(archive) / f"backups/{made.name}/tables/{part.table}.gz"
        if part.table != table:
            parts.append(part)
        elif change is not None:
            told = change(gzip.decompress(path.read_bytes()))
            path.write_bytes(data := gzip.compress(told))
            parts.append(replace(part, rows=told.count(b"\n"), sha256=hashlib.sha256(data).hexdigest()))
    forged = replace(made, parts=parts)
    (Path(archive) / f"backups/{made.name}/manifest.json").write_bytes(forged.text())
    return forged


@pytest.mark.service
@pytest.mark.both
def test_a_backup_that_was_forged_with_its_digests_is_refused(archive: str, elsewhere: Elsewhere) -> None:
    _, ticket = lived()
    story.cancel(story.submit(7))
    made = back_up(archive)
    assert made.sha256 == hashlib.sha256(made.text()).hexdigest()
    kept = {path: path.read_bytes() for path in (Path(archive) / "backups").rglob("*") if path.is_file()}
    elsewhere()

    def refused(match: str, table: str, change: Callable[[bytes], bytes] | None) -> None:
        forge(archive, made, table, change)
        with pytest.raises(Corrupt, match=match):
            restore(archive)
        with pytest.raises(Corrupt, match="not the one that you kept"):
            restore(archive, sha256=made.sha256)
        assert tables_of_ours() == []
        for path, data in kept.items():
            path.write_bytes(data)

    (samples,) = [part.table for part in made.parts if part.partition]
    refused(r"tables of schema .*\(tombstone\)", "tombstone", None)
    refused("samples of each dataset", samples, None)
    refused(f"samples of ticket {ticket}", "tombstone", lambda rows: rows.partition(b"\n")[2])
    refused(f"samples of ticket {ticket}", "tombstone", lambda rows: b"")
    changed = [replace(part, columns=part.columns[:-1]) if part.table == "version" else part for part in made.parts]
    with pytest.raises(Corrupt, match="columns differ"):
        restoring.restore(open_archive(archive), replace(made, parts=changed))
    assert restore(archive, sha256=f"sha256:{made.sha256.upper()}") == made


def tables_of_ours() -> list[str]:
    with engine().connect() as connection:
        return list(connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))


@pytest.mark.service
@pytest.mark.both
def test_a_log_that_does_not_verify_is_refused(archive: str, elsewhere: Elsewhere) -> None:
    lived()
    with transaction() as session:
        session.execute(text("ALTER TABLE audit_event DISABLE TRIGGER ALL"))
        session.execute(text("UPDATE audit_event SET body = body || ' ' WHERE seq = 3"))
    back_up(archive)
    elsewhere()
    with pytest.raises(Corrupt, match="event 3"):
        restore(archive)
    assert tables_of_ours() == []


@pytest.mark.service
@pytest.mark.both
def test_a_newer_schema_and_a_filled_database_are_refused(archive: str, elsewhere: Elsewhere, tmp_path: Path) -> None:
    lived()
    made = back_up(archive)
    with pytest.raises(Conflict, match="not empty"):
        restore(archive)
    elsewhere()
    manifest = tmp_path / f"archive/backups/{made.name}/manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"schema": "{made.schema}"', '"schema": "9999"'))
    with pytest.raises(Unprocessable, match="9999"):
        restore(archive)
    with engine().begin() as connection:
        connection.execute(text("CREATE TABLE somebody_elses (id int)"))
    with pytest.raises(Conflict, match="not empty"):
        restoring.restore(open_archive(archive), made)
    with pytest.raises(NotFound):
        restore(str(tmp_path / "nowhere"))


@pytest.mark.service
@pytest.mark.both
def test_an_older_schema_is_restored_and_migrated(archive: str, elsewhere: Elsewhere) -> None:
    """Into a database that is migrated and empty: what a fresh installation has."""
    _, ticket = lived()
    command.downgrade(alembic_config(), "0003")
    made = back_up(archive)
    assert made.schema == "0003"
    elsewhere()
    command.upgrade(alembic_config(), "head")
    restore(archive)
    check_schema()
    command.check(alembic_config())
    assert story.ticket(ticket).state is TicketState.FULFILLED
    assert verification().fault is None
    with transaction() as session:
        assert lockdown.unresolved(session) is not None


@pytest.mark.service
@pytest.mark.both
def test_nothing_is_claimed_or_published_before_the_tickets_are_known(archive: str, elsewhere: Elsewhere) -> None:
    model_id, _ = lived()
    story.submit(3)
    story.close(model_id)
    running = story.claimed(model_id)
    verdict = story.record(running, b"late")
    back_up(archive)
    elsewhere()
    restore(archive)
    batch = story.batch(running.batch_id)
    assert (batch.state, batch.attempt, batch.lease_epoch) == (BatchState.READY, 0, running.epoch + 1)
    with transaction() as session:
        assert session.get_one(Run, (running.batch_id, running.epoch)).outcome == "given back"
        assert references.claim(session, "w") is None
    assert story.claim(model_id) is None
    assert sweep.due() == []
    offered = story.candidate(running, b"late", verdict)
    with pytest.raises(lockdown.Locked), transaction() as session:
        runs.publish(session, running, offered)
    accepted = story.submit(4)
    assert story.ticket(accepted).state is TicketState.PENDING
    with pytest.raises(RuntimeError, match="expunge replay"):
        command.downgrade(alembic_config(), "0007")
    declare()
    with pytest.raises(runs.StaleEpoch), transaction() as session:
        runs.publish(session, running, offered)  # a worker of the lost installation, still alive
    story.work(model_id)
    assert story.ticket(accepted).state is TicketState.FULFILLED
    assert "ada declared that nothing newer came: the intake was closed" in verification().restored[0]
    with pytest.raises(Conflict, match="not restored"):
        declare()


def test_tickets_after_the_backup_come_back_from_the_journal(archive: str, log: str, elsewhere: Elsewhere) -> None:
    model_id, known = lived()
    waiting = story.submit(8)
    back_up(archive)
    export(log)
    with transaction() as session:
        asked = story.submission(3, 4, external_id="case-2", reason=Reason.UNLAWFUL_TRAINING)
        newer = tickets.submit(session, "tool", asked, "key-2", b"body").ticket_id
    published(model_id, b"third")
    sharing = story.submit(4, 5, subjects=["p-10"], client="other")
    story.cancel(regretted := story.submit(6))
    resent = story.submit(7, external_id="case-3")
    export(log)
    elsewhere()
    restore(archive)
    again = story.submit(7, external_id="case-3")  # its client had no answer, and asks again before the replay
    done = replayed(log)
    assert (done.tickets, done.known, done.reopened, done.waiting) == (3, 0, 1, {})
    found = {ticket.id: ticket for ticket in story.all_of(Ticket)}
    assert {known, waiting, newer, sharing, resent, again} == set(found)
    assert regretted not in found
    assert found[newer].state is TicketState.PENDING, "the version that fulfilled it is lost"
    assert (found[newer].client, found[newer].reason, found[newer].external_id) == (
        "tool",
        Reason.UNLAWFUL_TRAINING,
        "case-2",
    )
    assert (found[resent].external_id, found[again].external_id) == (None, "case-3")
    assert dead() == [1, 2, 3, 4, 5, 7, 8, 20, 21]
    with transaction() as session:
        kept = tickets.submit(session, "tool", asked, "key-2", b"body")
    assert (kept.replayed, kept.ticket_id) == (True, newer)
    assert verification().fault is None
    (said,) = verification().restored
    assert "ada replayed it" in said
    story.retrain(model_id)
    (version,) = [made for made in story.work(model_id) if made.kind is VersionKind.RETRAINED][-1:]
    assert version.excluded_count == 9
    assert all(ticket.state is TicketState.FULFILLED for ticket in story.all_of(Ticket))


@pytest.mark.service
@pytest.mark.both
def test_a_ticket_taken_back_after_the_backup_is_taken_back_again(archive: str, log: str, elsewhere: Elsewhere) -> None:
    story.dataset()
    model_id = story.register(policy=story.PATIENT)
    published(model_id, b"first")
    regretted = story.submit(3)
    taken = story.submit(4)
    back_up(archive)
    story.cancel(regretted)
    export(log)
    elsewhere()
    restore(archive)
    assert replayed(log).cancelled == 1
    assert story.ticket(regretted).state is TicketState.CANCELLED
    assert story.obligation(taken, model_id).state is ObligationState.PENDING
    assert dead() == [4]


@pytest.mark.service
@pytest.mark.both
def test_what_was_forbidden_or_tightened_stays_so(archive: str, log: str, elsewhere: Elsewhere) -> None:
    model_id, _ = lived()
    secret = story.key("leaver")
    back_up(archive)
    with transaction() as session:
        keys.revoke(session, secret.split("_")[1], "admin")
    story.replace(model_id, story.EAGER | {"thresholds": {"ue": 0.01}})
    story.stop(model_id, "estimates miss the truth")
    story.dataset("later")
    export(log)
    elsewhere()
    restore(archive)
    done = replayed(log)
    assert done.again == 3
    assert done.newer.by_hand == {"dataset.loaded": 1}
    assert story.model(model_id).stopped == "estimates miss the truth"
    newest = max(story.all_of(Policy), key=lambda policy: policy.number)
    assert (newest.number, newest.body["thresholds"]["ue"]) == (2, 0.01)
    with transaction() as session:
        revoked = text("SELECT count(*) FROM api_key WHERE client = 'leaver' AND revoked_at IS NOT NULL")
        assert session.scalar(revoked) == 1


def asked_for(number: int) -> None:
    with transaction() as session:
        versions.hand_out(session, versions.resolve(session, f"m-v{number}"), "reader")


def test_weights_withdrawn_after_the_backup_are_given_to_nobody(archive: str, log: str, elsewhere: Elsewhere) -> None:
    model_id, _ = lived()
    story.replace(model_id, story.EAGER | {"lone": {"rule": "withdraw", "min_batch": 3}})
    made = back_up(archive)
    asked_for(2)
    story.submit(3)
    published(model_id, b"third")
    with transaction() as session:
        session.execute(
            update(Version).where(Version.number == 2).values(superseded_at=func.now() - timedelta(days=999))
        )
        versions.expire_weights(session)
    story.stop(model_id)
    with transaction() as session:
        runs.resume_publishing(session, session.get_one(Model, model_id), "it was the test", "admin")
    lost = {version.number: version for version in story.all_of(Version)}
    assert None not in (lost[1].weights_withdrawn_at, lost[2].weights_withdrawn_at, lost[2].weights_purged_at)
    export(log)
    elsewhere()
    restore(archive)
    for number in (1, 2):
        with pytest.raises(Conflict, match="expunge replay"):
            asked_for(number)
    assert replayed(log).again == 5, "handed out, withdrawn twice, stopped, resumed; the purge finds it withdrawn"
    for number in (1, 2):
        with pytest.raises(Gone, match="withdrawn"):
            asked_for(number)
    found = {version.number: version for version in story.all_of(Version)}
    assert found[2].weights_fetched_at is not None
    assert found[2].weights_purged_at is None, "the model goes on from it"
    published(model_id, b"fourth")
    assert made_weights(model_id) == store.put(b"fourth")
    export(log)
    elsewhere()
    restore(archive, made.name)
    replayed(log)  # what the first replay wrote is replayed as well
    assert verification().fault is None


def webhooks() -> dict[UUID, WebhookEndpoint]:
    return {row.id: row for row in story.all_of(WebhookEndpoint)}


def test_outliers_deleted_after_the_backup_are_named_to_nobody(archive: str, log: str, elsewhere: Elsewhere) -> None:
    lived()
    test_exposure.look(test_exposure.found((7, 12.0), (3, 9.0)))
    back_up(archive)
    story.submit(7)
    export(log)
    elsewhere()
    restore(archive)
    with pytest.raises(Conflict, match="no sample is named"), transaction() as session:
        exposure.view(session, "m")
    replayed(log)
    with transaction() as session:
        seen = exposure.view(session, "m")
    assert seen.look is not None
    assert [each.sample_id for each in seen.look.outliers] == ["s-0003"]


@pytest.mark.usefixtures("configured")
def test_webhooks_call_nobody_before_somebody_has_looked_at_them(archive: str, log: str, elsewhere: Elsewhere) -> None:
    lived()
    kept, moved, removed, disabled = (scene.endpoint(url=f"https://hooks.example/{n}") for n in range(4))
    back_up(archive)
    who = Principal("tool", frozenset({Scope.WEBHOOKS_WRITE}))
    with transaction() as session:
        endpoints.rotate(session, session.get_one(WebhookEndpoint, moved), timedelta(0), "tool")
        endpoints.change(session, session.get_one(WebhookEndpoint, moved), {"url": "https://new.example/"}, who)
        endpoints.remove(session, session.get_one(WebhookEndpoint, removed), "tool")
        endpoints.disable(session, session.get_one(WebhookEndpoint, disabled), "the receiver answered 410 Gone")
    scene.endpoint(url="https://hooks.example/later")
    story.submit(3)
    export(log)
    elsewhere()
    restore(archive)
    assert {row.disabled_why for row in webhooks().values()} == {"restored from a back-up"}
    relay.fan_out()
    assert deliveries.claim() is None
    done = replayed(log)
    assert done.again == 2
    assert done.newer.by_hand == {"webhook.changed": 1, "webhook.created": 1, "webhook.rotated": 1, "key.created": 1}
    found = webhooks()
    assert found.keys() == {kept, moved, disabled}
    assert found[disabled].disabled_why == "the receiver answered 410 Gone"
    assert deliveries.claim() is None
    with transaction() as session:
        endpoints.change(session, session.get_one(WebhookEndpoint, kept), {"enabled": True}, who)
    relay.fan_out()
    held = deliveries.claim()
    assert held is not None
    assert held.endpoint_id == kept
    assert verification().fault is None


def appended() -> set[str]:
    """Every kind of event that the code appends: the words that its calls hand to the functions that append one."""
    found = set()
    calls = [
        node
        for folder in ("app", "workers")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    for call in calls:
        name = getattr(call.func, "attr", getattr(call.func, "id", None))
        handed = [node.value for arg in call.args for node in ast.walk(arg) if isinstance(node, ast.Constant)]
        words = {value for value in handed if isinstance(value, str)}
        if name in ("append", "append_each", "event", "tell") and len(call.args) > 1:  # a list's append takes one
            found |= {word for word in words if re.fullmatch(r"[a-z]+\.[a-z_]+", word)}
        elif name in ("tell_records", "give_up"):
            found |= {f"records.{word}" for word in words if re.fullmatch("[a-z]+", word)}
    return found


def test_every_kind_of_event_is_replayed_or_listed_or_passed_over_for_a_reason() -> None:
    found = appended()
    assert len(found) > 50
    sorted_out = [again.TICKETS, again.DONE, again.BY_HAND, again.IGNORED.keys()]
    assert sum(map(len, sorted_out)) == len(set[str]().union(*sorted_out)), "each stands in one place"
    assert found - set[str]().union(*sorted_out) == set()
    assert set[str]().union(*sorted_out) - found == set()
    newer = replay.Newer()
    replay.note(newer, {"kind": "written.by_a_later_release", "actor": "ada"})
    assert newer.by_hand == {"written.by_a_later_release": 1}


@pytest.mark.service
@pytest.mark.both
def test_a_dataset_loaded_after_the_backup_keeps_the_lock_until_it_is_back(
    archive: str, log: str, elsewhere: Elsewhere
) -> None:
    lived()
    back_up(archive)
    story.dataset("later", samples=12)
    with transaction() as session:
        lost = tickets.submit(session, "tool", story.submission(3, dataset="later")).ticket_id
    other = story.submit(9)
    export(log)
    elsewhere()
    restore(archive)
    assert replayed(log).waiting == {"later": 1}
    assert other in {ticket.id for ticket in story.all_of(Ticket)}
    with transaction() as session:
        assert lockdown.unresolved(session) is not None
    story.dataset("later", samples=13)
    assert replayed(log).waiting == {"later": 1}, "of the same name, but not the same samples"
    with engine().begin() as connection:
        connection.execute(text("UPDATE dataset SET name = 'wrong' WHERE name = 'later'"))
    story.dataset("later", samples=12)
    done = replayed(log)
    assert (done.tickets, done.known, done.waiting) == (1, 1, {})
    assert lost in {ticket.id for ticket in story.all_of(Ticket)}
    assert dead("later") == [3]


def test_the_journal_holds_no_id_of_a_sample_or_a_subject(database: str, log: str, tmp_path: Path) -> None:
    lived()
    story.submit(3, subjects=["p-7"])
    export(log)
    (file,) = (tmp_path / "journal/journal").iterdir()
    held = gzip.decompress(file.read_bytes()).decode()
    assert '"ordinals":[3,14,15]' in held
    for ordinal in (1, 2, 3, 14, 15):
        assert story.sample(ordinal) not in held
    assert "p-7" not in held


@pytest.mark.service
@pytest.mark.both
def test_an_export_goes_on_where_the_last_one_ended(database: str, log: str) -> None:
    lived()
    first = export(log)
    assert first is not None
    assert export(log) is None, "nothing came but the export itself"
    story.submit(5)
    second = export(log)
    assert second is not None
    assert (second.number, second.begins, second.previous) == (2, first.ends, first.sha256)
    events = [body for what, body in journal.walk(open_archive(log)) if what == "event"]
    assert [event["seq"] for event in events] == list(range(1, second.ends.seq + 1))
    told = [json.loads(event["body"]) for event in events if "audit.exported" in event["body"]]
    assert [event["data"]["sha256"] for event in told] == [first.sha256]
    assert verification().fault is None


def rewrite(path: Path, old: str, new: str) -> None:
    held = gzip.decompress(path.read_bytes()).decode()
    assert old in held
    path.write_bytes(gzip.compress(held.replace(old, new, 1).encode()))


@pytest.mark.service
@pytest.mark.both
def test_a_journal_that_was_changed_is_refused_whole(
    archive: str, log: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    lived()
    back_up(archive)
    for ordinal in (5, 6, 7):
        newest = story.submit(ordinal)
        segment = export(log)
    assert segment is not None
    printed = segment.sha256
    elsewhere()
    restore(archive)
    files = sorted((tmp_path / "journal/journal").iterdir())
    kept = [file.read_bytes() for file in files]

    def refused(match: str, sha256: str | None = None) -> None:
        with pytest.raises(Corrupt, match=match):
            replayed(log, sha256)
        assert dead() == [1, 2]
        for file, data in zip(files, kept, strict=True):
            file.write_bytes(data)

    rewrite(files[0], '"ordinals":[5]', '"ordinals":[]')
    refused("Segment 1 of the journal is not the one that segment 2 follows")
    rewrite(files[2], "erasure_request", "other")
    refused("was changed")
    files[1].unlink()
    refused("missing between others")
    files[0].write_bytes(kept[0][:200])
    refused("Segment 1")
    rewrite(files[2], '"seq":', '"nope":')
    refused("Segment 3 of the journal is damaged")
    rewrite(files[2], '"event":{"seq"', '"event":{"nope"')
    refused("was changed")
    rewrite(files[2], '"ordinals":[7]', '"ordinals":[]')
    refused(f"samples of ticket {newest}")
    rewrite(files[2], '{"ticket":', '{"nothing":')
    refused(f"samples of ticket {newest}")
    rewrite(files[2], '{"ticket":{"id":"' + str(newest), '{"ticket":{"id":"' + str(uuid4()))
    refused("a ticket that its log did not accept")
    rewrite(files[2], '"ordinals":[7]', '"ordinals":[8]')
    refused("not the one that you kept", sha256=printed)
    assert replayed(log, printed).tickets == 3


@pytest.mark.service
@pytest.mark.both
def test_a_journal_of_another_log_or_one_that_ends_before_the_backup_is_no_answer(
    archive: str, log: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    lived()
    export(log)
    story.submit(5)
    back_up(archive)
    elsewhere()
    restore(archive)
    with pytest.raises(Conflict, match="does not reach the back-up"):
        replayed(log)
    with pytest.raises(NotFound):
        replayed(str(tmp_path / "nothing"))
    with transaction() as session:
        assert lockdown.unresolved(session) is not None
    declare()
    segment = export(log)
    assert segment is not None
    assert not segment.branch, "the log had passed through the journal's end"
    elsewhere()
    command.upgrade(alembic_config(), "head")
    story.dataset()
    with pytest.raises(Conflict, match="another log"):
        export(log)


@pytest.mark.service
@pytest.mark.both
def test_a_second_disaster(archive: str, log: str, elsewhere: Elsewhere) -> None:
    """The journal goes on after a restoration in the same place, as a branch; from it either back-up can be replayed."""
    model_id, _ = lived()
    old = back_up(archive)
    story.submit(5)
    export(log)
    elsewhere()
    restore(archive)
    with pytest.raises(Conflict, match="Replay it first"):
        export(log)
    replayed(log)
    branch = export(log)
    assert branch is not None
    assert branch.branch
    assert branch.begins.seq == old.head.seq
    story.submit(6)
    back_up(archive)
    story.submit(7)
    export(log)
    elsewhere()
    restore(archive)
    assert replayed(log).tickets == 1
    assert dead() == [1, 2, 5, 6, 7]
    assert len(verification().restored) == 2
    elsewhere()
    restore(archive, old.name)
    assert replayed(log).tickets == 3
    assert dead() == [1, 2, 5, 6, 7]
    assert verification().fault is None
    story.work(model_id)
    assert all(ticket.state is TicketState.FULFILLED for ticket in story.all_of(Ticket))


@pytest.mark.service
@pytest.mark.both
def test_a_restoration_that_the_log_does_not_tell_of_is_a_fault(archive: str, elsewhere: Elsewhere) -> None:
    lived()
    back_up(archive)
    elsewhere()
    restore(archive)
    with transaction() as session:
        session.execute(update(Restoration).values(hash=bytes(32)))
    assert "whose hash is not the back-up's" in (verification().fault or "")
    with transaction() as session:
        session.execute(text("DELETE FROM restoration"))
    assert "0 restorations stand against 1" in (verification().fault or "")
