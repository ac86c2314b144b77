"""Bearer tokens of an identity provider: JWTs, verified by the keys that the settings point at.

Issuer, audience and algorithms are the settings', never the token's: its header says which key to take among the
provider's own and nothing else. Symmetric algorithms cannot be set, so a public key is never taken for a shared secret.
"""

from functools import lru_cache
from typing import Any

import jwt
import structlog

from app.config import Settings, settings
from app.jwks import KeySet, fits
from app.scopes import Scope

log = structlog.get_logger()

PREFIX = "oidc:"
"""Begins the client name of every subject; no key's client may begin so."""
LONGEST_TOKEN = 8192
LONGEST_SUBJECT = 120
LEEWAY = 30
TYPES = ("jwt", "at+jwt", "application/at+jwt")
REQUIRED = ["exp", "iat", "iss", "aud", "sub"]


class Refused(Exception):
    """The token opens nothing. The text is for the log and holds nothing of the token."""


class Verifier:
    """Verifies tokens of the one issuer that the settings name."""

    def __init__(self, conf: Settings, keys: KeySet) -> None:
        self.conf, self.keys = conf, keys

    def verify(self, token: str) -> tuple[str, frozenset[Scope]]:
        """The client's name and scopes. Raises `Refused`, or `Unavailable` where the provider's keys cannot be had."""
        try:
            claims = self.claims(token)
        except jwt.PyJWTError as error:
            raise Refused(type(error).__name__) from None
        lifetime = moment(claims, "exp") - moment(claims, "iat")
        if not 0 <= lifetime <= self.conf.oidc_longest_seconds:
            raise Refused("lifetime")
        subject = claims["sub"]
        if not 1 <= len(subject) <= LONGEST_SUBJECT or not subject.isprintable() or subject != subject.strip():
            raise Refused("subject")
        return PREFIX + subject, self.scopes(claims)

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that is signed, in time, and meant for this service."""
        if len(token) > LONGEST_TOKEN:
            raise Refused("size")
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self.conf.oidc_algorithms:
            raise Refused("algorithm")
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in TYPES:
            raise Refused("header")
        found = self.keys.find(kid) if isinstance(kid, str) else None
        if found is None or not fits(found, algorithm):
            raise Refused("key")
        return jwt.decode(
            token,
            found.key,
            algorithms=[algorithm],
            issuer=self.conf.oidc_issuer,
            audience=self.conf.oidc_audience,
            leeway=LEEWAY,
            options={"require": REQUIRED},
        )

    def scopes(self, claims: dict[str, Any]) -> frozenset[Scope]:
        """Scopes of all roles in the claim that the settings name; a role that they do not map opens nothing."""
        found: Any = claims
        for step in self.conf.oidc_roles_claim.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        roles = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        mapped = self.conf.oidc_roles
        return frozenset(scope for role in roles if isinstance(role, str) for scope in mapped.get(role, ()))


def moment(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(name)
    return float(value)


@lru_cache
def verifier() -> Verifier | None:
    """The process's verifier; None where no issuer is set."""
    conf = settings()
    return None if conf.oidc_issuer is None else Verifier(conf, KeySet(str(conf.oidc_jwks_url)))
