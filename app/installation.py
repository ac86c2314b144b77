"""Secrets of the installation: from the environment, else from files that `expunge up` keeps in its data folder."""

import os
import secrets
from enum import StrEnum
from pathlib import Path

from app.config import settings

SECRET_BYTES = 32


class Secret(StrEnum):
    """What each is for; the word is also its file's name."""

    WEBHOOKS = "webhook-secret"
    SIGNING = "signing-secret"


def secret(named: Secret) -> bytes | None:
    """What its variable says, else what its file does; None where there is neither."""
    configured = settings().webhook_secret if named is Secret.WEBHOOKS else settings().signing_secret
    if configured is not None:
        return configured.get_secret_value().encode()
    try:
        return kept(settings().home, named).read_bytes() or None
    except FileNotFoundError:
        return None


def kept(home: Path, named: Secret) -> Path:
    """The file with the secret of an installation on one machine."""
    return home / named


def make_files(home: Path) -> None:
    """Make up the secrets of an installation on one machine, once: for its owner alone, whole or not at all."""
    for named in Secret:
        if kept(home, named).exists():
            continue
        fresh = home / f".{named}-{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(SECRET_BYTES))
        fresh.rename(kept(home, named))
