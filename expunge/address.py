"""Where the service is, and the key that opens it: from arguments or the environment, looked at before anything is sent."""

import os
import re
from urllib.parse import quote, urlsplit

import httpx
from pydantic import SecretStr

from expunge.errors import ExpungeError, NotFound, Unauthenticated

URL_VARIABLE, KEY_VARIABLE = "EXPUNGE_API_URL", "EXPUNGE_API_KEY"
HERE = "http://127.0.0.1:8420"
"""Where `expunge up` listens unless it is told otherwise."""
SENDABLE = re.compile(r"[!-~]+")
"""What a header can carry; an empty variable or a mangled key cannot be one of ours."""


def address(given: str | None) -> str:
    """The service's address without a slash at its end."""
    url = (given if given is not None else os.environ.get(URL_VARIABLE) or HERE).strip().rstrip("/")
    refused = ExpungeError(f"Set {URL_VARIABLE} to the service's address, such as https://expunge.example.org.")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
        httpx.URL(url)
        (parts.hostname or "").encode("idna")  # as the look-up of its address will
    except (ValueError, httpx.InvalidURL):  # a port that is no number, a host that can be none, a control character
        raise refused from None
    if not whole or parts.query or parts.fragment:
        raise refused
    if parts.username is not None or parts.password is not None:  # they would be sent instead of the key, and logged
        raise ExpungeError(f"Leave user and password out of {URL_VARIABLE}: the key alone opens the service.")
    return url


def sealed(given: str | SecretStr | None) -> SecretStr | None:
    """A key that was given, wrapped so that no repr, traceback or log line prints it."""
    return given if given is None or isinstance(given, SecretStr) else SecretStr(given)


def key(given: SecretStr | None) -> SecretStr:
    """The key that was given, or the environment's. No variable here holds its text: a traceback may show them all."""
    found = given if given is not None else SecretStr(os.environ.get(KEY_VARIABLE, ""))
    found = SecretStr(found.get_secret_value().strip())
    if not SENDABLE.fullmatch(found.get_secret_value()):
        raise Unauthenticated(
            f"Set {KEY_VARIABLE} to your key; `expunge keys create` makes one on the service's machine."
        )
    return found


def part(name: object) -> str:
    """A name that somebody typed, as one part of a path: whatever it holds, it leads nowhere else.

    A slash would, though it is sent encoded: proxies and servers decode it before they look where a path leads.
    """
    text = str(name)
    if text in ("", ".", "..") or "/" in text or "\\" in text:
        raise NotFound(f"Nothing is called {text[:80]!r}.")
    try:
        return quote(text, safe="@:+")
    except UnicodeEncodeError:  # a lone surrogate
        raise NotFound("Nothing is called so: the name is no text that can be sent.") from None
