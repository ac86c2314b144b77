"""The digest by which the log holds a verdict to what was measured: logged with it, recomputed by whoever checks."""

import hashlib
from typing import Any

from expunge.evidence.dsse import canonical

PARTS = ("method", "statistics", "thresholds")


def measured_sha256(verdict: dict[str, Any]) -> str:
    """Of the parts that decide: how, what came out, held against what. `verdict` may have more."""
    return hashlib.sha256(canonical(plain({name: verdict[name] for name in PARTS}))).hexdigest()


def plain(value: Any) -> Any:
    """The value as it is after any journey through JSON: a number that is whole is an integer, however it was written."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: plain(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inside) for inside in value]
    return value
