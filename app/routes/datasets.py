"""The ML engineer's seat, first half: manifests. A body streams straight into Postgres, whatever its size."""

import io
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import select
from starlette.requests import ClientDisconnect
from typing_extensions import override

from app import manifests, views
from app.auth import Admin, MayFollow
from app.config import settings
from app.db import patient, transaction
from app.errors import BadManifest, Conflict, TooLarge, TooSlow, Unprocessable, may_answer
from app.schemas import DatasetView
from app.tables import Dataset

router = APIRouter(prefix="/datasets", tags=["datasets"])
DatasetName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Body(io.RawIOBase):
    """A request's body as a blocking file: reads one chunk ahead, keeps no more.

    Made on the event loop, read from any other thread: the CSV reader reads ahead from a thread of its own. When the
    load is refused half-way, `end` lets that thread go, which may be waiting for a client that sends nothing more; the
    reader's destructor waits for it, and would block the event loop that it waits for.
    """

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self.stream, self.rest, self.loop = stream, b"", anyio.lowlevel.current_token()
        self.over, self.waiting, self.counted = False, anyio.CancelScope(), 0

    async def next_chunk(self) -> bytes | None:
        if self.over:
            return None
        chunk: bytes | None = None
        with anyio.CancelScope(deadline=anyio.current_time() + settings().body_seconds) as self.waiting:
            try:
                chunk = await anext(self.stream, None)
            except ClientDisconnect:
                raise BadManifest("The upload broke off. Nothing was loaded: send it again.") from None
        if self.waiting.cancelled_caught and not self.over:
            raise TooSlow("The upload stood still for too long. Nothing was loaded: send it again.")
        self.counted += len(chunk or b"")
        if self.counted > settings().max_manifest_bytes:
            raise TooLarge(f"A manifest over HTTP may have {settings().max_manifest_bytes} bytes. Split the dataset.")
        return chunk

    def stop(self) -> None:
        self.over = True
        self.waiting.cancel()

    def end(self) -> None:
        """Give whoever still reads the end of the file. To be called from a worker thread."""
        anyio.from_thread.run_sync(self.stop, token=self.loop)

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        while not self.rest:
            chunk = None if self.over else anyio.from_thread.run(self.next_chunk, token=self.loop)
            if chunk is None:
                return 0
            self.rest = chunk
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


@router.put("/{name}", status_code=201, responses=may_answer(Conflict, TooLarge, TooSlow))
async def load(name: DatasetName, request: Request, response: Response, who: Admin) -> DatasetView:
    """Load a manifest: `text/csv` with a header `id,subject`. One dataset is loaded once."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "text/csv":
        raise Unprocessable("Send the manifest as Content-Type: text/csv, with a header line `id,subject`.")
    response.headers["Location"] = f"/datasets/{name}"
    body = Body(request.stream().__aiter__())
    return await anyio.to_thread.run_sync(load_from, name, body, who.client)


def load_from(name: str, body: Body, client: str) -> DatasetView:
    blocks = manifests.blocks_from_csv(io.BufferedReader(body, manifests.BLOCK_BYTES))
    try:
        with transaction() as session:
            patient(session, settings().manifest_seconds)
            return views.dataset(manifests.load(session, name, blocks, client))
    finally:
        body.end()
        blocks.close()


@router.get("")
def page(who: MayFollow) -> list[DatasetView]:
    """All datasets, by name."""
    with transaction() as session:
        return [views.dataset(row) for row in session.scalars(select(Dataset).order_by(Dataset.name))]


@router.get("/{name}")
def show(name: DatasetName, who: MayFollow) -> DatasetView:
    with transaction() as session:
        return views.dataset(manifests.find(session, name))
