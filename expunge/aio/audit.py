"""The reviewer's seat: why a version may be trusted."""

import re
from datetime import datetime
from typing import Any

import httpx

from expunge.address import part
from expunge.aio.http import Http
from expunge.answers import PAGE, as_json, of_type, strange
from expunge.models import Comparison, ConsistencyProof, InclusionProof, Report, Serving, SigningKeyView

FORMS = {
    "json": "application/json",
    "html": PAGE,
    "in-toto": "application/vnd.in-toto+json",
    "attestations": "application/vnd.in-toto.bundle",
    "cyclonedx": "application/vnd.cyclonedx+json",
    "pdf": "application/pdf",
    "zip": "application/zip",
}
"""What the audit comes as, and of which type that is. A later release may have more."""
STYLESHEET = re.compile(r'<link rel="stylesheet" href="[^"]*/static/([\w.-]+)"[^>]*>')


class Audit:
    """Audit reports."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def report(self, reference: str) -> Report:
        """Why a version may be trusted, and what the report does not promise."""
        return await self.http.get(Report, f"/models/{part(reference)}/audit")

    async def json(self, reference: str) -> str:
        """The report as it was sent, every word of it: to be kept, or to be read by something else."""
        found = await self.http.call("GET", f"/models/{part(reference)}/audit")
        as_json(found)
        return found.text

    async def page(self, reference: str) -> str:
        """The report as a page for a browser, whole in this one text: it asks for no other file, and sends no key."""
        found = await self.http.call("GET", f"/models/{part(reference)}/audit", headers={"Accept": PAGE})
        names = dict.fromkeys(STYLESHEET.findall(of_type(found, PAGE).text))
        if not names:
            raise strange(found, "it is another page")
        styles = ""
        for name in names:
            style = await self.http.call("GET", f"/static/{part(name)}")
            styles += f"<style>\n{of_type(style, 'text/css').text}</style>"
        whole = STYLESHEET.sub(lambda _: styles, found.text, count=1)  # all of them where the first was, in their order
        return STYLESHEET.sub("", whole)

    async def compare(self, reference: str, other: str) -> Comparison:
        """Two versions of one model side by side, the earlier one first."""
        return await self.http.get(Comparison, f"/models/{part(reference)}/compare", **{"with": other})

    async def bundle(self, reference: str) -> bytes:
        """The evidence bundle: everything that checks the version without the service. `expunge verify` reads it."""
        return await self.form(reference, "zip")

    async def pdf(self, reference: str) -> bytes:
        """The report in print."""
        return await self.form(reference, "pdf")

    async def bom(self, reference: str) -> Any:
        """The version as a CycloneDX bill of materials."""
        return as_json(await in_form(self.http, reference, "cyclonedx"), FORMS["cyclonedx"])

    async def attestation(self, reference: str, predicate: str = "svr") -> Any:
        """One in-toto attestation in its envelope: `provenance`, `test-result` or `svr`."""
        return as_json(await in_form(self.http, reference, "in-toto", predicate=predicate), FORMS["in-toto"])

    async def form(self, reference: str, form: str) -> bytes:
        """The audit in one of the forms that the API names, as it was sent."""
        return (await in_form(self.http, reference, form)).content

    async def signature(self, reference: str) -> Any:
        """The signature over the weights, for `model_signing verify key`."""
        return as_json(await self.http.call("GET", f"/models/{part(reference)}/signature"))

    async def serving(self, model: str, at: datetime | None = None, *, ids: bool = False) -> Serving:
        """Which version was served at that time, which has a zone, and which deleted samples it still held."""
        asked = {"at": at.isoformat() if at else None, "ids": ids or None}
        return await self.http.get(Serving, f"/models/{part(model)}/serving", **asked)

    async def checkpoint(self) -> str:
        """The newest signed head of the log: keep it, to hold later ones against it."""
        return of_type(await self.http.call("GET", "/audit/checkpoint"), "text/plain").text

    async def inclusion(self, seq: int, size: int) -> InclusionProof:
        """That event `seq` is in the log of the first `size` events."""
        return await self.http.get(InclusionProof, "/audit/inclusion", seq=seq, size=size)

    async def consistency(self, first: int, second: int) -> ConsistencyProof:
        """That the log of `second` events begins with the log of `first`."""
        return await self.http.get(ConsistencyProof, "/audit/consistency", first=first, second=second)

    async def signing_keys(self) -> list[SigningKeyView]:
        """The public keys that evidence is or was signed with, the present ones first."""
        return await self.http.get(list[SigningKeyView], "/audit/keys")


async def in_form(http: Http, reference: str, form: str, **asked: str) -> httpx.Response:
    """The audit in one form, which may take the service a while to make."""
    path, params = f"/models/{part(reference)}/audit", {"format": form, **asked}
    found = await http.call("GET", path, params=params, timeout=http.long)
    return of_type(found, *([FORMS[form]] if form in FORMS else []))
