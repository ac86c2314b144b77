"""The client: one service, one key, and a room for each seat."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import SecretStr
from typing_extensions import override

from expunge.address import sealed
from expunge.retries import Retry
from expunge.sync.approvals import Approvals
from expunge.sync.audit import Audit
from expunge.sync.banks import Banks
from expunge.sync.batches import Batches
from expunge.sync.datasets import Datasets
from expunge.sync.http import Http
from expunge.sync.keys import Keys
from expunge.sync.models import Models
from expunge.sync.policies import Policies
from expunge.sync.schedules import Schedules
from expunge.sync.system import System
from expunge.sync.tickets import Tickets
from expunge.sync.webhooks import Webhooks


class Client:
    """The service at `url` (or EXPUNGE_API_URL), opened by `key` (or EXPUNGE_API_KEY).

    It keeps connections open: use it in a `with` block, or close it. `http` is a client of httpx of your own, for proxies,
    certificates and time-outs; then closing it is yours too. `sleep` and `clock` are for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | SecretStr | None = None,
        *,
        http: httpx.Client | None = None,
        retry: Retry | None = None,
        sleep: Callable[[float], None] = time.sleep,
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

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any other request, with the same key, retries and errors: `params`, `json` and `headers` as httpx has them."""
        return self.http.call(method, path, **options)

    def close(self) -> None:
        """Give the connections back."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
