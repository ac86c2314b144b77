"""Signing in at an identity provider: the authorization-code flow of OpenID Connect, with PKCE, state and nonce.

What must come back unchanged waits in a cookie of the browser that began: nobody else can finish what it has begun, and
no row is written before the provider has said who it is.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlencode

import httpx
import structlog

from app.config import Settings, settings
from app.errors import Unauthenticated, Unavailable
from app.jwks import KeySet
from app.oidc import Refused, Verifier
from app.scopes import Scope

log = structlog.get_logger()

SECONDS = 600
"""So long somebody may take at the provider."""
TIMEOUT = httpx.Timeout(10.0, connect=3.0)
LARGEST = 64 * 1024
LONGEST = 3000
"""Of characters in which a cookie keeps where to go afterwards: browsers keep none over 4096 bytes."""


@dataclass(frozen=True)
class Begun:
    """What one sign-in began with: sent along or kept back, and held against what comes of it."""

    state: str
    nonce: str
    verifier: str
    following: str
    """Where to, once it is done. The browser's own word, as the query's would be: to be looked at before it is followed."""

    @classmethod
    def new(cls, following: str) -> "Begun":
        kept = following if len(quote(following)) <= LONGEST else "/"
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), kept)

    @classmethod
    def of(cls, cookie: str) -> "Begun | None":
        parts = cookie.split(".", 3)
        if len(parts) != 4 or not all(parts) or not cookie.isascii():
            return None
        state, nonce, verifier, following = parts
        return cls(state, nonce, verifier, unquote(following))

    def as_cookie(self) -> str:
        return f"{self.state}.{self.nonce}.{self.verifier}.{quote(self.following)}"

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")


class IdVerifier(Verifier):
    """Verifies ID tokens: like any other of the issuer's, but meant for this client, and for this one sign-in."""

    def of_sign_in(self, token: str, nonce: str) -> tuple[str, frozenset[Scope]]:
        whose, claims = self.verify(token), self.claims(token)
        said, several = claims.get("nonce"), isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if several and claims.get("azp") != self.conf.oidc_client_id:
            raise Refused("azp")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
            raise Refused("nonce")
        return whose


@lru_cache
def verifier() -> IdVerifier | None:
    """The process's verifier of ID tokens; None where nobody can sign in at a provider."""
    conf = settings()
    if conf.oidc_client_id is None or conf.oidc_issuer is None:
        return None
    meant = conf.model_copy(update={"oidc_audience": conf.oidc_client_id})
    return IdVerifier(meant, KeySet(str(conf.oidc_jwks_url)))


def address(begun: Begun, back: str) -> str:
    """Where the browser goes to say who it is; `back` is where it is to come back to."""
    conf = settings()
    asked = {
        "response_type": "code",
        "client_id": conf.oidc_client_id,
        "redirect_uri": back,
        "scope": conf.oidc_scope,
        "state": begun.state,
        "nonce": begun.nonce,
        "code_challenge": begun.challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in str(conf.oidc_authorize_url) else "?"
    return f"{conf.oidc_authorize_url}{joint}{urlencode(asked)}"


def begun_here(begun: Begun | None, state: str, code: str) -> Begun:
    """The sign-in that this browser began, of which it brings the answer. Raises `Unauthenticated`; the provider is not asked."""
    if begun is None or not hmac.compare_digest(begun.state.encode(), state.encode()) or not code:
        raise refused("state")
    return begun


def finish(begun: Begun, code: str, back: str) -> tuple[str, frozenset[Scope]]:
    """The client's name and scopes of whoever came back with this code. Raises `Unauthenticated`, which does not say what was
    wrong, or `Unavailable`."""
    found = verifier()
    if found is None:
        raise refused("provider")
    token = redeem(settings(), code, begun.verifier, back)
    try:
        return found.of_sign_in(token, begun.nonce)
    except Refused as error:
        raise refused(str(error)) from None


def redeem(conf: Settings, code: str, proof: str, back: str) -> str:
    """The ID token that the provider gives for the code."""
    sent = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": proof}
    sent["client_id"] = str(conf.oidc_client_id)
    secret = conf.oidc_client_secret.get_secret_value() if conf.oidc_client_secret else None
    who = httpx.BasicAuth(sent["client_id"], secret) if secret else None
    try:
        answer = httpx.post(str(conf.oidc_token_url), data=sent, auth=who, timeout=TIMEOUT, follow_redirects=False)
        said: Any = answer.json() if len(answer.content) <= LARGEST else None
    except (httpx.HTTPError, ValueError):
        log.warning("sign_in.provider_lost")
        raise Unavailable("The identity provider does not answer. Try again later.") from None
    token = said.get("id_token") if isinstance(said, dict) and answer.status_code == 200 else None
    if not isinstance(token, str):
        raise refused("code")
    return token


def refused(why: str) -> Unauthenticated:
    log.info("sign_in.refused", why=why)
    return Unauthenticated("The identity provider did not say who you are, or not to this browser. Begin again.")
