"""The keeper's seat: keys, by an administrator."""

from collections.abc import Iterable

from expunge.address import part
from expunge.aio.http import Http
from expunge.answers import empty
from expunge.bodies import checked
from expunge.models import KeyMade, KeyRequest, KeyView, RotateRequest, Scope


class Keys:
    """API keys. A secret is in the answer that makes it, and nowhere else."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def all(self, client: str | None = None) -> list[KeyView]:
        """All keys, or one client's; those that ended too."""
        return await self.http.get(list[KeyView], "/keys", client=client)

    async def create(
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
        return await self.http.post(KeyMade, "/keys", asked)

    async def rotate(self, prefix: str, *, overlap_days: float = 7) -> KeyMade:
        """A new key with the client, scopes, limits and term of this one, which ends after the overlap."""
        with checked():
            asked = RotateRequest(overlap_days=overlap_days)
        return await self.http.post(KeyMade, f"/keys/{part(prefix)}/rotate", asked)

    async def revoke(self, prefix: str) -> None:
        """Close a key at once."""
        empty(await self.http.call("DELETE", f"/keys/{part(prefix)}"))
