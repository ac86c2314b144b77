"""A key, a token or a session becomes a principal with scopes. Keys are `exp_<prefix>_<secret>`: 256 random bits, only a digest
kept.

The prefix finds the row, `compare_digest` decides. SHA-256 is enough for a secret that nobody chose; a slow hash would
cost a quarter of a second on every request and protect against nothing here.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import structlog
from fastapi import Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from psycopg import Cursor
from sqlalchemy.exc import SQLAlchemyError

from app import logs, oidc, sessions
from app.config import LOOPBACK, settings
from app.db import single
from app.errors import Forbidden, TooMany, Unauthenticated
from app.scopes import Scope as Scope
from app.throttle import Buckets, Recent

log = structlog.get_logger()


@dataclass(frozen=True)
class Principal:
    """Who asks, and what it may do. `admin` may do everything and sees every client's tickets."""

    client: str
    scopes: frozenset[str]
    key: str = ""
    """Prefix of the key, for a bucket of its own."""
    requests_per_minute: int | None = None
    ids_per_day: int | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """Whose tickets a query is limited to; None for all."""
        return None if Scope.ADMIN in self.scopes else self.client


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


# Read on every request, so that a key that was revoked a moment ago opens nothing. Asks in passing whether
# `last_used_at` is behind: it is kept to the minute, because a write on every request would cost more than the answer.
FIND = """
    SELECT id, client, scopes, digest, requests_per_minute, ids_per_day,
           last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS stale
    FROM api_key WHERE prefix = %(prefix)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""
MARK_USED = """
    UPDATE api_key SET last_used_at = now()
    WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""


def authenticate(opened: Cursor[Any], key: str) -> Principal:
    """The key's principal, or `Unauthenticated`, which never says whether the prefix, the secret or the date was wrong."""
    prefix, secret = parts(key)
    if secret is None:
        raise unknown()
    found = opened.execute(FIND, {"prefix": prefix}, prepare=True).fetchone()
    id_, client, scopes, kept, requests, ids, stale = found or (None, "", [], bytes(32), None, None, False)
    if not hmac.compare_digest(kept, digest(secret)) or found is None:
        raise unknown()
    if stale:
        opened.execute(MARK_USED, {"id": id_}, prepare=True)
    return Principal(client, frozenset(scopes), prefix, requests, ids)


def parts(key: str) -> tuple[str, str | None]:
    """Prefix and secret of a key; no secret when it is none."""
    found = key.split("_", 2)
    if len(found) != 3 or found[0] != "exp" or "\0" in key:
        return "", None
    return found[1], found[2]


def unknown() -> Unauthenticated:
    return Unauthenticated(
        "Send `Authorization: Bearer <key>` with a key that is neither expired nor revoked; `expunge keys create` makes one.",
        headers={"WWW-Authenticate": "Bearer"},
    )


class Door:
    """What this process remembers of who knocked: refusals by address, requests by client."""

    def __init__(self) -> None:
        self.refusals, self.requests, self.known = Buckets(), Buckets(), Recent()

    def authenticate(self, opened: Cursor[Any], key: str, address: str) -> Principal:
        """As `authenticate`, but guessing is slow: a prefix that was refused too often from an address is not looked at
        from there for a while, right or wrong. Nobody else waits for that: not other keys from the same address, nor
        the same key from others, nor a key that this process has let in before."""
        rate, seen = settings().refusals_per_minute, digest(key)
        guessed = (address, parts(key)[0])
        wait = 0.0 if seen in self.known else self.refusals.wait(guessed, rate)
        if wait:
            raise too_many_refused(wait)
        try:
            who = authenticate(opened, key)
        except Unauthenticated:
            self.known.discard(seen)
            if key:
                self.refusals.take(guessed, rate)
                self.refuse(address)
            raise
        self.known.add(seen)
        return who

    @contextmanager
    def asking(self, address: str) -> Iterator[None]:
        """Ask the identity provider about what somebody at an address has brought: whoever brings nothing good may do so as
        seldom as with keys. Counted apart from keys, and only where the provider was asked. Raises `TooMany`."""
        name, rate = ("provider", address), settings().refusals_per_minute
        wait = self.refusals.wait(name, rate)
        if wait:
            raise too_many_refused(wait)
        try:
            yield
        except Unauthenticated:
            self.refusals.take(name, rate)
            raise

    def refuse(self, address: str) -> None:
        """Count a refusal; from an address with too many, say so instead of what was wrong."""
        wait = self.refusals.take((address,), settings().refusals_per_minute)
        if wait:
            raise too_many_refused(wait)

    def admit(self, who: Principal) -> None:
        """Raise `TooMany` when the client, or a key with a limit of its own, asks too often."""
        rate = who.requests_per_minute or settings().requests_per_minute
        if rate is None:
            return
        wait = self.requests.take((who.client, who.key) if who.requests_per_minute else (who.client,), rate)
        if wait:
            raise TooMany(f"{rate} requests a minute are this client's limit. Wait, and send fewer.", wait)


def too_many_refused(wait: float) -> TooMany:
    return TooMany("Too many keys from this address were refused. Wait, then send one that is good.", wait)


@lru_cache
def door() -> Door:
    """The process's one memory of who knocked."""
    return Door()


def address_of(request: Request) -> str:
    """Whose guesses count together: an IPv4 address, or an IPv6 network as one household has it."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address), 64), strict=False))
    return host


class Bearer(SecurityBase):
    """How the OpenAPI schema names what each operation wants to see."""

    scheme_name = "HTTPBearer"
    model = HTTPBearer(description="`exp_<prefix>_<secret>`, or an identity provider's JWT")


class Known(Bearer):
    """FastAPI dependency: who asks, provided that the key or token has the route's scope.

    One that does it all, since FastAPI works on every further one for longer than this does. The look-up is in a thread.
    """

    async def __call__(self, request: Request, needed: SecurityScopes) -> Principal:
        return allowed(await run_in_threadpool(recognise, request), needed.scopes)


@dataclass(frozen=True)
class Visitor:
    """Somebody who signed in with a browser. `token` is what the cookie holds; `flash` what the page is to say first."""

    who: Principal
    token: str
    flash: str | None


IN_A_SESSION = frozenset(
    {
        "/models/{reference}/audit",
        "/models/{reference}/compare",
        "/models/{reference}/signature",
        "/models/{reference}/weights",
        "/deletions/{ticket_id}/receipt",
        "/deletions/{ticket_id}/statement",
    }
)
"""What a link on a page leads to, and a browser reads with its cookie alone. Nothing else of the API takes a cookie, and
none of these changes anything, but that weights count as handed out from then on."""


def reads_in_a_session(request: Request) -> bool:
    """A page of another origin gets no cookie sent, which is `SameSite=Strict`; where a browser says whose page it was, it is
    asked as well."""
    safe = request.method in ("GET", "HEAD") and "authorization" not in request.headers
    ours = request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return safe and ours and getattr(request.scope.get("route"), "path", None) in IN_A_SESSION


def is_plain(request: Request) -> bool:
    """Whether the browser speaks to this very machine without TLS: the one case where a cookie may do without it. A proxy that
    speaks TLS to browsers may send them on with a name of its own, so the public address counts as well."""
    if (settings().public_url or "").startswith("https:"):
        return False
    return request.url.scheme == "http" and request.url.hostname in LOOPBACK


def cookie_name(request: Request) -> str:
    return sessions.PLAIN if is_plain(request) else sessions.SECURE


def visitor(request: Request) -> Visitor | None:
    """Who is signed in, if anybody is; counted towards the client's limit."""
    token = request.cookies.get(cookie_name(request))
    if not token:
        return None
    by_itself = "hx-request" in request.headers or request.method not in ("GET", "HEAD")
    with single() as opened:
        found = sessions.find(opened, token, page=not by_itself)
    if found is None:
        return None
    who = Principal(found.client, found.scopes, found.prefix, found.requests_per_minute, found.ids_per_day)
    logs.note(client=who.client)
    door().admit(who)
    return Visitor(who, token, found.flash)


def recognise(request: Request) -> Principal:
    """Who asks, noted for the log and counted towards its limit."""
    if reads_in_a_session(request):
        signed_in = visitor(request)
        if signed_in is not None:
            request.state.visitor = signed_in
            return signed_in.who
    who = identify(request)
    logs.note(client=who.client)
    door().admit(who)
    return who


def identify(request: Request) -> Principal:
    """Who asks. One round trip: neither the look-up nor the mark needs the other's transaction."""
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    sent = sent.strip() if scheme.lower() == "bearer" else ""
    tokens = oidc.verifier() if sent.count(".") == 2 else None
    if tokens is not None:
        return by_token(tokens, sent, address_of(request))
    with single() as opened:
        return door().authenticate(opened, sent, address_of(request))


def by_token(tokens: oidc.Verifier, sent: str, address: str) -> Principal:
    """The principal of an identity provider's token. A refusal does not say what was wrong; the log says its kind."""
    try:
        return Principal(*tokens.verify(sent))
    except oidc.Refused as refused:
        log.info("token.refused", why=str(refused))
        door().refuse(address)
        raise unknown() from None


def allowed(who: Principal, scopes: list[str]) -> Principal:
    for scope in scopes:
        if not who.may(Scope(scope)):
            raise Forbidden(f"This needs a key with the scope `{scope}`.")
    return who


class Scraper(Bearer):
    """FastAPI dependency of `/metrics`: whether who asks may read it. False when Postgres, which holds the keys, is away:
    a monitor must learn that, and may be told nothing else."""

    async def __call__(self, request: Request, needed: SecurityScopes) -> bool:
        if settings().metrics_open:
            return True
        try:
            allowed(await run_in_threadpool(recognise, request), needed.scopes)
        except SQLAlchemyError:
            return False
        return True


known, scraper = Known(), Scraper()
# `Security` rather than `Depends`, so that each operation of the OpenAPI schema names its scope.
MaySubmit = Annotated[Principal, Security(known, scopes=[Scope.DELETIONS_WRITE])]
MayFollow = Annotated[Principal, Security(known, scopes=[Scope.DELETIONS_READ])]
MayAudit = Annotated[Principal, Security(known, scopes=[Scope.AUDIT_READ])]
MaySetPolicy = Annotated[Principal, Security(known, scopes=[Scope.POLICIES_WRITE])]
MayApprove = Annotated[Principal, Security(known, scopes=[Scope.POLICIES_APPROVE])]
MayRetrain = Annotated[Principal, Security(known, scopes=[Scope.RETRAINS_WRITE])]
MayBeTold = Annotated[Principal, Security(known, scopes=[Scope.WEBHOOKS_WRITE])]
MayWatch = Annotated[Principal, Security(known, scopes=[Scope.METRICS_READ])]
MayScrape = Annotated[bool, Security(scraper, scopes=[Scope.METRICS_READ])]
Admin = Annotated[Principal, Security(known, scopes=[Scope.ADMIN])]
