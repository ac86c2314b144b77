"""Fixtures of the pages' tests."""

from collections.abc import Callable

import pytest

from app.auth import Scope
from tests.app.pages.browser import Browser

SignedIn = Callable[..., Browser]


@pytest.fixture
def browser(database: str) -> Browser:
    """Nobody is signed in."""
    return Browser()


@pytest.fixture
def signed_in(database: str) -> SignedIn:
    """A browser of somebody with these scopes; without any, all of them: `signed_in("ada", Scope.DELETIONS_READ)`."""

    def enter(client: str = "tool", *scopes: Scope) -> Browser:
        return Browser().sign_in(client, *scopes)

    return enter
