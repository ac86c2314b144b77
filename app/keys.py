"""The life of a key: made, rotated, given an end, revoked. Each change and its audit event are one commit."""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from app import audit
from app.auth import Scope, digest
from app.errors import Conflict, NotFound, Unprocessable
from app.oidc import PREFIX
from app.tables import ApiKey

LONGEST_DAYS = 36_500
LONGEST_OVERLAP = 365
LARGEST_LIMIT = 2_000_000_000


@dataclass(frozen=True)
class Limits:
    """What this key may do instead of what the settings say; None: as they say."""

    requests_per_minute: int | None = None
    ids_per_day: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Made:
    """A key just made. `secret` is the whole of it, to be shown this one time."""

    row: ApiKey
    secret: str


def create(
    session: Session, client: str, scopes: list[Scope], days: float | None, by: str, limits: Limits = NO_LIMITS
) -> Made:
    """Make a key and return it: the one time that its secret exists outside the client."""
    check_client(client)
    if days is not None and not 0 < days <= LONGEST_DAYS:  # nor is a NaN
        raise Unprocessable(f"A key expires after more than 0 and at most {LONGEST_DAYS} days, or not at all.")
    made = insert(session, client, [str(s) for s in scopes], timedelta(days=days) if days is not None else None, limits)
    told = {name: value for name, value in vars(limits).items() if value is not None}
    audit.append(
        session, "key.created", by, prefix=made.row.prefix, client=client, scopes=[str(s) for s in scopes], **told
    )
    return made


def scopes_of(session: Session, client: str) -> set[str]:
    """What a client may do with all its live keys."""
    held = select(ApiKey.scopes).where(ApiKey.client == client, is_live())
    return {scope for scopes in session.scalars(held) for scope in scopes}


def check_client(client: str) -> None:
    """Raise unless every log and page can show the name, and no identity provider's subject can be taken for it."""
    if client.startswith(PREFIX):
        raise Unprocessable(f"Names that begin with {PREFIX!r} are those of an identity provider's subjects.")
    if not 1 <= len(client) <= 128 or not client.isprintable() or client != client.strip():
        raise Unprocessable("A client's name is 1 to 128 printable characters, without spaces around it.")


def insert(session: Session, client: str, scopes: list[str], life: timedelta | None, limits: Limits) -> Made:
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = ApiKey(
        client=client, prefix=prefix, digest=digest(secret), scopes=scopes,
        expires_at=func.now() + life if life is not None else None, **vars(limits),
    )  # fmt: skip
    session.add(row)
    session.flush()
    session.refresh(row)
    return Made(row, f"exp_{prefix}_{secret}")


def rotate(session: Session, prefix: str, overlap_days: float, by: str) -> Made:
    """A new key with the client, scopes, limits and term of the old one, which ends after the overlap, or as it would
    have before. Raises `NotFound` unless the old one is live."""
    if not 0 <= overlap_days <= LONGEST_OVERLAP:
        raise Unprocessable(f"The old key goes on for 0 to {LONGEST_OVERLAP} days.")
    old = live(session, prefix)
    life = old.expires_at - old.created_at if old.expires_at is not None else None
    made = insert(session, old.client, old.scopes, life, Limits(old.requests_per_minute, old.ids_per_day))
    end(old, overlap_days)
    session.flush()
    session.refresh(old)
    assert old.expires_at is not None
    told = {"client": old.client, "scopes": old.scopes, "old_expires_at": old.expires_at.isoformat()}
    audit.append(session, "key.rotated", by, prefix=made.row.prefix, old_prefix=prefix, **told)
    return made


def expire(session: Session, prefix: str, days: float, by: str) -> ApiKey:
    """Let a key end after so many days. Only ever sooner: a longer life is another key's, by rotation."""
    if not 0 <= days <= LONGEST_DAYS:
        raise Unprocessable(f"A key expires after 0 to {LONGEST_DAYS} days.")
    key = live(session, prefix)
    before = key.expires_at
    end(key, days)
    session.flush()
    session.refresh(key)
    if key.expires_at == before:
        raise Conflict("The key ends sooner than that already. Rotate it for one that lives longer.")
    assert key.expires_at is not None
    audit.append(session, "key.expiry_set", by, prefix=prefix, expires_at=key.expires_at.isoformat())
    return key


def end(key: ApiKey, days: float) -> None:
    """Set the key's end to so many days from now, unless it comes sooner."""
    then = func.now() + timedelta(days=days)
    key.expires_at = then if key.expires_at is None else func.least(key.expires_at, then)


def revoke(session: Session, prefix: str, by: str) -> None:
    """From the commit on, the key opens nothing."""
    key = session.scalar(select(ApiKey).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None)).with_for_update())
    if key is None:
        raise no_such_key()
    key.revoked_at = func.now()
    audit.append(session, "key.revoked", by, prefix=prefix)


def live(session: Session, prefix: str) -> ApiKey:
    """The key, locked, which must be neither expired nor revoked."""
    key = session.scalar(select(ApiKey).where(ApiKey.prefix == prefix, is_live()).with_for_update())
    if key is None:
        raise no_such_key()
    return key


def is_live() -> ColumnElement[bool]:
    unexpired: ColumnElement[bool] = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    return ApiKey.revoked_at.is_(None) & unexpired


def no_such_key() -> NotFound:
    return NotFound("No live key with that prefix. `expunge keys list` shows those there are.")


def listing(session: Session, client: str | None = None) -> list[ApiKey]:
    """All keys, or one client's, oldest first: those that ended too."""
    query = select(ApiKey).order_by(ApiKey.id)
    return list(session.scalars(query if client is None else query.where(ApiKey.client == client)))
