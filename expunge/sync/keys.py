"""The keeper's seat: keys, by an administrator."""

from collections.abc import Iterable

from expunge.address import part
from expunge.answers import empty
from expunge.bodies import checked
from expunge.models import KeyMade, KeyRequest, KeyView, RotateRequest, Scope
from expunge.sync.http import Http


class Keys:
    """API keys. A secret is in the answer that makes it, and nowhere else."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def all(self, client: str | None = None) -> list[KeyView]:
        """All keys, or one client's; those that ended too."""
        return self.http.get(list[KeyView], "/keys", client=client)

    def create(
        self,
        client: str,
        scopes: Iterable[Scope | str],
        *,
        days: float | None = None,
        requests_per_minute: int | None = None,
        ids_per_day: int | None = None,
    ) -> KeyMade:
        """Make a key. The answer holds it; the service keeps a digest only."""
        with checked():
            asked = KeyRequest(
                client=client,
                scopes=list(scopes),
                days=days,
                requests_per_minute=requests_per_minute,
                ids_per_day=ids_per_day,
            )
        return self.http.post(KeyMade, "/keys", asked)

    def rotate(self, prefix: str, *, overlap_days: float = 7) -> KeyMade:
        """A new key with the client, scopes, limits and term of this one, which ends after the overlap."""
        with checked():
            asked = RotateRequest(overlap_days=overlap_days)
        return self.http.post(KeyMade, f"/keys/{part(prefix)}/rotate", asked)

    def revoke(self, prefix: str) -> None:
        """Close a key at once."""
        empty(self.http.call("DELETE", f"/keys/{part(prefix)}"))
