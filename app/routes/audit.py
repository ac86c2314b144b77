"""The reviewer's seat: why a version may be trusted, in whichever form, and what was served when."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app import evidence, pages, versions
from app.auth import MayAudit
from app.db import transaction
from app.errors import Forbidden, NotConfigured, NotFound, Unprocessable, may_answer
from app.evidence import paper, parcel
from app.evidence.bom import bom
from app.evidence.comparison import Comparison
from app.evidence.serving import Serving, serving
from app.evidence.weights import signature
from app.routes.models import Reference
from app.routes.pages import shell
from app.scopes import Scope
from expunge.evidence import bundle

router = APIRouter(prefix="/models", tags=["models"])
Predicate = Literal["provenance", "test-result", "svr"]


class Form(StrEnum):
    """What the audit comes as: the short name is for links, the media type for the Accept header."""

    JSON = "json"
    HTML = "html"
    IN_TOTO = "in-toto"
    ATTESTATIONS = "attestations"
    CYCLONEDX = "cyclonedx"
    PDF = "pdf"
    ZIP = "zip"

    @property
    def media(self) -> str:
        return MEDIA[self]


MEDIA = {
    Form.JSON: "application/json",
    Form.HTML: "text/html",
    Form.IN_TOTO: "application/vnd.in-toto+json",
    Form.ATTESTATIONS: "application/vnd.in-toto.bundle",
    Form.CYCLONEDX: "application/vnd.cyclonedx+json",
    Form.PDF: "application/pdf",
    Form.ZIP: "application/zip",
}
KEPT_AS = {
    Form.IN_TOTO: ".intoto.json",
    Form.ATTESTATIONS: ".intoto.jsonl",
    Form.CYCLONEDX: ".cdx.json",
    Form.ZIP: "-evidence.zip",
}
"""Of forms that a browser does not show, how the file's name ends."""
SIGNED = {Form.IN_TOTO, Form.ATTESTATIONS, Form.ZIP}
SHAPES = {
    kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA.values() if kind != MEDIA[Form.JSON]
}
SAYS = "The report, its attestations, or all of it as an evidence bundle"


def wanted(form: Form | None, accept: str) -> Form:
    """What a link asks for by name, else what the header prefers."""
    if form is not None:
        return form
    kind = pages.preferred(accept, list(MEDIA.values()))
    return next(each for each in Form if each.media == kind)


@router.get(
    "/{reference}/audit",
    response_model=evidence.Report,
    responses=may_answer(NotConfigured) | {200: {"content": SHAPES, "description": SAYS}},
)
def audit(
    reference: Reference,
    request: Request,
    who: MayAudit,
    accept: Annotated[str, Header()] = "application/json",
    form: Annotated[Form | None, Query(alias="format", description="Instead of the Accept header, for links")] = None,
    predicate: Annotated[Predicate, Query(description="Which attestation `application/vnd.in-toto+json` is")] = "svr",
) -> Response:
    """Why this version may be trusted, and what the report does not promise."""
    chosen = wanted(form, accept)
    headers = {"Vary": "Accept", "Cache-Control": "no-store"}
    with transaction() as session:
        version = versions.resolve(session, reference)
        found = parcel.gather(session, version) if chosen in SIGNED else None
        report = found.report if found is not None else evidence.report(session, version)
    if chosen is Form.HTML:
        return in_frame(request, "audit.html", report, headers)
    if chosen is Form.JSON:
        return JSONResponse(report.model_dump(mode="json"), headers=headers)
    if chosen in KEPT_AS:
        headers["Content-Disposition"] = f'attachment; filename="{report.version.version}{KEPT_AS[chosen]}"'
    content = signed(chosen, found, predicate) if found is not None else unsigned(chosen, report)
    return Response(content, media_type=chosen.media, headers=headers)


def in_frame(request: Request, template: str, report: BaseModel, headers: dict[str, str]) -> Response:
    """In its frame for somebody who is signed in. For who sends a key it stands alone, to be kept as a file."""
    if hasattr(request.state, "visitor"):
        return shell.page(request, template, {"report": report}, headers)
    return pages.render(request, template, {"report": report}, headers)


def signed(form: Form, found: parcel.Evidence, predicate: Predicate) -> bytes:
    if form is Form.ZIP:
        return parcel.build(found)
    attested = parcel.attested(found)
    return bundle.line(attested[predicate]) if form is Form.IN_TOTO else b"".join(map(bundle.line, attested.values()))


def unsigned(form: Form, report: evidence.Report) -> bytes:
    return paper.pdf(report) if form is Form.PDF else bundle.line(bom(report))


Kind = Annotated[Literal["json", "html"] | None, Query(alias="format", description="Instead of the Accept header")]


@router.get(
    "/{reference}/compare",
    response_model=Comparison,
    responses=may_answer(NotFound, Unprocessable) | {200: {"content": {MEDIA[Form.HTML]: SHAPES[MEDIA[Form.HTML]]}}},
)
def compare(
    reference: Reference,
    other: Annotated[str, Query(alias="with", max_length=160, description="The version beside it, of the same model")],
    request: Request,
    who: MayAudit,
    accept: Annotated[str, Header()] = "application/json",
    form: Kind = None,
) -> Response:
    """Two versions of one model side by side, the earlier one first: verdicts, statistics, usefulness, policy, lineage."""
    with transaction() as session:
        found = evidence.compare(session, versions.resolve(session, reference), versions.resolve(session, other))
    headers = {"Vary": "Accept", "Cache-Control": "no-store"}
    if (form or pages.preferred(accept, [MEDIA[Form.JSON], MEDIA[Form.HTML]])) in ("html", MEDIA[Form.HTML]):
        return in_frame(request, "compare.html", found, headers)
    return JSONResponse(found.model_dump(mode="json"), headers=headers)


@router.get("/{reference}/signature", responses=may_answer(NotConfigured))
def sign(reference: Reference, who: MayAudit) -> dict[str, Any]:
    """The signature over the weights, for `model_signing verify key`: a Sigstore bundle with the key's hash."""
    with transaction() as session:
        version = versions.resolve(session, reference)
        name, digest = versions.name_of(version), version.weights_digest
    return signature(f"{name}.safetensors", digest)


@router.get("/{name}/serving", responses=may_answer(NotFound))
def served(
    name: str,
    who: MayAudit,
    at: Annotated[datetime | None, Query(description="ISO 8601 with its zone; now when left out")] = None,
    ids: Annotated[bool, Query(description="Name the samples too; admins only")] = False,
) -> Serving:
    """Which version was served at that time, and which deleted samples it still held."""
    if ids and not who.may(Scope.ADMIN):
        raise Forbidden("The samples' ids are for admins. Ask without `ids`: tickets and counts are answered.")
    if at is not None and at.tzinfo is None:
        raise Unprocessable("Give the time with its zone, such as 2026-12-31T00:00:00Z.")
    when = at or datetime.now(UTC)
    if when > datetime.now(UTC):
        raise Unprocessable("What will be served is not known. Give a time that is over.")
    with transaction() as session:
        version = versions.resolve(session, f"{name}@{when.isoformat()}")
        return serving(session, version, when, with_ids=ids)
