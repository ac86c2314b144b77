"""Loading a manifest: a stream of CSV or Parquet becomes one partition of `sample`, in one transaction, memory flat.

COPY into a table without indexes, then build the indexes, then attach the table as the dataset's partition: the
fewest passes Postgres knows. The text that COPY receives is built a column at a time (pyarrow), and its SHA-256 is the
manifest's digest, so the digest costs no pass of its own.

Canonical form of a row: `ordinal TAB id TAB subject LF`, subject `\\N` when there is none, COPY's text escapes. A
training run builds the same text from the user's Problem and compares digests before it reads anything.
"""

import csv
import hashlib
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import audit
from app.db import cursor
from app.errors import BadManifest, Conflict, NotFound
from app.tables import Dataset

LONGEST_ID = 512
BLOCK_BYTES = 2**20
HEADER_BYTES = 2**16
ROWS_PER_BLOCK = 100_000
COUNTED_UP_TO = 1_000_000
ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))


def load(session: Session, name: str, blocks: Iterable[pa.RecordBatch], actor: str) -> Dataset:
    """Create dataset `name` from blocks of (id, subject) rows; ordinals count from 0 in the order they come.

    Raises `Conflict` when the name is taken, `BadManifest` naming the first bad row. Nothing stays of a failed load:
    the table, its rows and the dataset are one transaction. Of two loads of one name at once the second waits for the
    first to end, and goes on only if that failed.
    """
    unloaded = {"name": name, "sample_count": 0, "subject_count": 0, "manifest_digest": ""}
    made = insert(Dataset).values(unloaded).on_conflict_do_nothing(index_elements=["name"]).returning(Dataset)
    dataset = session.scalar(made)
    if dataset is None:
        raise Conflict(f"Dataset {name!r} exists. A manifest is loaded once: choose another name for changed data.")
    table = f"sample_{dataset.id}"  # a number of our own: safe in SQL text
    session.execute(text(f"CREATE TABLE {table} (LIKE sample INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"))
    rows, digest = copy(session, table, dataset.id, blocks)
    if rows == 0:
        raise BadManifest("The manifest has no rows. Send a header line `id,subject` and one line per sample.")
    build_indexes(session, table, dataset.id)
    session.execute(text(f"ANALYZE {table}"))
    dataset.sample_count = rows
    dataset.manifest_digest = digest
    count = ESTIMATE_SUBJECTS if subjects_estimated(rows) else COUNT_SUBJECTS
    dataset.subject_count = session.scalar(text(count.format(table=table))) or 0
    told = {"subjects": dataset.subject_count, "subjects_estimated": subjects_estimated(rows)}
    audit.append(session, "dataset.loaded", actor, dataset=name, samples=rows, manifest=digest, **told)
    return dataset


def subjects_estimated(samples: int) -> bool:
    """Whether the subjects of a manifest of so many samples are estimated: another full pass over a large one is not
    worth a figure that nothing but the display needs."""
    return samples > COUNTED_UP_TO


# A hash of the subjects: `count(DISTINCT subject)` would sort them, at twice the time.
COUNT_SUBJECTS = "SELECT count(*) FROM (SELECT DISTINCT subject FROM {table} WHERE subject IS NOT NULL) AS found"
# The planner's own figure, from the rows that ANALYZE has just drawn.
ESTIMATE_SUBJECTS = """
    SELECT CASE WHEN n_distinct >= 0 THEN n_distinct
                ELSE -n_distinct * (SELECT reltuples FROM pg_class WHERE oid = '{table}'::regclass) END::bigint
    FROM pg_stats WHERE schemaname = current_schema() AND tablename = '{table}' AND attname = 'subject'
"""


def copy(session: Session, table: str, dataset_id: int, blocks: Iterable[pa.RecordBatch]) -> tuple[int, str]:
    """Stream the blocks into `table`; return the number of rows and the manifest's digest."""
    session.execute(text(f"ALTER TABLE {table} ALTER dataset_id SET DEFAULT {int(dataset_id)}"))
    digest, ordinal = hashlib.sha256(), 0
    with cursor(session) as opened, opened.copy(f"COPY {table} (ordinal, sample_id, subject) FROM STDIN") as stream:
        for block in blocks:
            if block.num_rows == 0:
                continue
            payload = canonical(block, ordinal)
            digest.update(payload)
            stream.write(payload)
            ordinal += block.num_rows
    return ordinal, digest.hexdigest()


def build_indexes(session: Session, table: str, dataset_id: int) -> None:
    """Index and attach; a repeated id shows when the unique index is built."""
    try:
        with session.begin_nested():
            session.execute(text(f"ALTER TABLE {table} ADD UNIQUE (dataset_id, sample_id)"))
    except IntegrityError:
        raise BadManifest(repeated_ids(session, table)) from None
    session.execute(text(f"ALTER TABLE {table} ADD PRIMARY KEY (dataset_id, ordinal)"))
    session.execute(text(f"CREATE INDEX ON {table} (dataset_id, subject)"))
    # The check spares ATTACH its scan of the whole table; once attached, the partition bound says the same.
    session.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT bound CHECK (dataset_id = {int(dataset_id)})"))
    session.execute(text(f"ALTER TABLE sample ATTACH PARTITION {table} FOR VALUES IN ({int(dataset_id)})"))
    session.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT bound"))


def repeated_ids(session: Session, table: str) -> str:
    """Say where the first repeated ids stand, by row, never by id."""
    query = (
        f"SELECT array_agg(ordinal + 1 ORDER BY ordinal) FROM {table} GROUP BY sample_id "  # noqa: S608 - our own number
        "HAVING count(*) > 1 ORDER BY min(ordinal) LIMIT 3"
    )
    places = "; ".join(", ".join(map(str, found[:5])) for (found,) in session.execute(text(query)))
    return f"Ids must be unique. The same id stands in data rows {places}. Remove the repeats and send it again."


def canonical(block: pa.RecordBatch, first: int) -> bytes:
    """The COPY text of one block, its first row having ordinal `first`. Raises `BadManifest` on an id it cannot take."""
    ids = check(block.column(0), first, "id")
    subjects = block.column(1)
    check(subjects, first, "subject")
    ordinals = pc.cast(pa.array(range(first, first + len(ids)), pa.int64()), pa.large_string())
    lines = pc.binary_join_element_wise(
        ordinals, escape(ids), pc.fill_null(escape(subjects), "\\N"), pa.scalar("\t", pa.large_string())
    )
    lines = pc.binary_join_element_wise(lines, pa.scalar("", pa.large_string()), pa.scalar("\n", pa.large_string()))
    return text_of(lines)


def text_of(lines: pa.LargeStringArray) -> bytes:
    """The strings one after another: a string array's data buffer is just that."""
    offsets, data = lines.buffers()[1:]
    bounds = memoryview(offsets).cast("q")
    return bytes(memoryview(data)[bounds[lines.offset] : bounds[lines.offset + len(lines)]])


def escape(column: pa.LargeStringArray) -> pa.LargeStringArray:
    """COPY's text escapes, applied only where a block needs them."""
    for plain, escaped in ESCAPES:
        if pc.any(pc.match_substring(column, plain)).as_py():
            column = pc.replace_substring(column, plain, escaped)
    return column


def check(column: pa.LargeStringArray, first: int, what: str) -> pa.LargeStringArray:
    """Refuse what Postgres or a reader could not keep: a missing, empty or overlong id, or one with a NUL.

    A sample need not have a subject; it must have an id.
    """
    for test, fault in (
        (pc.is_null(column) if what == "id" else pa.nulls(len(column), pa.bool_()), "is missing"),
        (pc.equal(column, ""), "is empty"),
        (pc.greater(pc.binary_length(column), LONGEST_ID), f"is longer than {LONGEST_ID} bytes"),
        (pc.match_substring(column, "\0"), "holds a NUL character"),
    ):
        bad = pc.index(pc.fill_null(test, fill_value=False), value=True).as_py()
        if bad >= 0:
            raise BadManifest(f"Data row {first + bad + 1}: its {what} {fault}. Nothing was loaded.")
    return column


def blocks_from_csv(source: IO[bytes]) -> Generator[pa.RecordBatch]:
    """Blocks of a CSV stream with a header that names `id` and, optionally, `subject`. Other columns are not read."""
    names = header(source)
    types = {"id": pa.large_string(), "subject": pa.large_string()}
    reading = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False, column_names=names)
    # An empty subject is no subject, quoted or not; an empty id is a missing one, which the check names by its row.
    converting = pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=["id", "subject"], include_missing_columns=True, strings_can_be_null=True,
        null_values=[""],
    )  # fmt: skip
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    try:
        with pyarrow.csv.open_csv(
            source, read_options=reading, convert_options=converting, parse_options=parsing
        ) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise BadManifest(csv_fault(str(error))) from None


def header(source: IO[bytes]) -> list[str]:
    """Read the header line; its column names. The CSV reader would take a column that is not there for an empty one."""
    try:
        names = next(csv.reader([source.readline(HEADER_BYTES).decode("utf-8-sig").rstrip("\r\n")]), [])
    except UnicodeDecodeError:
        raise BadManifest(NOT_UTF8) from None
    except csv.Error:
        names = []
    names = [name.strip() for name in names]
    if names.count("id") != 1 or names.count("subject") > 1:
        raise BadManifest("The manifest needs a header line with one column `id` and, where known, one `subject`.")
    return names


NOT_UTF8 = "The manifest is not UTF-8 text. Convert it and send it again. Nothing was loaded."
RAGGED = re.compile(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)")


def csv_fault(message: str) -> str:
    """What the CSV reader says, without the data it quotes."""
    if "Empty CSV" in message:
        return "The manifest has no rows. Send a header line `id,subject` and one line per sample."
    if "UTF8" in message:
        return NOT_UTF8
    ragged = RAGGED.search(message)
    if ragged:
        row, expected, got = ragged.groups()
        return f"Data row {row or '?'} has {got} columns where the header has {expected}. Nothing was loaded."
    return "The CSV does not parse: every line needs the header's columns, and every quote its end. Nothing was loaded."


def blocks_from_parquet(source: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """Blocks of a Parquet file with a column `id` and, optionally, `subject`."""
    try:
        file = pyarrow.parquet.ParquetFile(source)
    except pa.ArrowInvalid:
        raise BadManifest("The file is not Parquet.") from None
    if "id" not in file.schema_arrow.names:
        raise BadManifest("The Parquet file needs a column `id` and, where known, `subject`.")
    columns = [name for name in ("id", "subject") if name in file.schema_arrow.names]
    try:
        for batch in file.iter_batches(batch_size=ROWS_PER_BLOCK, columns=columns):
            ids = batch.column("id").cast(pa.large_string())
            given = batch.column("subject") if "subject" in columns else pa.nulls(len(ids))
            yield pa.record_batch([ids, given.cast(pa.large_string())], names=["id", "subject"])
    except (pa.ArrowException, OSError):
        raise BadManifest("The Parquet file is damaged, or its ids are no text. Nothing was loaded.") from None


def digest_of(ids: Sequence[str], subjects: Sequence[str | None]) -> str:
    """The manifest digest of samples held in memory: what a Problem would have loaded."""
    digest = hashlib.sha256()
    for first in range(0, len(ids), ROWS_PER_BLOCK):
        part = slice(first, first + ROWS_PER_BLOCK)
        columns = [pa.array(ids[part], pa.large_string()), pa.array(subjects[part], pa.large_string())]
        digest.update(canonical(pa.record_batch(columns, names=["id", "subject"]), first))
    return digest.hexdigest()


def find(session: Session, name: str) -> Dataset:
    """The dataset called `name`, or `NotFound`."""
    dataset = session.scalar(select(Dataset).where(Dataset.name == name))
    if dataset is None:
        raise no_such_dataset()
    return dataset


def no_such_dataset() -> NotFound:
    return NotFound("No dataset of that name. `expunge datasets list` shows those that are loaded.")
