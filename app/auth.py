"""An API key becomes a principal with scopes. Keys are `exp_<prefix>_<secret>`: 256 random bits, only a digest kept.

The prefix finds the row, `compare_digest` decides. SHA-256 is enough for a secret that nobody chose; a slow hash would
cost a quarter of a second on every request and protect against nothing here.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from psycopg import Cursor
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app import audit
from app.db import changed, single
from app.errors import Forbidden, NotFound, Unauthenticated, Unprocessable
from app.tables import ApiKey

LONGEST_DAYS = 36_500


class Scope(StrEnum):
    DELETIONS_WRITE = "deletions:write"
    DELETIONS_READ = "deletions:read"
    AUDIT_READ = "audit:read"
    POLICIES_WRITE = "policies:write"
    POLICIES_APPROVE = "policies:approve"
    RETRAINS_WRITE = "retrains:write"
    ADMIN = "admin"


@dataclass(frozen=True)
class Principal:
    """Who asks, and what it may do. `admin` may do everything and sees every client's tickets."""

    client: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """Whose tickets a query is limited to; None for all."""
        return None if Scope.ADMIN in self.scopes else self.client


def create_key(session: Session, client: str, scopes: list[Scope], days: float | None, by: str) -> str:
    """Make a key and return it: the one time that its secret exists outside the client."""
    if not 1 <= len(client) <= 128 or not client.isprintable() or client != client.strip():
        raise Unprocessable("A client's name is 1 to 128 printable characters, without spaces around it.")
    if days is not None and not 0 < days <= LONGEST_DAYS:  # nor is a NaN
        raise Unprocessable(f"A key expires after more than 0 and at most {LONGEST_DAYS} days, or not at all.")
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires = func.now() + timedelta(days=days) if days is not None else None
    session.add(
        ApiKey(client=client, prefix=prefix, digest=digest(secret), scopes=[str(s) for s in scopes], expires_at=expires)
    )
    audit.append(session, "key.created", by, prefix=prefix, client=client, scopes=[str(s) for s in scopes])
    return f"exp_{prefix}_{secret}"


def revoke_key(session: Session, prefix: str, by: str) -> None:
    """From the commit on, the key opens nothing."""
    revoked = update(ApiKey).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None)).values(revoked_at=func.now())
    if changed(session, revoked) != 1:
        raise NotFound("No live key with that prefix.")
    audit.append(session, "key.revoked", by, prefix=prefix)


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


# Read on every request, so that a key that was revoked a moment ago opens nothing. Asks in passing whether
# `last_used_at` is behind: it is kept to the minute, because a write on every request would cost more than the answer.
FIND = """
    SELECT id, client, scopes, digest, last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS stale
    FROM api_key WHERE prefix = %(prefix)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""
MARK_USED = """
    UPDATE api_key SET last_used_at = now()
    WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""


def authenticate(opened: Cursor[Any], key: str) -> Principal:
    """The key's principal, or `Unauthenticated`, which never says whether the prefix, the secret or the date was wrong."""
    refused = Unauthenticated(
        "Send `Authorization: Bearer <key>` with a key that is neither expired nor revoked; `expunge keys create` makes one.",
        headers={"WWW-Authenticate": "Bearer"},
    )
    parts = key.split("_", 2)
    if len(parts) != 3 or parts[0] != "exp" or "\0" in key:
        raise refused
    found = opened.execute(FIND, {"prefix": parts[1]}, prepare=True).fetchone()
    id_, client, scopes, kept, stale = found or (None, "", [], bytes(32), False)
    if not hmac.compare_digest(kept, digest(parts[2])) or found is None:
        raise refused
    if stale:
        opened.execute(MARK_USED, {"id": id_}, prepare=True)
    return Principal(client, frozenset(scopes))


bearer = HTTPBearer(auto_error=False, description="`exp_<prefix>_<secret>`, made by `expunge keys create`")


def principal(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Principal:
    """FastAPI dependency: who asks. One round trip: neither the look-up nor the mark needs the other's transaction."""
    with single() as opened:
        return authenticate(opened, credentials.credentials if credentials else "")


async def check(needed: SecurityScopes, who: Annotated[Principal, Depends(principal)]) -> Principal:
    """FastAPI dependency: who asks, provided that the key has the route's scope. Async because FastAPI would start a
    thread for it."""
    for scope in needed.scopes:
        if not who.may(Scope(scope)):
            raise Forbidden(f"This needs a key with the scope `{scope}`.")
    return who


# `Security` rather than `Depends`, so that each operation of the OpenAPI schema names its scope.
MaySubmit = Annotated[Principal, Security(check, scopes=[Scope.DELETIONS_WRITE])]
MayFollow = Annotated[Principal, Security(check, scopes=[Scope.DELETIONS_READ])]
MayAudit = Annotated[Principal, Security(check, scopes=[Scope.AUDIT_READ])]
MaySetPolicy = Annotated[Principal, Security(check, scopes=[Scope.POLICIES_WRITE])]
MayApprove = Annotated[Principal, Security(check, scopes=[Scope.POLICIES_APPROVE])]
MayRetrain = Annotated[Principal, Security(check, scopes=[Scope.RETRAINS_WRITE])]
Admin = Annotated[Principal, Security(check, scopes=[Scope.ADMIN])]
