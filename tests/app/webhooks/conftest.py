"""An installation that may sign, and call this machine."""

import pytest

from app import config

SECRET = "an installation's own secret, of no use anywhere else"


@pytest.fixture
def configured(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Webhooks may reach this machine, on any port, without TLS."""
    monkeypatch.setenv("EXPUNGE_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("EXPUNGE_WEBHOOK_ALLOW", "127.0.0.0/8,::1/128")
    monkeypatch.setenv("EXPUNGE_WEBHOOK_HTTP", "true")
    monkeypatch.setenv("EXPUNGE_WEBHOOK_PORTS", ",".join(map(str, (443, *range(1024, 65536)))))
    config.settings.cache_clear()
