"""A policy as it was read: with the mark under which it may be replaced."""

from collections.abc import Mapping
from typing import Any

from expunge.models import PolicyBody, PolicyView


class Policy(PolicyView):
    """The policy in force. Change `policy`, and put it back under `etag`."""

    etag: str


def written(policy: PolicyBody | Mapping[str, Any]) -> dict[str, Any]:
    """A policy as it is sent. What was left out is left to the service: its defaults, not those that this client knows.

    A default that was changed in its place (`body.thresholds.ue = 0.1`) was not left out.
    """
    if not isinstance(policy, PolicyBody):
        return dict(policy)
    given = policy.model_dump(mode="json", exclude_unset=True)
    return differing(policy.model_dump(mode="json"), PolicyBody().model_dump(mode="json")) | given


def differing(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The values that are not the defaults, however deep."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(value, dict) and isinstance(default, dict) and value != default:
            found[name] = differing(value, default)
        elif value != default:
            found[name] = value
    return found
