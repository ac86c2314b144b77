"""The operator's seat, second half: retrains, and the batches that do the work."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

from expunge.address import part
from expunge.aio.http import Http
from expunge.aio.looking import look
from expunge.aio.paging import each
from expunge.bodies import checked
from expunge.models import BatchDetail, BatchKind, BatchPage, BatchState, BatchView, DecisionRequest, RetrainRequest
from expunge.waiting import batch_ended


class Batches:
    """Trainings, updates and retrains, each with its verdicts."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def retrain(self, model: str, why: str) -> BatchView:
        """Retrain a model without its tombstoned samples. One that waits already is returned instead of a second."""
        with checked():
            asked = RetrainRequest(model=model, why=why)
        return await self.http.post(BatchView, "/retrains", asked)

    async def get(self, batch: UUID | str) -> BatchDetail:
        """One batch with every verdict, the policy that judged it, and its timeline."""
        return await self.http.get(BatchDetail, f"/batches/{part(batch)}")

    async def page(
        self,
        *,
        model: str | None = None,
        kind: BatchKind | str | None = None,
        state: BatchState | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> BatchPage:
        """One page of batches, newest first; `cursor` is the `next` of the page before, under the same filters."""
        filters = {"model": model, "kind": kind, "state": state}
        return await self.http.get(BatchPage, "/batches", **filters, limit=limit, cursor=cursor)

    def each(
        self,
        *,
        model: str | None = None,
        kind: BatchKind | str | None = None,
        state: BatchState | str | None = None,
        most: int | None = None,
    ) -> AsyncIterator[BatchView]:
        """All batches, or `most` of them, newest first, page by page."""
        return each(self.http, BatchPage, "/batches", {"model": model, "kind": kind, "state": state}, most)

    async def retry(self, batch: UUID | str) -> BatchView:
        """Give a quarantined batch its attempts back."""
        return await self.http.post(BatchView, f"/batches/{part(batch)}/retry")

    async def cancel(self, batch: UUID | str, why: str) -> BatchView:
        """Take back a retrain that was ordered, while no worker has it and it holds no ticket, or raise `Conflict`."""
        with checked():
            asked = DecisionRequest(why=why)
        return await self.http.post(BatchView, f"/batches/{part(batch)}/cancel", asked)

    async def wait(
        self,
        batch: UUID | str,
        *,
        timeout: float | None = 3600.0,
        longest: float = 15.0,
        progress: Callable[[BatchDetail], None] | None = None,
    ) -> BatchDetail:
        """The batch once it is published, split or cancelled; as a ticket is waited for."""
        return await look(
            self.http,
            BatchDetail,
            f"/batches/{part(batch)}",
            batch_ended,
            called=f"Batch {batch}",
            timeout=timeout,
            longest=longest,
            progress=progress,
        )
