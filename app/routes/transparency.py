"""The log's signed heads, proofs against them, and the keys: for whoever watches that nothing is rewritten."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field
from sqlalchemy import select

from app import checkpoints
from app.auth import MayAudit
from app.db import transaction
from app.errors import NotConfigured, NotFound, may_answer
from app.tables import SigningKey
from expunge.evidence import notes
from expunge.evidence.keys import PublicKeys

router = APIRouter(prefix="/audit", tags=["log"])
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Query(ge=1, description="Events in the tree, up to the newest checkpoint's")]


class InclusionProof(BaseModel):
    """RFC 9162, 2.1.3: that an event is in the log of the first `size` events. Hashes in hexadecimal."""

    seq: int = Field(description="Counted from 1; its index as a leaf is one less")
    size: int
    leaf: Hash
    path: list[Hash]


class ConsistencyProof(BaseModel):
    """RFC 9162, 2.1.4: that the log of `second` events begins with the log of `first`. Hashes in hexadecimal."""

    first: int
    second: int
    path: list[Hash]


class SigningKeyView(BaseModel):
    fingerprint: Hash = Field(description="SHA-256 of the Ed25519 key's DER encoding")
    statements: str = Field(description="PEM: what checkpoints, attestations, receipts and statements are signed with")
    weights: str = Field(description="PEM: what weights are signed with, for `model_signing verify key`")
    verifier: str = Field(description="The key as tools for signed notes take it, under the log's present origin")
    current: bool
    since: datetime = Field(description="When it first signed something")


@router.get("/checkpoint", response_class=PlainTextResponse, responses=may_answer(NotConfigured))
def checkpoint(who: MayAudit) -> PlainTextResponse:
    """The newest signed head of the log (C2SP tlog-checkpoint)."""
    with transaction() as session:
        note = checkpoints.latest(session).note
    return PlainTextResponse(note, headers={"Cache-Control": "no-store"})


@router.get("/inclusion", responses=may_answer(NotFound))
def inclusion(who: MayAudit, seq: Annotated[int, Query(ge=1)], size: Size) -> InclusionProof:
    """That event `seq` is in the log of the first `size` events."""
    with transaction() as session:
        found = checkpoints.inclusion(session, seq, size)
    return InclusionProof(seq=seq, size=size, leaf=found.leaf.hex(), path=[step.hex() for step in found.path])


@router.get("/consistency", responses=may_answer(NotFound))
def consistency(who: MayAudit, first: Size, second: Size) -> ConsistencyProof:
    """That the log of `second` events begins with the log of `first`: nothing in it was changed, removed or put between."""
    with transaction() as session:
        path = checkpoints.consistency(session, first, second)
    return ConsistencyProof(first=first, second=second, path=[step.hex() for step in path])


@router.get("/keys", responses=may_answer(NotConfigured))
def keys(who: MayAudit) -> list[SigningKeyView]:
    """The public keys that evidence is or was signed with, the present one first."""
    with transaction() as session:
        current, origin = checkpoints.covering(session, 0).key, checkpoints.origin(session)
        found = session.scalars(select(SigningKey).order_by(SigningKey.since.desc())).all()
    made = [view(row, origin, row.fingerprint == current) for row in found]
    return sorted(made, key=lambda key: not key.current)


def view(row: SigningKey, origin: str, current: bool) -> SigningKeyView:
    public = PublicKeys.read(row.statements.encode(), row.weights.encode())
    return SigningKeyView(
        fingerprint=row.fingerprint,
        statements=row.statements,
        weights=row.weights,
        verifier=notes.verifier_key(origin, public.raw),
        current=current,
        since=row.since,
    )
