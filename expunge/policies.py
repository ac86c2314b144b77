"""A policy as it was read: with the mark under which it may be replaced."""

from expunge.models import PolicyView


class Policy(PolicyView):
    """The policy in force. Change `policy`, and put it back under `etag`."""

    etag: str
