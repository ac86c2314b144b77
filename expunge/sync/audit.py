"""The reviewer's seat: why a version may be trusted."""

import re
from datetime import datetime
from typing import Any

from expunge.address import part
from expunge.models import Comparison, ConsistencyProof, InclusionProof, Report, Serving, SigningKeyView
from expunge.sync.http import Http

STYLESHEET = re.compile(r'<link rel="stylesheet" href="[^"]*/static/([\w.-]+)"[^>]*>')


class Audit:
    """Audit reports."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def report(self, reference: str) -> Report:
        """Why a version may be trusted, and what the report does not promise."""
        return self.http.get(Report, f"/models/{part(reference)}/audit")

    def json(self, reference: str) -> str:
        """The report as it was sent, every word of it: to be kept, or to be read by something else."""
        return (self.http.call("GET", f"/models/{part(reference)}/audit")).text

    def page(self, reference: str) -> str:
        """The report as a page for a browser, whole in this one text: it asks for no other file, and sends no key."""
        found = self.http.call("GET", f"/models/{part(reference)}/audit", headers={"Accept": "text/html"})
        styles = ""
        for name in dict.fromkeys(STYLESHEET.findall(found.text)):
            styles += f"<style>\n{(self.http.call('GET', f'/static/{part(name)}')).text}</style>"
        whole = STYLESHEET.sub(lambda _: styles, found.text, count=1)  # all of them where the first was, in their order
        return STYLESHEET.sub("", whole)

    def compare(self, reference: str, other: str) -> Comparison:
        """Two versions of one model side by side, the earlier one first."""
        return self.http.get(Comparison, f"/models/{part(reference)}/compare", **{"with": other})

    def bundle(self, reference: str) -> bytes:
        """The evidence bundle: everything that checks the version without the service. `expunge verify` reads it."""
        return self.form(reference, "zip")

    def pdf(self, reference: str) -> bytes:
        """The report in print."""
        return self.form(reference, "pdf")

    def bom(self, reference: str) -> Any:
        """The version as a CycloneDX bill of materials."""
        return (self.http.call("GET", f"/models/{part(reference)}/audit", params={"format": "cyclonedx"})).json()

    def attestation(self, reference: str, predicate: str = "svr") -> Any:
        """One in-toto attestation in its envelope: `provenance`, `test-result` or `svr`."""
        asked = {"format": "in-toto", "predicate": predicate}
        return (self.http.call("GET", f"/models/{part(reference)}/audit", params=asked)).json()

    def form(self, reference: str, form: str) -> bytes:
        """The audit in one of the forms that the API names, as it was sent."""
        return (self.http.call("GET", f"/models/{part(reference)}/audit", params={"format": form})).content

    def signature(self, reference: str) -> Any:
        """The signature over the weights, for `model_signing verify key`."""
        return (self.http.call("GET", f"/models/{part(reference)}/signature")).json()

    def serving(self, model: str, at: datetime | None = None, *, ids: bool = False) -> Serving:
        """Which version was served at that time, which has a zone, and which deleted samples it still held."""
        asked = {"at": at.isoformat() if at else None, "ids": ids or None}
        return self.http.get(Serving, f"/models/{part(model)}/serving", **asked)

    def checkpoint(self) -> str:
        """The newest signed head of the log: keep it, to hold later ones against it."""
        return (self.http.call("GET", "/audit/checkpoint")).text

    def inclusion(self, seq: int, size: int) -> InclusionProof:
        """That event `seq` is in the log of the first `size` events."""
        return self.http.get(InclusionProof, "/audit/inclusion", seq=seq, size=size)

    def consistency(self, first: int, second: int) -> ConsistencyProof:
        """That the log of `second` events begins with the log of `first`."""
        return self.http.get(ConsistencyProof, "/audit/consistency", first=first, second=second)

    def signing_keys(self) -> list[SigningKeyView]:
        """The public keys that evidence is or was signed with, the present ones first."""
        return self.http.get(list[SigningKeyView], "/audit/keys")
