"""The keeper's seat: keys, by an administrator. A secret is in the answer that makes it, and nowhere else."""

from typing import Annotated

from fastapi import APIRouter, Path

from app import keys, views
from app.auth import Admin
from app.db import transaction
from app.schemas import KeyMade, KeyRequest, KeyView, RotateRequest

router = APIRouter(prefix="/keys", tags=["keys"])
Prefix = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="The part between `exp_` and the second `_`")]


@router.get("")
def page(who: Admin, client: str | None = None) -> list[KeyView]:
    """All keys, or one client's, with when each was last used; those that ended too."""
    with transaction() as session:
        return [views.key(row) for row in keys.listing(session, client)]


@router.post("", status_code=201)
def create(asked: KeyRequest, who: Admin) -> KeyMade:
    """Make a key. The answer holds it; the service keeps a digest only."""
    limits = keys.Limits(asked.requests_per_minute, asked.ids_per_day)
    with transaction() as session:
        made = keys.create(session, asked.client, asked.scopes, asked.days, who.client, limits)
        return views.key_made(made)


@router.post("/{prefix}/rotate", status_code=201)
def rotate(prefix: Prefix, asked: RotateRequest, who: Admin) -> KeyMade:
    """A new key with the client, scopes, limits and term of this one, which ends after the overlap."""
    with transaction() as session:
        return views.key_made(keys.rotate(session, prefix, asked.overlap_days, who.client))


@router.delete("/{prefix}", status_code=204)
def revoke(prefix: Prefix, who: Admin) -> None:
    """Close a key at once."""
    with transaction() as session:
        keys.revoke(session, prefix, who.client)
