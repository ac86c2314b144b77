"""One class per meaning; status, code and title live on the class. No message ever carries a sample or subject id."""

import math
import traceback
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, ClassVar


class ServiceError(Exception):
    """Base of everything a caller is told about. `detail` says what to do next."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}


class OldSchema(ServiceError):
    status, code, title = 503, "old_schema", "The database schema is not the one this code needs"


class Unauthenticated(ServiceError):
    status, code, title = 401, "unauthenticated", "No valid API key"


class Forbidden(ServiceError):
    status, code, title = 403, "forbidden", "The key lacks a scope"


class ForeignForm(Forbidden):
    code, title = "foreign_form", "The form is not one of this session's pages"


class SecondPerson(Forbidden):
    code, title = "second_person", "Somebody else must decide"


class NotFound(ServiceError):
    status, code, title = 404, "not_found", "Not found"


class Gone(ServiceError):
    status, code, title = 410, "gone", "No longer kept"


class Conflict(ServiceError):
    status, code, title = 409, "conflict", "The state does not allow it"


class InFlight(ServiceError):
    status, code, title = 409, "in_flight", "A request with this Idempotency-Key is still being answered"


class PreconditionFailed(ServiceError):
    status, code, title = 412, "precondition_failed", "Somebody changed it in the meantime"


class PreconditionRequired(ServiceError):
    status, code, title = 428, "precondition_required", "If-Match is required"


class TooLarge(ServiceError):
    status, code, title = 413, "too_large", "Too large"


class TooSlow(ServiceError):
    status, code, title = 408, "too_slow", "The request did not come in time"


class TooMany(ServiceError):
    """Somebody asks too often. The answer says when to come back, in whole seconds."""

    status, code, title = 429, "too_many", "Too many requests"

    def __init__(self, detail: str, wait: float) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, math.ceil(wait)))})


class Unprocessable(ServiceError):
    status, code, title = 422, "unprocessable", "Understood, but it cannot be done"


class Invalid(ServiceError):
    status, code, title = 422, "invalid", "The request is not as it must be"


class KeyReused(Unprocessable):
    code, title = "idempotency_key_reused", "The Idempotency-Key was used with another body"


class NothingKnown(Unprocessable):
    code, title = "nothing_known", "None of the ids is in the dataset's manifest"


class BadManifest(Unprocessable):
    code, title = "bad_manifest", "The manifest cannot be loaded"


class BadCron(Unprocessable):
    code, title = "bad_cron", "The cron expression does not parse"


class Corrupt(ServiceError):
    status, code, title = 500, "corrupt_artifact", "An artifact's bytes do not match its digest"


class Unavailable(ServiceError):
    status, code, title = 503, "unavailable", "A server that this needs does not answer"


class NotConfigured(ServiceError):
    status, code, title = 503, "not_configured", "The installation lacks a setting that this needs"


class StaleEpoch(ServiceError):
    """A run that lost its lease, or whose parent is no longer current, tried to write."""

    status, code, title = 409, "stale_epoch", "The run no longer holds its batch"


def pointer(fault: Mapping[str, Any]) -> str:
    """Where the fault is. A field's name is ours and may be said; one that the client made up may be somebody's id."""
    steps = [str(step) for step in fault["loc"]]
    if fault["type"] == "json_invalid":
        steps.pop()  # a place in the text, which `words` names, and none in the document
    if fault["type"] == "extra_forbidden":
        steps[-1] = "?"
    return "/" + "/".join(steps)


def words(fault: Mapping[str, Any]) -> str:
    """Pydantic's sentence, which names limits and choices but not the input; JSON errors say where, not what."""
    if fault["type"] == "json_invalid":
        return f"not JSON (at character {fault['loc'][-1]})"
    if fault["type"] == "extra_forbidden":
        return "no such field; see /docs for those there are"
    if fault["type"] == "model_attributes_type" and fault["loc"] == ("body",):
        return "must be a JSON object, sent with Content-Type: application/json"
    return str(fault["msg"]).removeprefix("Value error, ")


def may_answer(*kinds: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI schema: what a route's own work may refuse, beside what every route may."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        before = found.get(kind.status)
        found[kind.status] = {"description": f"{before['description']}; {kind.title}" if before else kind.title}
    return found


def whereabouts(error: BaseException) -> str:
    """What an unforeseen error was and where it arose, without its text: that may hold somebody's id."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    place = frames[-1]
    return f"{type(error).__name__} in {PurePath(place.filename).name}:{place.lineno} ({place.name})"
