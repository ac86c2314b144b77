"""The keys that this installation signs evidence with."""

from functools import lru_cache

from app.errors import NotConfigured
from app.installation import Secret, secret
from expunge.evidence.keys import SigningKeys


@lru_cache(maxsize=2)
def derived(found: bytes) -> SigningKeys:
    return SigningKeys(found)


def configured() -> bool:
    """Whether this process can sign."""
    return secret(Secret.SIGNING) is not None


def keys() -> SigningKeys:
    """Raises `NotConfigured` where the installation has no secret to derive them from."""
    found = secret(Secret.SIGNING)
    if found is None:
        raise NotConfigured(
            "Signed evidence needs EXPUNGE_SIGNING_SECRET on API and light worker: 32 characters or more, the same on each."
        )
    return derived(found)
