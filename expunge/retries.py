"""When a request is sent again, and how long to wait before that: bounded in number and time, and spread by chance."""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from uuid import uuid4

from expunge.errors import ExpungeError, InFlight, TooMany, Unavailable, Unprocessable

READING = ("GET", "HEAD", "OPTIONS")
"""Methods that ask for no change."""
PRINTABLE = re.compile(r"[ -~]{1,255}")
INVALID = (400, 413, 422)
"""What is refused in this way is so at every try: none of them was carried out."""


@dataclass(frozen=True)
class Retry:
    """How often and how long a request is tried. `Retry(tries=1)` never sends anything twice."""

    tries: int = 5
    """At most so many times, the first included."""
    seconds: float = 60.0
    """No try begins later than this after the first failure: a first try may take as long as its time-outs let it."""
    first: float = 0.5
    """Longest pause before the second try; twice as long before each one after it."""
    longest: float = 10.0
    """No pause of our own is longer. One that the service asks for (Retry-After) may be, within `seconds`."""

    def __post_init__(self) -> None:
        if self.tries < 1 or min(self.seconds, self.first, self.longest) < 0:
            raise ValueError("a Retry has at least one try, and no negative times")


class Fate(Enum):
    """What may have become of a request that was not answered with success."""

    UNSENT = "no connection was made: nothing was received"
    REFUSED = "the service said no: nothing was done"
    UNKNOWN = "it may have been received and carried out"


class Tries:
    """The tries of one request: how many there were, and whether there is another.

    `until` is when the last of them begins at the latest, whatever `retry` allows. `changes`: the request asks for a change.
    """

    def __init__(
        self,
        retry: Retry,
        *,
        repeatable: bool,
        changes: bool = True,
        until: float | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.retry, self.repeatable, self.changes, self.draw = retry, repeatable, changes, draw
        self.until = math.inf if until is None else until
        self.made, self.doubtful = 0, False

    def pause(self, failure: ExpungeError, fate: Fate, now: float) -> float | None:
        """Seconds until the next try, or None: then `failure` is the answer.

        What is not repeatable is sent again only where nothing of it can have arrived.
        """
        if not self.made:
            self.until = min(self.until, now + self.retry.seconds)
        self.made += 1
        self.doubtful |= fate is Fate.UNKNOWN
        if fate is not Fate.UNSENT and not (self.repeatable and isinstance(failure, TooMany | Unavailable | InFlight)):
            return None
        longest = min(self.retry.longest, self.retry.first * 2.0 ** min(self.made - 1, 32))
        wait = self.draw() * longest + (failure.retry_after or 0.0)
        if self.made >= self.retry.tries or now + wait > self.until:
            return None
        return wait

    def outcome(self, failure: ExpungeError) -> ExpungeError:
        """What to raise: the last failure. Where any try may have been carried out all the same, it says so.

        A refusal may be the echo of an earlier try, which nobody saw the answer of.
        """
        if self.changes and self.doubtful and failure.status not in INVALID:
            which = "It" if self.made == 1 else "An earlier try of this same request"
            failure.add(f"{which} may have been carried out: {next_step(failure.idempotency_key)}")
        return failure


def next_step(key: str | None) -> str:
    """What to do where a change may have been made and nobody knows."""
    if key is None:
        return "look before you send it again."
    return "a call with the same Idempotency-Key is safe, and done once."


def idempotency(key: str | None) -> dict[str, str]:
    """The header under which a POST may be sent twice and is done once: made for this call where no key is given."""
    if key is not None and not PRINTABLE.fullmatch(key):
        raise Unprocessable("An Idempotency-Key is 1 to 255 printable characters of ASCII.")
    return {"Idempotency-Key": str(uuid4()) if key is None else key}
