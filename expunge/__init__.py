"""The Python client of the service: `expunge.Client`, and `expunge.AsyncClient` for code that awaits.

Errors and settings are here at once; a client, and the libraries it stands on, are imported when one is first named.
"""

from typing import TYPE_CHECKING, Any

from expunge.errors import (
    Conflict,
    Corrupt,
    ExpungeError,
    Forbidden,
    Gone,
    InFlight,
    NotConfigured,
    NotFound,
    NotUnderstood,
    PreconditionFailed,
    PreconditionRequired,
    Quarantined,
    SecondPerson,
    StillOpen,
    TooLarge,
    TooMany,
    TooSlow,
    Unauthenticated,
    Unavailable,
    Unprocessable,
)
from expunge.retries import Retry

if TYPE_CHECKING:
    from expunge.aio.client import AsyncClient
    from expunge.sync.client import Client

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name == "AsyncClient":
            from expunge.aio.client import AsyncClient

            return AsyncClient
        if name == "Client":
            from expunge.sync.client import Client

            return Client
        if name == "__version__":
            from expunge.release import release

            return release()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "Corrupt",
    "ExpungeError",
    "Forbidden",
    "Gone",
    "InFlight",
    "NotConfigured",
    "NotFound",
    "NotUnderstood",
    "PreconditionFailed",
    "PreconditionRequired",
    "Quarantined",
    "Retry",
    "SecondPerson",
    "StillOpen",
    "TooLarge",
    "TooMany",
    "TooSlow",
    "Unauthenticated",
    "Unavailable",
    "Unprocessable",
]
