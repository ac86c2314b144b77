"""The log's tree: proofs across tiles, signed heads, their publication, and that a rewritten log does not pass."""

import json
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from app import audit, checkpoints, tree
from app.config import settings
from app.db import transaction
from app.errors import Corrupt, NotConfigured, NotFound, Unprocessable
from app.recovery import journal
from app.recovery.archive import open_archive
from app.tables import AuditEvent, AuditHead, AuditTile, Checkpoint, Restoration, SigningKey
from expunge.evidence import merkle, notes
from expunge.evidence.keys import SigningKeys
from tests.app import story
from tests.app.signing import signing

__all__ = ["signing"]
FILL = """
    INSERT INTO audit_event (seq, kind, body, hash)
    SELECT n, 'test', '{{"n":' || n || '}}', sha256(int8send(n)) FROM generate_series({begin}, {end}) AS n
"""


def fill(count: int) -> None:
    """Events up to number `count`, without a chain: what the tree is made of is their text."""
    with transaction() as session:
        begin = session.scalars(select(AuditHead.seq)).one() + 1
        session.execute(text(FILL.format(begin=begin, end=count)))
        session.execute(update(AuditHead).values(seq=count))


def sign() -> Checkpoint:
    with transaction() as session:
        return checkpoints.sign(session)


def leaves() -> list[bytes]:
    with transaction() as session:
        bodies = session.scalars(select(AuditEvent.body).order_by(AuditEvent.seq))
        return [merkle.leaf_hash(body.encode()) for body in bodies]


def events(kind: str) -> list[dict[str, object]]:
    with transaction() as session:
        found = session.scalars(select(AuditEvent.body).where(AuditEvent.kind == kind).order_by(AuditEvent.seq))
        return [json.loads(body) for body in found]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600, 66_000])
def test_a_head_is_the_root_over_all_events(database: str, signing: SigningKeys, count: int) -> None:
    fill(count)
    made = sign()
    every = leaves()
    assert (made.size, made.root) == (count, merkle.root_of(every[:count]))
    head = notes.read(notes.opened(made.note, made.origin, signing.public.raw, signing.public.verify))
    assert (head.origin, head.size, head.root) == (made.origin, made.size, made.root)
    with transaction() as session:
        kept = Counter(session.scalars(select(AuditTile.height)))
    assert kept == {height: count >> 8 * (height + 1) for height in range(2) if count >> 8 * (height + 1)}


@pytest.mark.parametrize("count", [7, 256, 700, 66_000])
def test_proofs_across_tiles_hold(database: str, signing: SigningKeys, count: int) -> None:
    fill(count)
    made, every = sign(), leaves()
    with transaction() as session:
        for seq in {1, 2, min(255, count), min(257, count), count // 2 + 1, count - 1, count}:
            found = checkpoints.inclusion(session, seq, count)
            assert found.leaf == every[seq - 1]
            assert merkle.included(found.leaf, seq - 1, count, found.path, made.root)
        for first in {1, 2, min(255, count), min(256, count), count // 3 + 1, count - 1, count}:
            path = checkpoints.consistency(session, first, count)
            assert merkle.consistent(first, count, merkle.root_of(every[:first]), made.root, path)


def test_tiles_that_are_kept_are_not_made_again(database: str, signing: SigningKeys) -> None:
    fill(600)
    sign()
    with transaction() as session:
        session.execute(update(AuditTile).values(root=b"kept"))
    fill(1100)
    sign()
    with transaction() as session:
        roots = session.scalars(select(AuditTile.root).order_by(AuditTile.number)).all()
    assert [root == b"kept" for root in roots] == [True, True, False, False]


def test_what_is_not_in_a_checkpoint_has_no_proof(database: str, signing: SigningKeys) -> None:
    fill(10)
    with transaction() as session:
        with pytest.raises(NotFound, match="newest checkpoint is of size 0"):
            checkpoints.inclusion(session, 1, 10)
        checkpoints.sign(session)
        with pytest.raises(Unprocessable, match="Event 11 is not among the first 10"):
            checkpoints.inclusion(session, 11, 10)
        with pytest.raises(Unprocessable, match="smaller size"):
            checkpoints.consistency(session, 11, 10)
        with pytest.raises(NotFound, match="newest checkpoint is of size 10"):
            checkpoints.consistency(session, 1, 11)


def test_one_that_covers_an_event_is_used_before_another_is_signed(database: str, signing: SigningKeys) -> None:
    fill(10)
    first = sign()
    fill(20)
    with transaction() as session:
        assert checkpoints.covering(session, 3).size == first.size
    with transaction() as session:
        assert checkpoints.covering(session, 15).size == 20
    with transaction() as session, pytest.raises(NotFound):
        checkpoints.covering(session, 99)


def test_nothing_is_signed_over_what_might_be_rolled_back(database: str, signing: SigningKeys) -> None:
    with transaction() as session:
        audit.append(session, "test", "ada")
        with pytest.raises(AssertionError, match="before anything is written"):
            checkpoints.sign(session)


def test_a_key_is_remembered_and_told_of_once(
    database: str, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(3)
    first = sign()
    fill(10)
    sign()
    assert len(events("signing.key_used")) == 1
    monkeypatch.setenv("EXPUNGE_SIGNING_SECRET", "another secret that also has thirty-two characters")
    settings.cache_clear()
    with transaction() as session:
        rotated = checkpoints.covering(session, 3)
        keys = session.scalars(select(SigningKey.fingerprint)).all()
    assert rotated.key != first.key
    assert set(keys) == {first.key, rotated.key}


def test_without_a_secret_nothing_is_signed(database: str) -> None:
    with transaction() as session, pytest.raises(NotConfigured, match="EXPUNGE_SIGNING_SECRET"):
        checkpoints.latest(session)
    assert checkpoints.publish() is False


class TestPublishing:
    def test_growth_is_written_apart_and_told(
        self, database: str, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("EXPUNGE_CHECKPOINT_URL", tmp_path.as_uri())
        monkeypatch.setenv("EXPUNGE_LOG_ORIGIN", "example.com/log")
        settings.cache_clear()
        story.dataset()
        assert checkpoints.publish()
        (told,) = events("audit.checkpointed")
        note = told["data"]["note"]
        assert (tmp_path / "example.com_log/checkpoint").read_text() == note
        size = notes.read(notes.opened(note, "example.com/log", signing.public.raw, signing.public.verify)).size
        assert [path.name[:20] for path in (tmp_path / "example.com_log").glob("0*")] == [f"{size:020d}"]

    def test_a_log_that_did_not_grow_is_not_published_again(self, database: str, signing: SigningKeys) -> None:
        story.dataset()
        assert checkpoints.publish()
        checkpoints.publish()  # the key was told of after the head was signed
        assert not checkpoints.publish()
        story.submit(1)
        assert checkpoints.publish()

    def test_the_log_s_own_publications_are_no_news_to_each_other(
        self, database: str, signing: SigningKeys, tmp_path: Path
    ) -> None:
        story.dataset()
        checkpoints.publish()
        archive = open_archive(str(tmp_path))
        assert journal.export(archive) is not None
        checkpoints.publish()  # the key was told of after the first head
        journal.export(archive)
        for _ in range(2):
            assert not checkpoints.publish()
            assert journal.export(archive) is None

    def test_another_head_of_a_size_that_was_published_is_refused(
        self, database: str, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("EXPUNGE_CHECKPOINT_URL", tmp_path.as_uri())
        settings.cache_clear()
        story.dataset()
        made = sign()
        checkpoints.write(tmp_path.as_uri(), made)
        newer = (tmp_path / made.origin.replace("/", "_") / "checkpoint").read_text()
        for changed in (Checkpoint(size=made.size, origin=made.origin, key=made.key, root=made.root, note="another"),):
            with pytest.raises(Corrupt, match="the log was rewritten"):
                checkpoints.write(tmp_path.as_uri(), changed)
        older = Checkpoint(size=made.size - 1, origin=made.origin, key=made.key, root=made.root, note="older")
        checkpoints.write(tmp_path.as_uri(), older)
        assert (tmp_path / made.origin.replace("/", "_") / "checkpoint").read_text() == newer

    def test_an_old_log_grows_its_tree_in_steps_that_stay_done(
        self, database: str, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(66_000)
        with transaction() as session:
            assert not tree.grow(session, 64)
        with transaction() as session:
            assert session.scalar(select(func.count()).select_from(AuditTile)) == 64
        monkeypatch.setattr(checkpoints, "MANY", 64)
        assert checkpoints.publish()
        with transaction() as session:
            assert session.scalar(select(func.count()).select_from(AuditTile)) == 257 + 1

    def test_after_a_crash_between_it_is_published_again(
        self, database: str, signing: SigningKeys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("EXPUNGE_CHECKPOINT_URL", tmp_path.as_uri())
        settings.cache_clear()
        story.dataset()
        made = sign()
        checkpoints.write(tmp_path.as_uri(), made)
        checkpoints.write(tmp_path.as_uri(), made)
        assert len(list(tmp_path.rglob("0*"))) == 1
        assert checkpoints.publish()


def test_a_restored_log_calls_itself_otherwise_each_time(database: str, signing: SigningKeys) -> None:
    fill(5)
    names = [sign().origin]
    for _ in range(2):  # of one back-up, which knows of neither time
        with transaction() as session:
            session.execute(text("DELETE FROM restoration"))
            session.add(
                Restoration(backup="b", taken_at=func.now(), schema="0012", seq=3, hash=b"h", resolved_at=func.now())
            )
        with transaction() as session:
            names.append(checkpoints.covering(session, 5).origin)
    assert len(set(names)) == 3
    assert all(name.startswith(f"{names[0]}/restored-") for name in names[1:])


class TestVerifying:
    def grown(self) -> None:
        story.dataset()
        with transaction() as session:
            for n in range(600):
                audit.append(session, "test", "ada", n=n)
        with transaction() as session:
            checkpoints.sign(session)

    def fault(self) -> str | None:
        with transaction() as session:
            return audit.verify(session).fault

    def test_what_was_signed_holds(self, database: str, signing: SigningKeys) -> None:
        self.grown()
        assert self.fault() is None

    def test_a_head_over_another_log_is_found(self, database: str, signing: SigningKeys) -> None:
        self.grown()
        with transaction() as session:
            made = session.scalars(select(Checkpoint)).one()
            other = notes.Checkpoint(made.origin, made.size, bytes(32))
            made.root, made.note = other.root, notes.sign(other.text, made.origin, signing.public.raw, signing.sign)
        assert "was signed over another log" in str(self.fault())

    def test_a_row_that_its_note_does_not_say_is_found(self, database: str, signing: SigningKeys) -> None:
        self.grown()
        with transaction() as session:
            session.execute(update(Checkpoint).values(root=bytes(32)))
        assert "is not what its note says" in str(self.fault())

    def test_a_log_that_was_cut_short_is_found(self, database: str, signing: SigningKeys) -> None:
        self.grown()
        with transaction() as session:
            session.execute(text("ALTER TABLE audit_event DISABLE TRIGGER ALL"))
            session.execute(text("DELETE FROM audit_event WHERE seq > 300"))
            session.execute(text("ALTER TABLE audit_event ENABLE TRIGGER ALL"))
            session.execute(
                text("UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit_event WHERE seq = 300)")
            )
        assert "the log ends at event 300, and a checkpoint of size" in str(self.fault())
        with transaction() as session:
            session.execute(text("DELETE FROM checkpoint"))
        assert self.fault() == "tile 1 on height 0 is of a log that was longer"
        with transaction() as session, pytest.raises(Corrupt, match="shorter than its tree"):
            checkpoints.sign(session)

    def test_a_missing_tile_is_found(self, database: str, signing: SigningKeys) -> None:
        self.grown()
        with transaction() as session:
            session.execute(text("DELETE FROM audit_tile WHERE number = 0"))
        assert self.fault() == "of the tiles on height 0, 1 are missing"
        with transaction() as session, pytest.raises(Corrupt, match="A tile of the log's tree is missing"):
            checkpoints.sign(session)

    def test_of_two_heads_of_one_size_neither_hides_the_other(self, database: str, signing: SigningKeys) -> None:
        self.grown()
        with transaction() as session:
            found = session.scalars(select(Checkpoint)).one()
            other = notes.Checkpoint("elsewhere", found.size, bytes(32))
            note = notes.sign(other.text, other.origin, signing.public.raw, signing.sign)
            made = Checkpoint(size=found.size, origin="elsewhere", key=found.key, root=other.root, note=note)
            session.add(made)
        assert "was signed over another log" in str(self.fault())

    @pytest.mark.parametrize("change", ["replace(note, 'expunge', 'another')", "replace(note, E'\n', '')", "'nothing'"])
    def test_a_note_that_was_changed_is_found(self, database: str, signing: SigningKeys, change: str) -> None:
        self.grown()
        with transaction() as session:
            session.execute(text(f"UPDATE checkpoint SET note = {change}"))
        assert str(self.fault()).startswith("the checkpoint of size")

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("column", ["root", "hashes"])
    def test_a_changed_tile_is_found(self, database: str, signing: SigningKeys, column: str, number: int) -> None:
        self.grown()
        with transaction() as session:
            changed = {"root": bytes(32), "hashes": bytes(32 * 256)}[column]
            session.execute(update(AuditTile).where(AuditTile.number == number).values({column: changed}))
        assert self.fault() == f"tile {number} on height 0 does not follow from the events"


def test_who_grows_it_at_the_same_time_writes_the_same(database: str, signing: SigningKeys) -> None:
    fill(300)
    with transaction() as first:
        rows = list(tree.made(first, 0, range(1)))
        with transaction() as second:
            tree.grow(second)
        tree.grow(first)
    with transaction() as session:
        kept = session.scalars(select(AuditTile)).one()
    assert (kept.root, kept.hashes) == (rows[0]["root"], rows[0]["hashes"])
    assert kept.root == merkle.root_of(leaves()[:256])
