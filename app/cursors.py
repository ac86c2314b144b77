"""Signed keyset cursors: a position in a list that a client can keep but not make up, bound to the query it came from."""

import base64
import hashlib
import hmac
import json
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from sqlalchemy import select

from app.db import transaction
from app.errors import Unprocessable
from app.tables import Installation

SIGNATURE_BYTES = 16


@lru_cache
def key() -> bytes:
    """The installation's own key, made by its first migration."""
    with transaction() as session:
        return session.scalars(select(Installation.cursor_key)).one()


def sign(payload: bytes, query: str) -> bytes:
    return hmac.digest(key(), query.encode() + b"\0" + payload, hashlib.sha256)[:SIGNATURE_BYTES]


def encode(position: tuple[datetime, UUID], query: str) -> str:
    """A cursor behind `position` in the list that `query` (its filters, and who asks) describes."""
    payload = json.dumps([position[0].isoformat(), str(position[1])]).encode()
    return base64.urlsafe_b64encode(sign(payload, query) + payload).decode().rstrip("=")


def decode(cursor: str, query: str) -> tuple[datetime, UUID]:
    """The position, or `Unprocessable` for a cursor that was not made here for this list."""
    refused = Unprocessable("This cursor belongs to another list. Start without one.")
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise refused from None
    signature, payload = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, sign(payload, query)):
        raise refused
    when, identity = json.loads(payload)
    return datetime.fromisoformat(when), UUID(identity)
