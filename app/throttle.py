"""Token buckets by name, in this process: how soon somebody may do something again.

A bucket holds a minute's worth of tokens and fills evenly. Several API processes have buckets each, so that a limit
holds for every process on its own: exact limits are rows in Postgres.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_NAMES = 100_000
"""Names remembered at once. The one not seen for longest is forgotten first; forgotten means full."""


class Buckets:
    """Token buckets of which each is made full, when its name is first seen."""

    def __init__(self, most: int = MOST_NAMES, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.clock = most, clock
        self.lock = threading.Lock()
        self.levels: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()

    def wait(self, name: tuple[str, ...], per_minute: int) -> float:
        """Seconds until the bucket holds a token: 0 when it holds one. Takes none."""
        with self.lock:
            return self.lacking(self.level(name, per_minute)[0], per_minute)

    def take(self, name: tuple[str, ...], per_minute: int) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one."""
        with self.lock:
            level, now = self.level(name, per_minute)
            wait = self.lacking(level, per_minute)
            if not wait:
                self.levels[name] = (level - 1, now)
                self.levels.move_to_end(name)
                if len(self.levels) > self.most:
                    self.levels.popitem(last=False)
            return wait

    def level(self, name: tuple[str, ...], per_minute: int) -> tuple[float, float]:
        now = self.clock()
        level, since = self.levels.get(name, (float(per_minute), now))
        return min(float(per_minute), level + (now - since) * per_minute / 60), now

    def lacking(self, level: float, per_minute: int) -> float:
        return max(0.0, (1 - level) * 60 / per_minute)


class Recent:
    """Names seen lately, so many of them."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self.most, self.lock = most, threading.Lock()
        self.names: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, name: bytes) -> bool:
        return name in self.names

    def add(self, name: bytes) -> None:
        with self.lock:
            self.names[name] = None
            self.names.move_to_end(name)
            if len(self.names) > self.most:
                self.names.popitem(last=False)

    def discard(self, name: bytes) -> None:
        with self.lock:
            self.names.pop(name, None)
