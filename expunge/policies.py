"""A policy as it was read: with the mark under which it may be replaced."""

from collections.abc import Mapping
from typing import Any

from expunge.models import PolicyBody, PolicyView


class Policy(PolicyView):
    """The policy in force. Change `policy`, and put it back under `etag`."""

    etag: str


def written(policy: PolicyBody | Mapping[str, Any]) -> dict[str, Any]:
    """A policy as it is sent. A mapping may leave things out: those get the service's defaults."""
    return policy.model_dump(mode="json") if isinstance(policy, PolicyBody) else dict(policy)
