"""How many CPU cores this process may use."""

import os
from contextlib import suppress
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container, as cgroup v2 shows it inside: microseconds of CPU time a period, or `max`; then the period's length."""


def cores() -> int:
    """The cores that it may run on, or as many as its container's quota pays for where those are fewer; at least one."""
    allowed = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no such file, or `max`: there is no quota
        quota, period = (int(word) for word in QUOTA.read_text().split())
        allowed = min(allowed, quota // period)
    return max(1, allowed)
