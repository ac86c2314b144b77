"""Requests, sent until they are answered: as often as is safe and no longer than was agreed."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from pydantic import BaseModel, SecretStr

from expunge.address import address, key
from expunge.answers import lost, parsed, refusal
from expunge.bearer import Bearer
from expunge.bodies import addressable, encoded, sendable
from expunge.release import release
from expunge.retries import READING, Retry, Tries

T = TypeVar("T")
log = logging.getLogger("expunge")
IDEMPOTENT = (*READING, "PUT", "DELETE")
ORDINARY = httpx.Timeout(30, connect=10)
LONG = httpx.Timeout(60, connect=10, read=600)
"""For what the service works on, or verifies, before its first byte leaves."""
MOMENT = 2.0
"""Seconds that the last look at something may take, at which the time is up."""


class Http:
    """One service, one key, one pool of connections."""

    def __init__(
        self,
        url: str | None,
        secret: SecretStr | None,
        http: httpx.AsyncClient | None,
        retry: Retry,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self.base, self.bearer = address(url), Bearer(key(secret))
        self.retry, self.sleep, self.clock = retry, sleep, clock
        self.owned = http is None
        self.long: Any = LONG if self.owned else httpx.USE_CLIENT_DEFAULT  # who brings a client brings its time-outs
        self.http = http or httpx.AsyncClient(timeout=ORDINARY)

    async def send(
        self,
        method: str,
        path: str,
        take: Callable[[httpx.Response], Awaitable[T]],
        *,
        params: dict[str, Any] | None = None,
        content: Callable[[], AsyncIterator[bytes]] | bytes | None = None,
        headers: dict[str, str] | None = None,
        repeatable: bool | None = None,
        timeout: Any = httpx.USE_CLIENT_DEFAULT,
        retry: Retry | None = None,
        until: float | None = None,
    ) -> T:
        """Send a request until `take` has had its whole answer. Raises what the last try met.

        It is sent again after a failure that may pass, where it may be sent twice: an idempotent method, or a POST with an
        Idempotency-Key; `repeatable` says otherwise, for a body that can be read once. Anything else is sent again only
        where no connection was made. Each try has the same headers.

        `retry` stands instead of the client's. `until`, by the client's clock: no try begins later, or waits longer.
        """
        if not path.startswith("/"):  # behind the address, it would be read as more of the host
            raise ValueError("a path begins with /")
        sent = httpx.Headers({"User-Agent": f"expunge-python/{release()}", "X-Request-Id": str(uuid4())})
        sent.update(sendable(headers or {}))
        if repeatable is None:
            repeatable = method.upper() in IDEMPOTENT or "Idempotency-Key" in sent
        changes = method.upper() not in READING
        tries = Tries(retry or self.retry, repeatable=repeatable, changes=changes, until=until)
        while True:
            waits = timeout if until is None else capped(self.http.timeout, until - self.clock())
            with addressable():
                request = self.http.build_request(
                    method,
                    self.base + path,
                    params=present(params),
                    content=content() if callable(content) else content,
                    headers=sent,
                    timeout=waits,
                )
            try:
                response = await self.http.send(request, stream=True, auth=self.bearer, follow_redirects=False)
                try:
                    if response.is_success:
                        return await take(response)
                    await response.aread()
                finally:
                    await response.aclose()
                failure, fate = refusal(response)
            except httpx.RequestError as error:
                failure, fate = lost(error, self.base)
            failure.request_id = failure.request_id or sent["X-Request-Id"]
            failure.idempotency_key = sent.get("Idempotency-Key")
            pause = tries.pause(failure, fate, self.clock())
            if pause is None:
                raise tries.outcome(failure) from None
            log.info("%s %s: %s; try %d in %.1f s", method, path, failure.code, tries.made + 1, pause)
            await self.sleep(pause)

    async def call(
        self, method: str, path: str, *, json: Any = None, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """The answer, read whole."""
        sent = dict(headers or {})
        if json is not None:
            options["content"], sent["Content-Type"] = encoded(json), "application/json"
        return await self.send(method, path, read, headers=sent, **options)

    async def get(self, kind: type[T], path: str, /, **params: Any) -> T:
        return parsed(await self.call("GET", path, params=params), kind)

    async def post(self, kind: type[T], path: str, body: BaseModel | dict[str, Any] | None = None, **options: Any) -> T:
        """What is None in a shape is left to the service; a dictionary is sent as it is."""
        sent = body.model_dump(mode="json", exclude_none=True) if isinstance(body, BaseModel) else body
        return parsed(await self.call("POST", path, json=sent, **options), kind)

    async def close(self) -> None:
        if self.owned:
            await self.http.aclose()


async def read(response: httpx.Response) -> httpx.Response:
    await response.aread()
    return response


def capped(timeout: httpx.Timeout, left: float) -> httpx.Timeout:
    """The same time-outs, none longer than the time that is left. A last look is given a moment all the same."""
    most = max(left, MOMENT)
    return httpx.Timeout(
        **{part: most if each is None else min(each, most) for part, each in timeout.as_dict().items()}
    )


def present(params: dict[str, Any] | None) -> dict[str, Any] | None:
    """Parameters that were given; httpx writes true and false as the service reads them."""
    return {name: value for name, value in params.items() if value is not None} if params else None
