"""Manifests: what a CSV or Parquet stream becomes, what is refused and in which words, and that a failure leaves nothing."""

import csv
import hashlib
import io
import json
import threading
from itertools import count
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from typing_extensions import override

from app import manifests, views
from app.cli import datasets
from app.db import transaction
from app.errors import BadManifest, Conflict, NotFound
from app.routes.datasets import Body, load_from
from app.tables import AuditEvent, Dataset
from expunge.models import DatasetView
from tests.app import story
from tests.app.test_tickets import wait_until_blocked

Row = tuple[str, str | None]
SECRET = "secret-4711"


class Dribble(io.RawIOBase):
    """A file that gives a few bytes at a time, as a network does."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        count = min(self.size, len(buffer), len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count


def load(data: bytes, name: str = "d", size: int = 1000) -> Dataset:
    with transaction() as session:
        source = io.BufferedReader(Dribble(data, size), 64)
        return manifests.load(session, name, manifests.blocks_from_csv(source), "engineer")


def stored(dataset: Dataset) -> list[Row]:
    query = text("SELECT sample_id, subject FROM sample WHERE dataset_id = :id ORDER BY ordinal")
    with transaction() as session:
        return [(row.sample_id, row.subject) for row in session.execute(query, {"id": dataset.id})]


def as_csv(rows: list[Row]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    writer.writerow(["id", "subject"])
    writer.writerows(rows)
    return sink.getvalue().encode()


def left_behind() -> list[str]:
    """Datasets and partitions in the database."""
    with transaction() as session:
        tables = session.scalars(text(r"SELECT relname FROM pg_class WHERE relname LIKE 'sample\_%' AND relkind = 'r'"))
        return [*tables, *session.scalars(text("SELECT name FROM dataset"))]


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_a_stream_in_chunks_of_any_size(database: str, size: int) -> None:
    rows: list[Row] = [(f"img-{i:04d}", f"user-{i % 7}") for i in range(300)]
    dataset = load(as_csv(rows), size=size)
    assert stored(dataset) == rows
    assert (dataset.sample_count, dataset.subject_count) == (300, 7)
    assert dataset.manifest_digest == manifests.digest_of(*map(list, zip(*rows, strict=True)))


ODD: list[Row] = [
    ("tab\there", "back\\slash"),
    ("new\nline", "carriage\rreturn"),
    ("\\N", "\\."),
    ("comma,quote\"'", None),
    ("\\t", "\\\\"),
    (" spaces ", "é 😀 \u202e"),
    ("e\u0301", "\x7f\x01"),
    ("NULL", "null"),
]


def test_odd_characters_survive(database: str) -> None:
    dataset = load(as_csv(ODD))
    assert stored(dataset) == ODD
    assert dataset.manifest_digest == manifests.digest_of([i for i, _ in ODD], [s for _, s in ODD])


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"id,subject\r\na,x\r\nb,y\r\n", [("a", "x"), ("b", "y")]),
        (b"\xef\xbb\xbfid,subject\na,x\n", [("a", "x")]),
        (b"id,subject\na,x", [("a", "x")]),
        (b'"id","subject"\n"a",""\n"b",\n', [("a", None), ("b", None)]),
        (b"id\na\nb\n", [("a", None), ("b", None)]),
        (b"label,subject,id,path\n3,x,a,/tmp/1\n4,,b,/tmp/2\n", [("a", "x"), ("b", None)]),
        (b"id, subject\na,x\n", [("a", "x")]),
        (b'id,subject\n"a\nb",x\n', [("a\nb", "x")]),
        (b"id,subject\n007,1.50\n1e3,true\n", [("007", "1.50"), ("1e3", "true")]),
        (b"id,subject\na,x\n\nb,y\n", [("a", "x"), ("b", "y")]),
    ],
    ids=["CRLF", "BOM", "no end of line", "quoted", "no subjects", "more columns", "space", "newline", "numbers", "blank"],
)  # fmt: skip
def test_dialects(database: str, data: bytes, rows: list[Row]) -> None:
    assert stored(load(data)) == rows


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "header line"),
        (b"\n", "header line"),
        (b"id,subject\n", "no rows"),
        (b"id,subject", "no rows"),
        (b"name,subject\n%s,x\n", "one column `id`"),
        (b"%s,x\nb,y\n", "one column `id`"),
        (b"id,id\n%s,x\n", "one column `id`"),
        (b"ID,subject\n%s,x\n", "one column `id`"),
        (b"id,subject\na,x\nb,%s,z\n", "Data row 2 has 3 columns where the header has 2"),
        (b"id,subject\na,x\n%s\n", "Data row 2 has 1 columns where the header has 2"),
        (b"id,subject\na,x\n,%s\n", "Data row 2: its id is missing"),
        (b'id,subject\na,x\n"",%s\n', "Data row 2: its id is missing"),
        (b"id,subject\na,\nb,\n%s\0,x\n", "Data row 3: its id holds a NUL"),
        (b"id,subject\na,\nb,\nc,%s\0\n", "Data row 3: its subject holds a NUL"),
        (b"id,subject\n%s" + b"x" * 502 + b",x\n", "Data row 1: its id is longer than 512 bytes"),
        (b"id,subject\na,\nb,%s" + "é".encode() * 251 + b"\n", "Data row 2: its subject is longer than 512 bytes"),
        (b"id,subject\n\xff%s,x\n", "not UTF-8"),
        (b"\xffid,subject\n%s,x\n", "not UTF-8"),
        (b"id,subject\n%s,x\nb,y\nc,z\n%s,x\nb,w\nc,y\n", "data rows 1, 4; 2, 5; 3, 6"),
        (b"PK\x03\x04%s", "header line"),
    ],
)
def test_what_is_refused_names_the_row_and_never_the_id(database: str, data: bytes, words: str) -> None:
    with pytest.raises(BadManifest) as refused:
        load(data.replace(b"%s", SECRET.encode()))
    assert words in refused.value.detail
    assert SECRET not in refused.value.detail
    assert left_behind() == []


def test_an_id_of_512_bytes_is_kept(database: str) -> None:
    rows: list[Row] = [("é" * 256, "y" * 512)]
    assert stored(load(as_csv(rows))) == rows


def test_a_row_that_is_refused_in_a_late_block_is_numbered_from_the_first(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "BLOCK_BYTES", 64)
    lines = "".join(f"id-{i:04d},x\n" for i in range(100))
    with pytest.raises(BadManifest, match="Data row 101: its subject holds a NUL"):
        load(f"id,subject\n{lines}last,\0\n".encode())
    with pytest.raises(BadManifest, match="Data row 101 has 3 columns"):
        load(f"id,subject\n{lines}last,x,{SECRET}\n".encode())


class BreaksOff(io.RawIOBase):
    """An upload whose client went away."""

    def __init__(self) -> None:
        self.parts = [b"id,subject\n", b"a,x\n" * 1000]

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        if not self.parts:
            raise BadManifest("The upload broke off.")
        part = self.parts.pop(0)[: len(buffer)]
        buffer[: len(part)] = part
        return len(part)


def test_an_upload_that_breaks_off_leaves_nothing(database: str) -> None:
    with pytest.raises(BadManifest, match="broke off"), transaction() as session:
        manifests.load(session, "d", manifests.blocks_from_csv(io.BufferedReader(BreaksOff())), "engineer")
    assert left_behind() == []


@pytest.mark.parametrize("sent", [b"id,subject\n" + b"\0,x\n" * 2**21, b"name\n"])
def test_a_refusal_does_not_wait_for_a_client_that_sends_nothing_more(database: str, sent: bytes) -> None:
    """The CSV reader reads ahead from a thread of its own; neither that nor the event loop may be left hanging."""

    async def scenario() -> None:
        async def upload() -> Any:
            yield sent
            await anyio.sleep_forever()

        body = Body(upload())
        with anyio.fail_after(60), pytest.raises(BadManifest):
            await anyio.to_thread.run_sync(load_from, "d", body, "engineer")

    anyio.run(scenario)
    assert left_behind() == []


def test_a_name_is_loaded_once(database: str) -> None:
    load(b"id\na\n")
    with pytest.raises(Conflict):
        load(b"id\nb\n")


def test_of_two_loads_at_once_one_is_told(database: str) -> None:
    outcome: list[type | None] = []

    def second() -> None:
        try:
            load(b"id\nb\n")
            outcome.append(None)
        except Conflict:
            outcome.append(Conflict)

    with transaction() as session:
        source = io.BytesIO(b"id\na\n")
        first = manifests.load(session, "d", manifests.blocks_from_csv(source), "engineer")
        thread = threading.Thread(target=second)
        thread.start()
        wait_until_blocked()
    thread.join()
    assert outcome == [Conflict]
    assert stored(first) == [("a", None)]


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        ([None] * 50, 0),
        ([f"u{i}" for i in range(50)], 50),
        ([f"u{i}" if i % 2 else None for i in range(50)], 25),
        (["one"] * 50, 1),
        ([f"u{i % 3}" for i in range(49)] + ["single"], 4),
        (["u" * 500 + str(i) for i in range(50)], 50),
        ([f"u{i // 2}" for i in range(20_000)], 10_000),
        ([f"u{i}" if i % 3 else None for i in range(20_000)], 13_333),
    ],
)
def test_subjects_are_counted(database: str, subjects: list[str | None], expected: int) -> None:
    rows: list[Row] = [(f"id-{i}", subject) for i, subject in enumerate(subjects)]
    assert load(as_csv(rows), size=1 << 20).subject_count == expected


def test_subjects_are_counted_where_a_draw_of_rows_would_mislead(database: str) -> None:
    """One subject with half of the samples, and one for each of the others: the planner takes a third too many or few."""
    rows: list[Row] = [(f"id-{i}", f"u{i}" if i % 2 else "everybody") for i in range(90_000)]
    assert load(as_csv(rows), size=1 << 20).subject_count == 45_001
    (event,) = (json.loads(each.body) for each in story.all_of(AuditEvent))
    assert (event["data"]["subjects"], event["data"]["subjects_estimated"]) == (45_001, False)


def test_an_estimated_count_says_that_it_is_one(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "COUNTED_UP_TO", 49)
    for name, samples, estimated in (("small", 49, False), ("large", 50, True)):
        made = views.dataset(load(as_csv([(f"id-{i}", f"u{i % 5}") for i in range(samples)]), name))
        assert (made.subjects, made.subjects_estimated) == (5, estimated)
        assert datasets.subjects(DatasetView.model_validate(made.model_dump())) == ("about 5" if estimated else "5")


def test_find(database: str) -> None:
    made = load(b"id\na\n", "here")
    with transaction() as session:
        assert manifests.find(session, "here").id == made.id
        with pytest.raises(NotFound):
            manifests.find(session, "there")


def test_several_datasets_keep_their_samples_apart(database: str) -> None:
    first, second = load(b"id\na\nb\n", "one"), load(b"id\nb\n", "two")
    assert stored(first) == [("a", None), ("b", None)]
    assert stored(second) == [("b", None)]


# What CSV itself can carry: no NUL, no lone surrogate.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_the_digest_of_a_problem_is_that_of_its_loaded_manifest(draw: Any) -> None:
    """Over blocks as the CSV reader makes them; the digest is taken from the very text that COPY receives."""
    ids = draw.draw(st.lists(words, min_size=1, max_size=8, unique=True))
    subjects = draw.draw(st.lists(st.none() | words, min_size=len(ids), max_size=len(ids)))
    blocks = list(manifests.blocks_from_csv(io.BytesIO(as_csv(list(zip(ids, subjects, strict=True))))))
    assert [i for block in blocks for i in block.column("id").to_pylist()] == ids
    assert [s for block in blocks for s in block.column("subject").to_pylist()] == subjects
    table = b"".join(manifests.canonical(block, 0) for block in blocks)
    assert hashlib.sha256(table).hexdigest() == manifests.digest_of(ids, subjects)


def test_any_text_is_read_back_from_the_database(database: str) -> None:
    number = count()

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(words, st.none() | words), min_size=1, max_size=8, unique_by=lambda row: row[0]))
    def check(rows: list[Row]) -> None:
        dataset = load(as_csv(rows), f"d{next(number)}")
        assert stored(dataset) == rows
        assert dataset.manifest_digest == manifests.digest_of([i for i, _ in rows], [s for _, s in rows])

    check()


@given(st.lists(words, max_size=30, unique=True), st.integers(1, 40))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_digest_does_not_depend_on_the_blocks(ids: list[str], size: int) -> None:
    subjects = [None if len(i) % 2 else i for i in ids]
    whole = manifests.digest_of(ids, subjects)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "ROWS_PER_BLOCK", size)
        assert manifests.digest_of(ids, subjects) == whole


def test_the_digest_tells_order_and_subjects_apart() -> None:
    digests = {
        manifests.digest_of(["a", "b"], ["x", None]),
        manifests.digest_of(["b", "a"], ["x", None]),
        manifests.digest_of(["a", "b"], [None, "x"]),
        manifests.digest_of(["a", "b"], ["x", "\\N"]),
        manifests.digest_of(["a\tx", "b"], [None, None]),
        manifests.digest_of([], []),
    }
    assert len(digests) == 6


@pytest.mark.parametrize("identity", ["", "\0", "x" * 513])
def test_a_problem_with_an_id_that_no_manifest_can_hold(identity: str) -> None:
    with pytest.raises(BadManifest, match="Data row 2"):
        manifests.digest_of(["a", identity], ["x", "y"])


class TestParquet:
    @staticmethod
    def file(**columns: Any) -> io.BytesIO:
        sink = io.BytesIO()
        pa.parquet.write_table(pa.table(columns), sink)
        sink.seek(0)
        return sink

    @staticmethod
    def rows(source: io.BytesIO) -> list[Row]:
        blocks = list(manifests.blocks_from_parquet(source))
        pairs = [zip(b.column("id").to_pylist(), b.column("subject").to_pylist(), strict=True) for b in blocks]
        return [row for pair in pairs for row in pair]

    def test_ids_and_subjects(self) -> None:
        assert self.rows(self.file(id=["a", "b"], subject=["x", None], other=[1, 2])) == [("a", "x"), ("b", None)]
        assert self.rows(self.file(id=[1, 2])) == [("1", None), ("2", None)]
        assert self.rows(self.file(id=pa.array(["a"]).dictionary_encode(), subject=[7])) == [("a", "7")]

    @pytest.mark.parametrize("data", [b"", b"id\na\n", b"PAR1 not really PAR1"])
    def test_what_is_not_parquet(self, data: bytes) -> None:
        with pytest.raises(BadManifest, match="not Parquet"):
            self.rows(io.BytesIO(data))

    def test_no_column_of_ids(self) -> None:
        with pytest.raises(BadManifest, match="column `id`"):
            self.rows(self.file(name=["a"]))

    @pytest.mark.parametrize("ids", [[b"\xff\xfe"], [["nested"]]])
    def test_ids_that_are_no_text(self, ids: list[Any]) -> None:
        with pytest.raises(BadManifest):
            self.rows(self.file(id=ids))

    def test_a_file_cut_short(self) -> None:
        whole = self.file(id=[f"id-{i}" for i in range(10_000)]).getvalue()
        damaged = whole[:100] + bytes(2000) + whole[2100:]
        with pytest.raises(BadManifest):
            self.rows(io.BytesIO(damaged))
