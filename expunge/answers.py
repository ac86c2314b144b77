"""What an answer means: a shape, or an error with the service's own sentence. No input or output happens here."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from expunge.bodies import faults
from expunge.errors import ExpungeError, NotUnderstood, Unavailable, kind_of
from expunge.retries import Fate

T = TypeVar("T")
PROBLEM = "application/problem+json"
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


@lru_cache(maxsize=256)
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What checks a body; made once for each shape."""
    return TypeAdapter(kind)


def parsed(response: httpx.Response, kind: type[T]) -> T:
    """The answer's body as what it should be."""
    wanted: Any = kind
    try:
        made: T = adapter(wanted).validate_json(response.content)
    except ValidationError as error:
        raise NotUnderstood(
            f"The answer of {response.request.url.path} is not what this client expects ({faults(error)}). Is a proxy in "
            "between, or is the service of a much later release?",
            status=response.status_code,
            request_id=response.headers.get("x-request-id"),
        ) from None
    return made


def refusal(response: httpx.Response) -> tuple[ExpungeError, Fate]:
    """The problem that a refusal tells of, or its status where it tells of none. The body must have been read."""
    status = response.status_code
    said = problem(response)
    code, detail = said.get("code"), said.get("detail")
    known = isinstance(code, str) and isinstance(detail, str)
    if not known:
        detail = f"The service answered {status} {response.reason_phrase}."
        if response.is_redirect or status in (404, 405):
            detail += " Is EXPUNGE_API_URL its address?"
    listed = said.get("errors")
    error = kind_of(status, code if known else None)(
        str(detail),
        code=str(code) if known else f"http_{status}",
        status=status,
        request_id=said.get("request_id") or response.headers.get("x-request-id"),
        errors=listed if isinstance(listed, list) else None,
        retry_after=retry_after(response.headers.get("retry-after")),
    )
    # What the service says itself is true of it; what stands before it may have passed the request on.
    return error, Fate.UNKNOWN if status >= 500 and not known else Fate.REFUSED


def problem(response: httpx.Response) -> dict[str, Any]:
    """RFC 9457's object, empty where the answer is none."""
    if response.headers.get("content-type", "").partition(";")[0].strip() != PROBLEM:
        return {}
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After, which may be a date; None where there is none or it cannot be read."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if value.strip().isdigit() else until(parsedate_to_datetime(value))
    except ValueError:
        return None


def until(when: datetime) -> float:
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def lost(error: httpx.RequestError, base: str) -> tuple[Unavailable, Fate]:
    """What to say where no whole answer came."""
    name = type(error).__name__
    if isinstance(error, UNSENT):
        return Unavailable(f"No service answers at {base} ({name}). Is it up, and is that its address?"), Fate.UNSENT
    return Unavailable(f"The connection to {base} broke off before the answer was whole ({name})."), Fate.UNKNOWN
