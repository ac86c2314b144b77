"""Webhook secrets and signatures, after the Standard Webhooks specification (standardwebhooks.com).

A secret is derived from the installation's own, the endpoint's id and a number that rotation raises. The database holds
none of them: whoever reads a dump, or can write rows, cannot sign. It does hold a digest of each, so that a process with
another installation's secret notices before it signs with a key that nobody expects.
"""

import base64
import hashlib
import hmac
from uuid import UUID

from app.errors import NotConfigured
from app.installation import Secret, secret


def derive(endpoint_id: UUID, number: int) -> bytes:
    """The endpoint's secret of that number. Raises `NotConfigured` where the installation has no secret of its own."""
    key = secret(Secret.WEBHOOKS)
    if key is None:
        raise NotConfigured(
            "Webhooks need EXPUNGE_WEBHOOK_SECRET on the API and the light worker: the same 32 characters or more on each."
        )
    return hmac.digest(key, b"expunge webhook\0" + endpoint_id.bytes + number.to_bytes(8, "big"), hashlib.sha256)


def shown(secret: bytes) -> str:
    """The secret in the form that receivers' libraries take."""
    return "whsec_" + base64.b64encode(secret).decode()


def check(secret: bytes) -> bytes:
    """What the database keeps of a secret: enough to recognise it, nothing to sign with."""
    return hashlib.sha256(b"check\0" + secret).digest()


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature over id, time and body."""
    signed = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode()
