"""The FastAPI app: routers, error handlers, limits. `uvicorn app.main:app` serves it."""

import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError, SQLAlchemyError, TimeoutError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.access import Access
from app.auth import IN_A_SESSION, identify, visitor
from app.config import settings
from app.db import bound, check_schema, engine, too_slow
from app.description import describe
from app.errors import (
    Invalid,
    NotFound,
    ServiceError,
    TooLarge,
    TooSlow,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    pointer,
    words,
)
from app.headers import Headers
from app.pages import is_page, preferred
from app.routes import (
    approvals,
    audit,
    banks,
    datasets,
    deletions,
    exposure,
    keys,
    models,
    policies,
    retrains,
    system,
    transparency,
    webhooks,
)
from app.routes import pages as seats
from app.routes.pages import shell

log = structlog.get_logger()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Refuse to start on a schema this code was not written for."""
    logs.configure()
    conf = settings()
    bound(engine(), conf.statement_seconds, conf.lock_seconds, conf.idle_transaction_seconds)
    check_schema()
    yield


BODILESS = ("GET", "HEAD", "DELETE", "OPTIONS")
STRANGERS = 64 * 1024
"""Bytes of a body that are read before it is known who sends it: FastAPI parses a body before it asks."""


class BodyLimit:
    """Refuse a JSON body over the limit before it is read whole, one that does not come, or a large one from a stranger.
    Manifests stream, and have limits of their own. Where no operation has a body, none is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in BODILESS or scope["path"].startswith("/datasets/"):
            await self.app(scope, receive, send)
            return
        limit = settings().max_body_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        seen = int(declared) if declared.isdigit() else 0
        read: deque[Message] = deque()
        more, counted, stranger = True, 0, True
        with anyio.move_on_after(settings().body_seconds) as waiting:
            while more and seen <= limit:  # a body sent in chunks declares nothing, so it is counted
                if seen > STRANGERS and stranger:
                    refusal = await refused(Request(scope))
                    if refusal is not None:
                        await refusal(scope, receive, send)
                        return
                    stranger = False
                message = await receive()
                read.append(message)
                more, counted = message.get("more_body", False), counted + len(message.get("body", b""))
                seen = max(seen, counted)
        if waiting.cancelled_caught:
            await problem(TooSlow("The body did not come. Send the request again, all at once."))(scope, receive, send)
            return
        if seen > limit:
            await problem(TooLarge(f"A body may have {limit} bytes. Split the request."))(scope, receive, send)
            return

        async def replay() -> Message:
            return read.popleft() if read else await receive()

        await self.app(scope, replay, send)


async def refused(request: Request) -> Response | None:
    """What to answer who sends much and is not let in."""
    try:
        if not is_page(request.url.path):
            await run_in_threadpool(identify, request)
        elif await run_in_threadpool(visitor, request) is None:
            return await shell.sign_in_first(request, shell.SignInFirst())
    except ServiceError as error:
        return refusal(request, error)
    except SQLAlchemyError as error:
        return await on_database_error(request, error)
    return None


class Defects:
    """Answer what no handler knows of. The server would print such an error's text, which may hold somebody's id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            await on_defect(Request(scope), error)(scope, receive, send)


def problem(error: ServiceError, errors: list[dict[str, str]] | None = None) -> JSONResponse:
    """RFC 9457 for one error."""
    body = {
        "type": f"urn:expunge:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": logs.request_id(),
    }
    if errors:
        body["errors"] = errors
    return JSONResponse(body, error.status, error.headers, media_type="application/problem+json")


def refusal(request: Request, error: ServiceError, errors: list[dict[str, str]] | None = None) -> Response:
    """One error, as a page where a person sits before it."""
    if isinstance(error, Unauthenticated) and asks_with_a_browser(request):
        return shell.to_sign_in(request)
    return shell.failed(request, error) if is_page(request.url.path) else problem(error, errors)


def asks_with_a_browser(request: Request) -> bool:
    """Whether somebody who may have been sent a link opens it: a program sends a key, or does not prefer HTML."""
    reads = request.method == "GET" and "authorization" not in request.headers
    linked = getattr(request.scope.get("route"), "path", None) in IN_A_SESSION
    wants = preferred(request.headers.get("accept", ""), ["application/json", "text/html"]) == "text/html"
    return reads and linked and wants


async def on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return refusal(request, error)


async def on_invalid(request: Request, error: Exception) -> Response:
    """What is wrong where, without the value: it may be somebody's id."""
    assert isinstance(error, RequestValidationError)
    faults = [{"pointer": pointer(fault), "detail": words(fault)} for fault in error.errors()]
    first = f"{faults[0]['pointer']}: {faults[0]['detail']}"
    refused = Invalid(first if len(faults) == 1 else f"{first} (and {len(faults) - 1} more)")
    return refusal(request, refused, faults[:20])


async def on_http_error(request: Request, error: Exception) -> Response:
    """FastAPI's own 404, 405 and the like, in the same shape."""
    assert isinstance(error, HTTPException)
    if is_page(request.url.path):
        await shell.recall(request)
        return shell.failed(request, NO_PAGE if error.status_code == 404 else Invalid("The form cannot be read."))
    detail = WHAT_TO_DO.get(error.status_code, str(error.detail))
    body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code, "detail": detail}
    return JSONResponse(
        body | {"code": f"http_{error.status_code}", "request_id": logs.request_id()},
        error.status_code,
        dict(error.headers or {}),
        media_type="application/problem+json",
    )


NO_PAGE = NotFound("There is no such page. Home lists those there are.")
WHAT_TO_DO = {
    400: "The body cannot be read. Send JSON as UTF-8, nested no deeper than the schema is.",
    404: "There is no such path. /docs lists those there are.",
    405: "The path exists, the method does not. The Allow header and /docs name those there are.",
}


async def on_database_error(request: Request, error: Exception) -> Response:
    """A lost connection is 503 and may be tried again; a value that no column can hold is the caller's; anything else is
    a defect of ours."""
    route = request.scope.get("route")
    log.error("database", route=getattr(route, "path", None), error=type(error).__name__)
    if too_slow(error):
        return refusal(request, Unavailable(TOOK_TOO_LONG, headers=RETRY))
    if isinstance(error, OperationalError | TimeoutError) or getattr(error, "connection_invalidated", False):
        return refusal(request, Unavailable(NO_POSTGRES, headers=RETRY))
    if isinstance(error, DataError):
        return refusal(
            request, Unprocessable("A value holds what cannot be kept: a NUL character, or a number out of range.")
        )
    return refusal(request, ServiceError(OURS))


RETRY = {"Retry-After": "5"}
TOOK_TOO_LONG = (
    "Postgres took too long, or somebody holds what this needs. Nothing was written; send the request again."
)
NO_POSTGRES = "Postgres does not answer. Nothing was written; send the request again later."
OURS = "An error of ours. Nothing was written. It is in the log."


def on_defect(request: Request, error: Exception) -> Response:
    """The log gets the kind and the places, not the text: that may hold somebody's id."""
    frames = traceback.extract_tb(error.__traceback__)
    log.error("defect", error=type(error).__name__, at=[f"{f.filename}:{f.lineno}" for f in frames[-5:]])
    return refusal(request, ServiceError(OURS))


# In the order of the description's sections.
ROUTES = (
    deletions,
    datasets,
    models,
    audit,
    approvals,
    banks,
    exposure,
    policies,
    retrains,
    webhooks,
    keys,
    transparency,
    system,
)


def make_app() -> FastAPI:
    app = FastAPI(
        title="Expunge",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(Defects)
    app.add_middleware(Headers)
    app.add_middleware(Access)
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        ServiceError: on_service_error,
        RequestValidationError: on_invalid,
        HTTPException: on_http_error,
        SQLAlchemyError: on_database_error,
        shell.SignInFirst: shell.sign_in_first,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    for module in ROUTES:
        app.include_router(module.router)
    for router in seats.routers:
        app.include_router(router)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # the way that FastAPI has for it
    return app


logs.adopt()  # before uvicorn says its first word
app = make_app()
