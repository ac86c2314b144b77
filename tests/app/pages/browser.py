"""A browser as far as HTTP goes: it keeps cookies, says where it sends from, and fills in the session's token."""

import html
import re
from typing import Any

from fastapi.testclient import TestClient

from app import sessions
from app.auth import Scope
from app.main import app
from tests.app import story

SITE = "https://expunge.example"
HERE = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}


class Browser:
    """One person's browser."""

    def __init__(self, site: str = SITE) -> None:
        self.http = TestClient(app, base_url=site, headers=HERE, follow_redirects=False, raise_server_exceptions=False)

    def sign_in(self, client: str = "tool", *scopes: Scope) -> "Browser":
        """With a key of these scopes; without any, all of them."""
        answer = self.http.post("/ui/sign-in", data={"key": story.key(client, *scopes), "next": "/"})
        assert answer.status_code == 303, answer.text
        return self

    @property
    def token(self) -> str:
        return next((cookie.value or "" for cookie in self.http.cookies.jar if "expunge" in cookie.name), "")

    @property
    def csrf(self) -> str:
        return sessions.csrf(self.token)

    def get(self, path: str, **more: Any) -> Any:
        return self.http.get(path, **more)

    def post(self, path: str, fields: dict[str, Any] | None = None, **more: Any) -> Any:
        """Send a form of ours."""
        return self.http.post(path, data={"csrf": self.csrf} | (fields or {}), **more)

    def follow(self, answer: Any) -> Any:
        """Where a form led to."""
        assert answer.status_code == 303, (answer.status_code, text(answer))
        return self.http.get(str(answer.url.join(answer.headers["location"])))


def text(answer: Any) -> str:
    """What a reader sees: no tags, blanks as one."""
    plain = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", answer.text, flags=re.DOTALL)
    return " ".join(html.unescape(plain).split())


def typed(answer: Any, name: str) -> str:
    """What a field of the page's form holds."""
    for pattern in (
        rf'<input[^>]*\bname="{re.escape(name)}"[^>]*\bvalue="([^"]*)"',
        rf'<textarea[^>]*\bname="{re.escape(name)}"[^>]*>(.*?)</textarea>',
        rf'<select[^>]*\bname="{re.escape(name)}".*?<option value="([^"]*)" selected>',
    ):
        found = re.search(pattern, answer.text, flags=re.DOTALL)
        if found:
            return html.unescape(found[1])
    raise AssertionError(f"no field {name} on the page")
