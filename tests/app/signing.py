"""A signing secret for tests, and the keys that follow from it."""

from collections.abc import Iterator

import pytest

from app.config import settings
from expunge.evidence.keys import SigningKeys

SECRET = "a secret for tests that has thirty-two characters"


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch) -> Iterator[SigningKeys]:
    """The installation can sign."""
    monkeypatch.setenv("EXPUNGE_SIGNING_SECRET", SECRET)
    settings.cache_clear()
    yield SigningKeys(SECRET.encode())
    settings.cache_clear()
