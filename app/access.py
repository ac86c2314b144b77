"""Around every request: an id, the log line that says how it was answered, and its share of the metrics."""

import re
from time import perf_counter
from typing import Any
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.metrics import requests
from app.tracing import CARRIED, Told, nothing, span

log = structlog.get_logger()

WELL_FORMED = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{14,62}[0-9a-fA-F]")
"""Sixteen to sixty-four hexadecimal digits and hyphens, as in UUIDs and trace ids. Anything else that a client sends might
be somebody's name, and the id ends up in logs."""
PROBES = frozenset({"/livez", "/readyz", "/metrics"})


class Access:
    """The outermost layer. A line holds the route's template and never the path or the query, which may hold an id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = Answer(scope)

        async def noting(message: Message) -> None:
            answer.note(message)
            await send(message)
            if answer.whole:
                answer.tell()

        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        above = {name: sent[name] for name in CARRIED if name in sent}
        with logs.about(request_id=answer.request_id), span("request", above, method=scope["method"]) as answer.trace:
            try:
                await self.app(scope, receive, noting)
            finally:
                answer.tell()


class Answer:
    """One request's answer, as it goes by."""

    def __init__(self, scope: Scope) -> None:
        self.scope, self.begun = scope, perf_counter()
        self.request_id = request_id(scope)
        self.status = 500
        self.whole = self.told = False
        self.trace: Told = nothing

    def note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-Id"] = self.request_id
        elif message["type"] == "http.response.body":
            self.whole = not message.get("more_body", False)

    def tell(self) -> None:
        """Log and count it, once: when its last byte is sent, or when there will be none."""
        if self.told:
            return
        self.told = True
        seconds = perf_counter() - self.begun
        route = getattr(self.scope.get("route"), "path", None)
        method = self.scope["method"]
        requests.count(method, route, self.status, seconds)
        said: dict[str, Any] = {"method": method, "route": route, "status": self.status, "ms": round(seconds * 1e3, 2)}
        self.trace(route=route, status=self.status, request_id=self.request_id)
        if not self.whole:
            said["cut"] = True
        (log.debug if route in PROBES else log.info)("request", **said)


def request_id(scope: Scope) -> str:
    """The id that the client sent, if it looks like one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and WELL_FORMED.fullmatch(sent := value.decode("latin-1")):
            return str(sent)
    return str(uuid4())
