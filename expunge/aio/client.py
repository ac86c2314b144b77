"""The client: one service, one key, and a room for each seat."""

import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
from pydantic import SecretStr
from typing_extensions import override

from expunge.address import sealed
from expunge.aio.approvals import Approvals
from expunge.aio.audit import Audit
from expunge.aio.banks import Banks
from expunge.aio.batches import Batches
from expunge.aio.datasets import Datasets
from expunge.aio.http import Http
from expunge.aio.keys import Keys
from expunge.aio.models import Models
from expunge.aio.policies import Policies
from expunge.aio.schedules import Schedules
from expunge.aio.system import System
from expunge.aio.tickets import Tickets
from expunge.aio.webhooks import Webhooks
from expunge.retries import Retry


class AsyncClient:
    """The service at `url` (or EXPUNGE_API_URL), opened by `key` (or EXPUNGE_API_KEY).

    It keeps connections open: use it in a `with` block, or close it. `http` is a client of httpx of your own, for proxies,
    certificates and time-outs; then closing it is yours too. `sleep` and `clock` are for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | SecretStr | None = None,
        *,
        http: httpx.AsyncClient | None = None,
        retry: Retry | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        key = sealed(key)  # before anything can fail, and a traceback show it
        self.http = Http(url, key, http, retry or Retry(), sleep, clock)
        self.tickets = Tickets(self.http)
        self.datasets = Datasets(self.http)
        self.models = Models(self.http)
        self.audit = Audit(self.http)
        self.approvals = Approvals(self.http)
        self.banks = Banks(self.http)
        self.policies = Policies(self.http)
        self.batches = Batches(self.http)
        self.schedules = Schedules(self.http)
        self.webhooks = Webhooks(self.http)
        self.keys = Keys(self.http)
        self.system = System(self.http)

    @override
    def __repr__(self) -> str:
        made = getattr(self, "http", None)  # a traceback may show a client whose address was refused
        return f"{type(self).__name__}({made.base!r})" if made else f"{type(self).__name__}(...)"

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any other request, with the same key, retries and errors: `params`, `json` and `headers` as httpx has them."""
        return await self.http.call(method, path, **options)

    async def close(self) -> None:
        """Give the connections back."""
        await self.http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
