"""Fixtures of the service's tests: an API whose client carries a key."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

with warnings.catch_warnings():  # Starlette recommends a fork of httpx for its client; the service itself uses httpx
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

from app.auth import Scope
from app.main import app
from tests.app import story

Caller = Callable[..., TestClient]


@pytest.fixture
def caller(database: str) -> Iterator[Caller]:
    """Make an HTTP client with a key of its own: `caller("tool", Scope.DELETIONS_WRITE)`; without scopes, all of them."""
    with ExitStack() as stack:

        def make(client: str = "tool", *scopes: Scope) -> TestClient:
            headers = {"Authorization": f"Bearer {story.key(client, *scopes)}"}
            return stack.enter_context(TestClient(app, headers=headers))

        yield make


@pytest.fixture
def http(caller: Caller) -> TestClient:
    """An HTTP client that may do everything."""
    return caller("admin")
