"""The reviewer's seat: why a version may be trusted."""

import re

from expunge.address import part
from expunge.models import Report
from expunge.sync.http import Http

STYLESHEET = re.compile(r'<link rel="stylesheet"[^>]*>')


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
        page = self.http.call("GET", f"/models/{part(reference)}/audit", headers={"Accept": "text/html"})
        style = self.http.call("GET", "/static/expunge.css")
        return STYLESHEET.sub(lambda _: f"<style>\n{style.text}</style>", page.text)
