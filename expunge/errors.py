"""What may go wrong between a client and the service: one class a meaning, each with the service's own sentence.

Nothing here holds a key. A message never holds a sample's or a subject's id, because the service's never do.
"""

from typing import Any, ClassVar


class ExpungeError(Exception):
    """Base of everything that this client raises of its own. `detail` says what to do next.

    `code` is the service's stable word for it, `status` that of HTTP, or None where no answer came; `request_id` is what
    the service's log calls the request by; `errors` says what is wrong where in an invalid body. `idempotency_key` is the
    one that was sent, given or made: a call with the same key and body is done once.
    """

    known_as: ClassVar[str] = "error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        retry_after: float | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.known_as
        self.status = status
        self.request_id = request_id
        self.errors = errors or []
        self.retry_after = retry_after
        self.idempotency_key = idempotency_key

    def add(self, sentence: str) -> None:
        """Let it say more."""
        self.detail += f" {sentence}"
        self.args = (self.detail,)


class Unauthenticated(ExpungeError):
    """No key, or one that is unknown, expired or revoked."""

    known_as = "unauthenticated"


class Forbidden(ExpungeError):
    """The key lacks a scope."""

    known_as = "forbidden"


class SecondPerson(Forbidden):
    """An approval is for somebody else to give."""

    known_as = "second_person"


class NotFound(ExpungeError):
    """There is no such thing, or it is not yours."""

    known_as = "not_found"


class TooSlow(ExpungeError):
    """The body did not reach the service in time."""

    known_as = "too_slow"


class Conflict(ExpungeError):
    """The state does not allow it."""

    known_as = "conflict"


class InFlight(Conflict):
    """The first request with this Idempotency-Key is still being answered."""

    known_as = "in_flight"


class Gone(ExpungeError):
    """Weights that were purged or withdrawn."""

    known_as = "gone"


class PreconditionFailed(ExpungeError):
    """Somebody changed it in the meantime: read it again."""

    known_as = "precondition_failed"


class PreconditionRequired(ExpungeError):
    """It is replaced only by who says which state they read."""

    known_as = "precondition_required"


class TooLarge(ExpungeError):
    """A body or a list of ids is over the service's limit."""

    known_as = "too_large"


class Unprocessable(ExpungeError):
    """The request is not as it must be, or it cannot be done. `errors` says what is wrong where."""

    known_as = "unprocessable"


class TooMany(ExpungeError):
    """Too many requests, or ids a day. `retry_after` is in seconds."""

    known_as = "too_many"


class Unavailable(ExpungeError):
    """No answer came, or the service cannot answer now. `status` is None in the first case."""

    known_as = "unavailable"


class NotConfigured(ExpungeError):
    """The installation lacks a setting that this needs. Waiting does not help."""

    known_as = "not_configured"


class NotUnderstood(ExpungeError):
    """What answered does not speak as the service does: a proxy, another program, or a release that is too far away."""

    known_as = "not_understood"


class Corrupt(ExpungeError):
    """Bytes that do not match their digest. Nothing of them was kept."""

    known_as = "corrupt"


class Quarantined(ExpungeError):
    """What was waited for is held for an operator."""

    known_as = "quarantined"


class StillOpen(ExpungeError):
    """What was waited for had not ended when the time was up. It goes on: wait again."""

    known_as = "still_open"


BY_CODE: dict[str, type[ExpungeError]] = {
    kind.known_as: kind for kind in (SecondPerson, InFlight, NotConfigured, Unavailable)
}
BY_STATUS: dict[int, type[ExpungeError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    408: TooSlow,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
    413: TooLarge,
    422: Unprocessable,
    428: PreconditionRequired,
    429: TooMany,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def kind_of(status: int, code: str | None) -> type[ExpungeError]:
    """The class for an answer: by its code where that says more than its status."""
    return BY_CODE.get(code or "") or BY_STATUS.get(status, ExpungeError)
