"""Fixtures of the client's tests: each runs on both clients, the blocking one and the awaited one."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from app.auth import Scope
from app.main import app
from tests.app import story
from tests.app.conftest import caller
from tests.expunge.driver import Driver

__all__ = ["caller"]  # a fixture
Seat = Callable[..., Any]


@pytest.fixture(params=["blocking", "awaited"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """What makes clients of one kind, on a clock that no test waits for."""
    if request.param == "blocking":
        yield Driver(None)
        return
    with start_blocking_portal() as portal:
        yield Driver(portal)


@pytest.fixture
def seat(database: str, driver: Driver, request: pytest.FixtureRequest) -> Seat:
    """A client of the real service in this process: `seat("tool", Scope.DELETIONS_WRITE)`; without scopes, all of them."""

    def make(client: str = "admin", *scopes: Scope, **http: Any) -> Any:
        if driver.awaits:
            transport: Any = httpx.ASGITransport(app)
        else:  # Starlette's own, which runs the service on a loop beside this thread
            transport = request.getfixturevalue("caller")(client, *scopes)._transport
        return driver.client(transport, "http://testserver", story.key(client, *scopes), **http)

    return make
