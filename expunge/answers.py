"""What an answer means: a shape, or an error with the service's own sentence. No input or output happens here."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from expunge.bodies import faults
from expunge.errors import ExpungeError, NotUnderstood, Unavailable, kind_of
from expunge.retries import READING, Fate, next_step

T = TypeVar("T")
PROBLEM, PAGE = "application/problem+json", "text/html"
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
        raise strange(response, faults(error)) from None
    return made


def of_type(response: httpx.Response, *wanted: str) -> httpx.Response:
    """The answer, if it is of a media type that was asked for: a proxy's page may have a status of 200 too.

    Where none is named, it may be of any type but a page's.
    """
    found = media(response)
    if found not in wanted if wanted else found == PAGE:
        raise strange(response, f"it is of the type {found[:60]!r}")
    return response


def as_json(response: httpx.Response, wanted: str = "application/json") -> Any:
    """The answer's JSON, of no shape that this client knows."""
    try:
        return of_type(response, wanted).json()
    except ValueError:
        raise strange(response, "it is no JSON") from None


def empty(response: httpx.Response) -> None:
    """Of something that was removed nothing is left to be told."""
    if response.status_code != httpx.codes.NO_CONTENT:
        raise strange(response, f"its status is {response.status_code} instead of 204")


def strange(response: httpx.Response, why: str) -> NotUnderstood:
    """What to say of an answer that means success and is not the service's."""
    request = response.request
    error = NotUnderstood(
        f"The answer of {request.url.path} is not what this client expects ({why}). Is a proxy in between, or is the "
        "service of a much later release?",
        status=response.status_code,
        request_id=response.headers.get("x-request-id") or request.headers.get("x-request-id"),
        idempotency_key=request.headers.get("idempotency-key"),
    )
    if request.method not in READING:
        error.add(f"It says that it was carried out: {next_step(error.idempotency_key)}")
    return error


def media(response: httpx.Response) -> str:
    """The answer's type, without its parameters."""
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


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
    if media(response) != PROBLEM:
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
    except (ValueError, OverflowError):  # a year that no date has
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
