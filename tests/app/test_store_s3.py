"""Artifacts in an S3-compatible bucket, over real HTTP: what a folder promises, a bucket keeps, cut wires included."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from app import store
from app.errors import Corrupt, Gone, Unavailable
from tests.buckets import BUCKET, PREFIX, Bucket, used
from tests.databases import forget_settings

DATA = b"weights" * 1000
LARGE = bytes(range(256)) * (12 * 2**12)  # 12 MiB: more than one part of an upload


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with used(monkeypatch) as made:
        yield made


@pytest.fixture
def impatient(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """For what must fail: it need not be tried again for long."""
    monkeypatch.setenv("EXPUNGE_STORE_SECONDS", "0.5")
    forget_settings()
    return s3


@pytest.mark.parametrize("data", [b"", DATA, LARGE])
def test_bytes_come_back_under_their_digest(s3: Bucket, data: bytes) -> None:
    digest = store.put(data)
    assert s3.names() == [f"{PREFIX}/{store.path(digest)}"]
    assert store.get(digest) == data
    assert b"".join(store.chunks(digest)) == data
    store.verify(digest)


@pytest.mark.parametrize("harm", [b"", DATA[:-1], b"x" + DATA[1:], DATA + b"x"])
def test_truncated_and_altered_objects_are_refused_and_healed(s3: Bucket, harm: bytes) -> None:
    digest = store.put(DATA)
    s3.write(store.path(digest), harm)
    for read in (store.get, store.verify):
        with pytest.raises(Corrupt):
            read(digest)
    store.put(DATA)
    assert store.get(digest) == DATA


def test_what_is_gone(s3: Bucket) -> None:
    digest = store.put(DATA)
    store.delete(digest)
    store.delete(digest)
    for read in (store.get, store.verify):
        with pytest.raises(Gone):
            read(digest)


def test_many_writers_of_one_name_leave_it_whole(s3: Bucket) -> None:
    """No conditional write is needed: each of them writes the same bytes."""
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store.put(LARGE), range(8)))
    (digest,) = digests
    assert store.get(digest) == LARGE
    assert len(s3.names()) == 1


class TestCollect:
    def test_every_page_of_the_listing_is_read(self, s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "4")
        digests = [store.put(bytes([number])) for number in range(15)]
        aged(monkeypatch)
        assert store.collect(lambda: set(digests[:3])) == 12
        assert s3.names() == sorted(f"{PREFIX}/{store.path(digest)}" for digest in digests[:3])

    def test_young_ones_stay(self, s3: Bucket) -> None:
        digest = store.put(DATA)
        assert store.collect(set) == 0
        assert store.get(digest) == DATA

    def test_what_is_written_again_while_others_are_looked_through_stays(self, s3: Bucket) -> None:
        """A run makes the very bytes of an artifact that has just been listed as old."""
        digest = store.put(DATA)
        now = datetime.now(UTC)
        assert store.still_old(store.path(digest), now + timedelta(hours=2))
        assert not store.still_old(store.path(digest), now - timedelta(hours=1))
        store.delete(digest)
        assert not store.still_old(store.path(digest), now + timedelta(hours=2))


def aged(patch: pytest.MonkeyPatch) -> None:
    """Two hours pass: a bucket's times cannot be set."""

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=2)

    patch.setattr(store, "datetime", Later)


@pytest.mark.service
class TestWire:
    def test_a_connection_cut_in_mid_upload_is_tried_again(self, s3: Bucket) -> None:
        s3.wire.up = 3 * 2**20
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(store.put, LARGE)
            while not s3.wire.cuts:
                assert not writing.done()
            s3.wire.up = None
            digest = writing.result()
        assert store.get(digest) == LARGE

    def test_an_upload_that_never_ends_leaves_nothing_behind_and_loses_nothing(self, impatient: Bucket) -> None:
        earlier = store.put(DATA)
        impatient.wire.up = 3 * 2**20
        with pytest.raises(Unavailable):
            store.put(LARGE)
        impatient.wire.up = None
        assert impatient.names() == [f"{PREFIX}/{store.path(earlier)}"]
        assert store.get(earlier) == DATA
        assert store.get(store.put(LARGE)) == LARGE

    @pytest.mark.parametrize("read", [store.get, store.verify])
    def test_a_store_that_does_not_answer_is_not_an_object_that_is_gone(self, impatient: Bucket, read) -> None:
        digest = store.put(DATA)
        impatient.wire.up = 0
        for call in (lambda: read(digest), lambda: store.put(DATA), lambda: store.delete(digest)):
            with pytest.raises(Unavailable):
                call()
        with pytest.raises(Unavailable):
            store.collect(set)
        impatient.wire.up = None
        assert store.get(digest) == DATA

    def test_a_download_that_is_cut_short_is_not_taken_for_the_whole(self, impatient: Bucket) -> None:
        digest = store.put(LARGE)
        impatient.wire.down = 2**20
        with pytest.raises(Unavailable):
            store.get(digest)
        impatient.wire.down = None
        assert store.get(digest) == LARGE


class TestEnvironment:
    def test_a_bucket_that_is_not_there(self, s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is no loss of an artifact: another attempt may find the address mended."""
        monkeypatch.setenv("ARTIFACT_URL", "s3://no-such-bucket/x")
        forget_settings()
        for call in (lambda: store.get("a" * 64), lambda: store.put(DATA), lambda: store.collect(set)):
            with pytest.raises(Unavailable, match="ARTIFACT_URL"):
                call()

    def test_plain_http_is_asked_for_by_name(self, impatient: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ALLOW_HTTP")
        forget_settings()
        with pytest.raises(Unavailable):
            store.put(DATA)

    def test_region_and_key_are_those_of_the_environment(self, s3: Bucket) -> None:
        store.put(DATA)
        sent = s3.heard()
        assert "Credential=tester/" in sent
        assert "/eu-central-1/s3/" in sent
        assert f"PUT /{BUCKET}/{PREFIX}/sha256/" in sent

    def test_a_bucket_named_by_the_host_is_not_named_by_the_path(
        self, impatient: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
        forget_settings()
        with pytest.raises(Unavailable):  # this server knows buckets by path alone
            store.put(DATA)
        assert f"PUT /{PREFIX}/sha256/" in impatient.heard()

    def test_no_secret_is_told(self, impatient: Bucket) -> None:
        impatient.wire.up = 0
        with pytest.raises(Unavailable) as caught:
            store.put(DATA)
        assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.detail}"
