"""Secrets and signatures, held against the specification's own library."""

import base64
import time
from uuid import uuid4

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app import config
from app.errors import NotConfigured
from app.webhooks import keys


@pytest.mark.usefixtures("configured")
def test_what_is_signed_here_the_specifications_library_verifies() -> None:
    secret, body, now = keys.derive(uuid4(), 1), b'{"type":"x"}', int(time.time())
    signature = keys.sign(secret, "msg", now, body)
    headers = {"webhook-id": "msg", "webhook-timestamp": str(now), "webhook-signature": signature}
    Webhook(keys.shown(secret)).verify(body, headers)
    for spoiled in (headers | {"webhook-id": "other"}, headers | {"webhook-timestamp": str(now + 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(keys.shown(secret)).verify(body, spoiled)
    with pytest.raises(WebhookVerificationError):
        Webhook(keys.shown(secret)).verify(body + b" ", headers)


@pytest.mark.usefixtures("configured")
def test_each_endpoint_and_each_number_has_a_secret_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = uuid4(), uuid4()
    made = {keys.derive(one, 1), keys.derive(one, 2), keys.derive(other, 1)}
    assert len(made) == 3
    assert keys.derive(one, 1) in made
    assert {len(base64.b64decode(keys.shown(secret).removeprefix("whsec_"))) for secret in made} == {32}
    assert keys.check(keys.derive(one, 1)) not in made
    monkeypatch.setenv("EXPUNGE_WEBHOOK_SECRET", "another installation's secret, as long as it must be")
    config.settings.cache_clear()
    assert keys.derive(one, 1) not in made


def test_without_a_secret_it_says_what_is_missing(database: str) -> None:
    with pytest.raises(NotConfigured, match="EXPUNGE_WEBHOOK_SECRET"):
        keys.derive(uuid4(), 1)
