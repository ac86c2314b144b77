"""Looking at something until it has ended: once it was seen, a service that is away for a while ends no wait."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from expunge.aio.http import Http
from expunge.answers import parsed
from expunge.errors import ExpungeError, StillOpen, TooMany, Unavailable
from expunge.retries import Retry
from expunge.waiting import Patience

ONCE = Retry(tries=1)


class Stated(Protocol):
    @property
    def state(self) -> str: ...


T = TypeVar("T", bound=Stated)


async def look(
    http: Http,
    kind: type[T],
    path: str,
    ended: Callable[[T], bool],
    *,
    called: str,
    timeout: float | None,
    longest: float,
    progress: Callable[[T], None] | None,
) -> T:
    """What is at `path` once it has ended. Raises `StillOpen` after `timeout` seconds.

    The first look fails as any request does: then nothing is known, and the address may be wrong. Later ones are tried
    once each, since the next one comes anyway. None takes longer than the time that is left.
    """
    patience = Patience(timeout, longest, http.clock())
    seen: T | None = None
    while True:
        failure: ExpungeError | None = None
        try:
            once = None if seen is None else ONCE
            seen = parsed(await http.call("GET", path, retry=once, until=patience.until), kind)
        except (Unavailable, TooMany) as error:
            if seen is None:
                raise
            failure = error
        else:
            if progress is not None:
                progress(seen)
            if ended(seen):
                return seen
        pause = patience.pause(http.clock(), failure.retry_after if failure else None)
        if pause is None:
            raise StillOpen(still_open(called, seen.state, timeout or 0.0, failure)) from None
        await http.sleep(pause)


def still_open(called: str, state: str, timeout: float, failure: ExpungeError | None) -> str:
    if failure is None:
        return f"{called} is {state} after {timeout:g} s, and goes on: wait for it again."
    last = f"{called} was {state} when it was last seen; after {timeout:g} s it cannot be seen"
    return f"{last}: {failure.detail} Wait for it again."
