"""Artifacts by digest: damage is noticed, healed by writing again, and nothing lies outside the folder."""

import hashlib
import os
from pathlib import Path

import pytest

from app import store
from app.config import settings
from app.errors import Corrupt, Gone

DATA = b"weights" * 1000


def file_of(digest: str) -> Path:
    return settings().home / "artifacts" / store.path(digest)


def test_bytes_come_back_under_their_digest(database: str) -> None:
    digest = store.put(DATA)
    assert digest == hashlib.sha256(DATA).hexdigest()
    assert store.get(digest) == DATA
    assert b"".join(store.chunks(digest)) == DATA
    assert store.put(DATA) == digest
    assert file_of(digest).read_bytes() == DATA


def test_no_bytes_at_all(database: str) -> None:
    assert store.get(store.put(b"")) == b""


@pytest.mark.parametrize("harm", [b"", DATA[:-1], b"x" + DATA[1:], DATA + b"x"])
def test_damage_is_noticed_and_healed(database: str, harm: bytes) -> None:
    digest = store.put(DATA)
    file_of(digest).write_bytes(harm)
    for read in (store.get, store.verify):
        with pytest.raises(Corrupt):
            read(digest)
    store.put(DATA)
    assert store.get(digest) == DATA


def test_what_is_gone(database: str) -> None:
    digest = store.put(DATA)
    store.delete(digest)
    store.delete(digest)
    for read in (store.get, store.verify):
        with pytest.raises(Gone):
            read(digest)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "ab", "A" * 64, "g" * 64, "a" * 64 + "\n", "a" * 63 + "/"])
def test_a_name_is_a_digest(name: str) -> None:
    with pytest.raises(AssertionError):
        store.path(name)


def test_the_folder_is_the_owners(database: str) -> None:
    store.put(DATA)
    assert (settings().home / "artifacts").stat().st_mode & 0o777 == 0o700


class TestCollect:
    @staticmethod
    def age(digest: str) -> None:
        os.utime(file_of(digest), (0, 0))

    def test_what_nothing_refers_to_is_deleted_once_it_is_old(self, database: str) -> None:
        kept, doomed, young = store.put(b"kept"), store.put(b"doomed"), store.put(b"young")
        self.age(kept), self.age(doomed)
        assert store.collect(lambda: {kept}) == 1
        assert store.get(kept)
        assert store.get(young)
        with pytest.raises(Gone):
            store.get(doomed)

    def test_writing_again_makes_young(self, database: str) -> None:
        """A run may make the very bytes of an artifact that is about to be collected."""
        digest = store.put(DATA)
        self.age(digest)
        store.put(DATA)
        assert store.collect(set) == 0
        assert store.get(digest) == DATA

    def test_nothing_there(self, database: str) -> None:
        assert store.collect(set) == 0
