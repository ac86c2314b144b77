"""The ML engineer's seat, first half: manifests, streamed whatever their size."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path

import anyio

from expunge.address import part
from expunge.aio.http import Http
from expunge.answers import parsed
from expunge.models import DatasetView

CHUNK = 2**20


class Datasets:
    """Manifests: which samples there are, and whose. The samples themselves stay where they are."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def load(self, name: str, manifest: Path | bytes | AsyncIterable[bytes] | Iterable[bytes]) -> DatasetView:
        """Load a manifest, once: CSV with a header `id,subject`, from a file, from memory or as it is made.

        A file, or bytes, are sent again where the connection breaks off; what can be read once is not.
        """
        given: object = manifest
        if isinstance(given, str):
            raise TypeError(
                "a manifest is a Path to a file, bytes, or what makes bytes; write Path(...) for a file's name"
            )
        again = isinstance(manifest, Path | bytes)
        path, headers = f"/datasets/{part(name)}", {"Content-Type": "text/csv"}
        response = await self.http.call(
            "PUT", path, content=lambda: chunks(manifest), headers=headers, repeatable=again, timeout=self.http.long
        )
        return parsed(response, DatasetView)

    async def get(self, name: str) -> DatasetView:
        return await self.http.get(DatasetView, f"/datasets/{part(name)}")

    async def all(self) -> list[DatasetView]:
        """All datasets, by name."""
        return await self.http.get(list[DatasetView], "/datasets")


async def chunks(manifest: Path | bytes | AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    """A manifest's bytes from its beginning, a block at a time."""
    if isinstance(manifest, bytes):
        yield manifest
    elif isinstance(manifest, Path):
        with manifest.open("rb") as file:
            while chunk := await anyio.to_thread.run_sync(file.read, CHUNK):
                yield chunk
    elif isinstance(manifest, AsyncIterable):
        async for chunk in manifest:
            yield chunk
    else:
        for chunk in manifest:
            yield chunk
