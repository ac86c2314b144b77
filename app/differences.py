"""What differs between two policies, value by value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.policy import stored


@dataclass(frozen=True)
class Difference:
    """One value, by its path, before and after; None where it was not there."""

    path: str
    before: Any
    after: Any


def values(body: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a policy with its path, such as `thresholds.mu`."""
    for name, found in body.items():
        if isinstance(found, dict) and found:
            yield from values(found, f"{above}{name}.")
        else:
            yield above + name, found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """What of two policies differs, in the order of the second. What an older release left out had the default of today."""
    old, new = (dict(values(stored(body).model_dump(mode="json"))) for body in (before, after))
    paths = dict.fromkeys([*new, *old])
    return [Difference(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]
