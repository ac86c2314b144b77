"""Both clients, called in one way, so that one test holds the two: the awaited one runs on a loop of its own."""

import inspect
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal
from pydantic import SecretStr

from expunge import AsyncClient, Client, Retry

URL, KEY = "http://service.test", "exp_0123456789ab_secret"
TICKET: dict[str, Any] = json.loads((Path(__file__).parent / "ticket.json").read_text()) | {"timeline": []}
END = object()
WAITED_FOR: dict[type[Exception], str] = {
    httpx.ConnectTimeout: "connect", httpx.ReadTimeout: "read", httpx.WriteTimeout: "write", httpx.PoolTimeout: "pool",
}  # fmt: skip


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_awaited(self, seconds: float) -> None:
        self.sleep(seconds)


class Awaited:
    """An awaited client, or a part of one: what its methods return is waited for."""

    def __init__(self, portal: BlockingPortal, inner: Any) -> None:
        self.portal, self.inner = portal, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return Awaited(self.portal, found) if type(found).__module__.startswith("expunge.aio") else found

        def call(*arguments: Any, **options: Any) -> Any:
            made = found(*arguments, **options)
            if isinstance(made, AsyncIterator):
                return self.rows(made)
            return self.portal.call(finished, made) if inspect.isawaitable(made) else made

        return call

    def rows(self, made: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(made, END)

        while (row := self.portal.call(following)) is not END:
            yield row


async def finished(made: Any) -> Any:
    return await made


class Driver:
    """Makes clients of one kind, on whatever transport a test has for it."""

    def __init__(self, portal: BlockingPortal | None) -> None:
        self.portal, self.clock = portal, Clock()

    @property
    def awaits(self) -> bool:
        return self.portal is not None

    def client(
        self,
        transport: Any,
        url: str | None = URL,
        key: str | SecretStr | None = KEY,
        retry: Retry | None = None,
        **http: Any,
    ) -> Any:
        clock = self.clock
        if self.portal is None:
            blocking = httpx.Client(transport=transport, **http)
            return Client(url, key, http=blocking, retry=retry, sleep=clock.sleep, clock=clock)
        awaited = httpx.AsyncClient(transport=transport, **http)
        made = AsyncClient(url, key, http=awaited, retry=retry, sleep=clock.sleep_awaited, clock=clock)
        return Awaited(self.portal, made)


class Script:
    """A transport that gives one answer after the other, and keeps what it was asked. An exception is raised.

    On a clock, a time-out takes as long as the request would have waited.
    """

    def __init__(self, *answers: httpx.Response | type[Exception], clock: Clock | None = None) -> None:
        self.answers, self.asked, self.clock = list(answers), list[httpx.Request](), clock

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(
            answer, httpx.Response
        ):  # a new one: a client that awaits reads another stream than one that blocks
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        if self.clock is not None and issubclass(answer, httpx.TimeoutException):
            self.clock.now += request.extensions["timeout"][WAITED_FOR[answer]]
        raise answer("for the test")

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)


def ticket(state: str, /, *, closed_at: str | None = None, **owed: Any) -> httpx.Response:
    """A ticket in that state, with what is said of its one obligation."""
    owes = [TICKET["obligations"][0] | owed]
    return httpx.Response(200, json=TICKET | {"state": state, "closed_at": closed_at, "obligations": owes})


def problem(status: int, code: str, detail: str = "what to do", **headers: str) -> httpx.Response:
    """A refusal as the service makes it."""
    body = {"type": f"urn:expunge:error:{code}", "title": "t", "status": status, "detail": detail, "code": code}
    told = {"content-type": "application/problem+json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.Response(status, json=body | {"request_id": "r-1"}, headers=told)
