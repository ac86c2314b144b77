"""What a request's body is made of, and what is wrong with one, said without its values: they may be somebody's ids."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError

from expunge.errors import Unprocessable

HEADER = re.compile(r"[\t -~]*")


@contextmanager
def checked() -> Iterator[None]:
    """Around the making of a body: what cannot be one is refused as the service would refuse it."""
    try:
        yield
    except ValidationError as error:
        raise Unprocessable(f"{faults(error)}.", code="invalid") from None


def faults(error: ValidationError) -> str:
    """What is wrong where."""
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in found[:3])


def encoded(body: Any) -> bytes:
    """JSON as it is sent."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:  # its text would hold the value
        raise Unprocessable("The body holds what JSON cannot: half a character, or a number that is none.") from None


def sendable(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers, all of which can be sent; bytes are the caller's own."""
    for name, value in headers.items():
        if isinstance(value, str) and not HEADER.fullmatch(value):
            raise Unprocessable(f"{name} cannot be sent: a header holds printable characters of ASCII alone.")
    return dict(headers)


@contextmanager
def addressable() -> Iterator[None]:
    """Around the making of a request: what cannot be in its address is refused, and not repeated."""
    try:
        yield
    except (httpx.InvalidURL, UnicodeEncodeError):
        raise Unprocessable(
            "What is asked for cannot be sent as an address: a name or a filter in it is too long, or holds half a character."
        ) from None


def listed(ids: Iterable[str]) -> list[str]:
    """Ids as a list. A single string would be taken for a list of its letters, so it is refused."""
    if isinstance(ids, str | bytes):
        raise TypeError("samples and subjects are lists of ids: write [an_id] for a single one")
    return list(ids)
