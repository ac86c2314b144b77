"""What this process has answered, by route template. The Prometheus client sums it over the processes of one server."""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
UNROUTED = "(none)"
"""The route of a path that there is not: paths are what a client makes up, and no label may hold them."""

REGISTRY = CollectorRegistry()
ANSWERED = Counter(
    "expunge_http_requests_total",
    "Requests answered, by route template and class of status",
    ["method", "route", "status"],
    registry=REGISTRY,
)
TOOK = Histogram(
    "expunge_http_request_seconds",
    "From a request's first byte to its answer's last",
    ["method", "route"],
    buckets=BOUNDS,
    registry=REGISTRY,
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def count(method: str, route: str | None, status: int, seconds: float) -> None:
    """One answer more."""
    method = method if method in METHODS else "other"
    ANSWERED.labels(method, route or UNROUTED, f"{status // 100}xx").inc()
    TOOK.labels(method, route or UNROUTED).observe(seconds)


def registry() -> CollectorRegistry:
    """Where these are read: of all processes of this server where PROMETHEUS_MULTIPROC_DIR names their folder, else of this
    one, which is all there is then."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]  # the package leaves this class untyped
    return shared
