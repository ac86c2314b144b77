"""One manifest load in a process of its own, so that its peak memory is its own: prints seconds and bytes."""

import os
import sys
import time
from pathlib import Path

import psycopg

from app import manifests
from app.config import settings
from app.db import transaction
from benchmarks.results import peak_memory


def ours(name: str, path: Path) -> None:
    with transaction() as session, path.open("rb") as source:
        manifests.load(session, name, manifests.blocks_from_csv(source), "bench")


def bare(path: Path) -> None:
    """COPY the file as it is, the ordinal a serial; the same three indexes. No check, no digest, no partition."""
    address = settings().database.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bare (dataset_id bigint DEFAULT 1 NOT NULL, ordinal bigserial, sample_id text NOT NULL, subject text)"
        )
        with (
            path.open("rb") as source,
            cursor.copy("COPY bare (sample_id, subject) FROM STDIN (FORMAT csv, HEADER)") as stream,
        ):
            while chunk := source.read(2**18):
                stream.write(chunk)
        cursor.execute("ALTER TABLE bare ADD UNIQUE (dataset_id, sample_id)")
        cursor.execute("ALTER TABLE bare ADD PRIMARY KEY (dataset_id, ordinal)")
        cursor.execute("CREATE INDEX ON bare (dataset_id, subject)")
        cursor.execute("ANALYZE bare")


if __name__ == "__main__":
    which, file = sys.argv[1], Path(sys.argv[2])
    begun = time.perf_counter()
    bare(file) if which == "bare" else ours(which, file)
    print(time.perf_counter() - begun, peak_memory(os.getpid()))
