"""Sessions of people who signed in with a browser: a random token in a cookie, of which only a digest is kept.

One stands for an API key, with whatever that key may do at the time, or for an identity provider's subject with the scopes
that its roles had. It ends with its key, after a while without a page, and after some hours in any case.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import Cursor
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.config import settings
from app.db import changed
from app.errors import ForeignForm
from app.scopes import Scope
from app.tables import ApiKey, WebSession

SECURE, PLAIN = "__Host-expunge", "expunge"
"""The cookie's names. A browser takes the first over TLS alone, and from nobody but this very host."""
LONGEST = 64


@dataclass(frozen=True)
class Found:
    """Whose session it is, and what the next page is to say."""

    client: str
    scopes: frozenset[Scope]
    prefix: str
    requests_per_minute: int | None
    ids_per_day: int | None
    flash: str | None


# Each page asks, so it is one statement outside any transaction, and the key's state is read with it: whoever revokes a
# key has ended its sessions.
FIND = """
    SELECT coalesce(subject, client), coalesce(web_session.scopes, api_key.scopes), prefix, requests_per_minute, ids_per_day,
           flash, seen_at < now() - interval '1 minute', subject IS NOT NULL
    FROM web_session LEFT JOIN api_key ON api_key.id = web_session.key_id
    WHERE web_session.digest = %(digest)s AND web_session.expires_at > now()
      AND seen_at > now() - make_interval(secs => %(idle)s)
      AND (subject IS NOT NULL OR (revoked_at IS NULL AND (api_key.expires_at IS NULL OR api_key.expires_at > now())))
"""
MARK_SEEN = "UPDATE web_session SET seen_at = now() WHERE digest = %(digest)s"
SHOWN = "UPDATE web_session SET flash = NULL WHERE digest = %(digest)s AND flash IS NOT NULL"


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def csrf(token: str) -> str:
    """What each form of the session carries. Only who has the cookie can work it out, and it does not tell the cookie."""
    made = hmac.digest(token.encode(), b"expunge form", hashlib.sha256)
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def check_form(token: str, sent: str) -> None:
    """Raise `ForeignForm` unless the form came from a page of this session."""
    if not hmac.compare_digest(csrf(token).encode(), sent.encode()):
        raise ForeignForm("The form is not of this session. Open the page again and send it from there.")


def open_for_key(session: Session, prefix: str) -> str:
    """A session that stands for the key; returns its token, the one time that it exists outside the browser."""
    key_id = select(ApiKey.id).where(ApiKey.prefix == prefix).scalar_subquery()
    return begin(session, key_id=key_id)


def open_for_subject(session: Session, client: str, scopes: frozenset[Scope]) -> str:
    """A session that stands for an identity provider's subject."""
    return begin(session, subject=client, scopes=sorted(scopes))


def begin(session: Session, **whose: Any) -> str:
    token = secrets.token_urlsafe(32)
    life = timedelta(seconds=settings().session_seconds)
    session.add(WebSession(digest=digest(token), expires_at=func.now() + life, **whose))
    session.flush()
    return token


def find(opened: Cursor[Any], token: str, *, page: bool) -> Found | None:
    """Whose session the token is of, or None. `page`: somebody looks at a page, so the session goes on, and what it was to
    say is said; False for what a page asks for by itself."""
    if not token or len(token) > LONGEST or not token.isascii():
        return None
    known = {"digest": digest(token), "idle": settings().session_idle_seconds}
    row = opened.execute(FIND, known, prepare=True).fetchone()
    if row is None:
        return None
    client, scopes, prefix, requests, ids, flash, stale, of_subject = row
    if of_subject and settings().oidc_client_id is None:
        return None
    if page and stale:
        opened.execute(MARK_SEEN, known)
    if page and flash:
        opened.execute(SHOWN, known)
    return Found(client, frozenset(map(Scope, scopes)), prefix or "", requests, ids, flash if page else None)


def tell(session: Session, token: str, sentence: str) -> None:
    """Let the session's next page say this."""
    session.execute(update(WebSession).where(WebSession.digest == digest(token)).values(flash=sentence))


def end(session: Session, token: str) -> None:
    """Sign out."""
    session.execute(delete(WebSession).where(WebSession.digest == digest(token)))


def purge(session: Session) -> int:
    """Delete sessions that are over; returns how many went."""
    idle = func.now() - timedelta(seconds=settings().session_idle_seconds)
    over = or_(WebSession.expires_at <= func.now(), WebSession.seen_at <= idle)
    ended = select(ApiKey.id).where(or_(ApiKey.revoked_at.is_not(None), ApiKey.expires_at <= func.now()))
    return changed(session, delete(WebSession).where(or_(over, WebSession.key_id.in_(ended))))
