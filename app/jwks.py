"""An identity provider's public keys: fetched, kept, fetched again; used on for a day while the provider is away."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.errors import Unavailable

log = structlog.get_logger()

FRESH_SECONDS = 600.0
PAUSE_SECONDS = 60.0
"""Between two fetches, whatever made-up key ids tokens name."""
STALE_SECONDS = 24 * 3600.0
TIMEOUT = httpx.Timeout(5.0, connect=3.0)
LARGEST = 256 * 1024
LEAST_RSA_BITS = 2048
CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


def fits(found: jwt.PyJWK, algorithm: str) -> bool:
    """Whether the key is of the kind that the algorithm needs, and large enough."""
    key = found.key
    if algorithm[:2] in ("RS", "PS"):
        return isinstance(key, RSAPublicKey) and key.key_size >= LEAST_RSA_BITS
    if algorithm in CURVES:
        return isinstance(key, EllipticCurvePublicKey) and key.curve.name == CURVES[algorithm]
    return algorithm == "EdDSA" and isinstance(key, Ed25519PublicKey)


class KeySet:
    """The keys at one address, by key id."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.url, self.clock = url, clock
        self.lock = threading.Lock()
        self.keys: dict[str, jwt.PyJWK] = {}
        self.fetched: float | None = None
        self.tried: float | None = None

    def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of that id, None when the provider has no such key. Raises `Unavailable` when nobody can tell."""
        if self.wants_fetch(kid):
            with self.lock:
                if self.wants_fetch(kid):  # the one who held the lock may have fetched
                    self.fetch()
        if self.fetched is None or self.clock() - self.fetched > STALE_SECONDS:
            raise away()
        found = self.keys.get(kid)
        if found is None and self.tried is not None and self.tried > self.fetched:
            raise away()  # it may be a new one
        return found

    def wants_fetch(self, kid: str) -> bool:
        now = self.clock()
        if self.tried is not None and now - self.tried < PAUSE_SECONDS:
            return False
        return kid not in self.keys or self.fetched is None or now - self.fetched > FRESH_SECONDS

    def fetch(self) -> None:
        """Replace the keys by those the provider has now; on any failure the old ones stay."""
        self.tried = self.clock()
        try:
            self.keys = signing_keys(download(self.url))
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            log.warning("jwks.lost", error=type(error).__name__)
            return
        self.fetched = self.tried


def download(url: str) -> Any:
    """The JSON at the address: no redirect followed, no more read than a key set can have."""
    body = b""
    with httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=False) as answer:
        if answer.status_code != 200:
            raise ValueError("the provider did not answer with keys")
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > LARGEST:
                raise ValueError("too long for a key set")
    return json.loads(body)


def signing_keys(said: Any) -> dict[str, jwt.PyJWK]:
    """Public keys for signatures by their id; what is of another kind, or broken, is left out."""
    if not isinstance(said, dict) or not isinstance(said.get("keys"), list):
        raise ValueError("not a key set")  # noqa: TRY004 - the provider sent it, no caller of ours
    found: dict[str, jwt.PyJWK] = {}
    for each in said["keys"]:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or not isinstance(each.get("kid"), str):
            continue
        if each.get("kty") not in ("RSA", "EC", "OKP"):
            continue  # a shared secret has no place in a public set
        try:
            found[each["kid"]] = jwt.PyJWK(each)
        except jwt.PyJWTError:
            continue
    return found


def away() -> Unavailable:
    return Unavailable(
        "The identity provider's keys cannot be had. Send the request again later.", headers={"Retry-After": "60"}
    )
