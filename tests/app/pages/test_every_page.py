"""Every page and every form: who may open it, and that it is one."""

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from app.auth import Scope
from app.main import app
from app.pages import is_page
from expunge.evidence.keys import SigningKeys
from tests.app.pages import scene
from tests.app.pages.browser import Browser, text
from tests.app.pages.conftest import SignedIn
from tests.app.pages.scene import Scene
from tests.app.signing import signing

PAGE = Path(__file__).parents[3] / "docs" / "pages.md"
OPEN = {"GET /ui/sign-in", "POST /ui/sign-in", "GET /ui/sign-in/begin", "GET /ui/sign-in/provider"}


def served() -> list[tuple[str, str]]:
    """Method and path of every page that the app serves."""
    return [
        (method, route.path)
        for route in iter_route_contexts(app.routes)
        for method in sorted((route.methods or set()) - {"HEAD"})
        if route.path is not None and is_page(route.path)
    ]


def promised() -> dict[str, str]:
    """Page to the scope that it needs, as the documentation says."""
    table = PAGE.read_text().partition("## Scopes by page")[2].partition("\n## ")[0]
    found = re.findall(
        r"^\| `(\w+ [^`]+)` \| (?:`([\w:]+)`|nobody|anybody who is signed in) \|", table, flags=re.MULTILINE
    )
    return dict(found)


def filled(path: str, known: Scene) -> str:
    """The path of something that is there."""
    values = {
        "batch_id": str(known.quarantined),
        "ticket_id": str(known.open),
        "reference": "lenet-mnist-v1",
        "name": "lenet-mnist",
    }
    if "/proposals/" in path:
        values["number"] = str(known.proposal)
    elif "/approvals/" in path:
        values |= {"number": "1", "name": "resnet-photos"}
    elif "/resume" in path:
        values["name"] = "vgg-photos"
    else:
        values["number"] = str(known.schedule)
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], path)


@pytest.fixture
def furnished(database: str) -> Scene:
    return scene.furnish()


def test_the_table_names_every_page() -> None:
    assert set(promised()) == {f"{method} {path}" for method, path in served()}


def test_every_page_opens_to_who_may_and_to_nobody_else(furnished: Scene, signed_in: SignedIn) -> None:
    """A form without a reason is refused by its own page, which says so and asks again."""
    everybody = {scope: signed_in("somebody", scope) for scope in Scope}
    root = signed_in("root")
    for method, path in served():
        page = f"{method} {path}"
        if page in OPEN or path == "/ui/sign-out":
            continue
        needed, to = promised()[page], filled(path, furnished)
        answer = root.get(to) if method == "GET" else root.post(to)
        assert answer.status_code == (200 if method == "GET" else 422), (page, text(answer))
        assert answer.headers["content-type"].split(";")[0] in ("text/html", "text/csv", "application/json"), page
        for scope, browser in everybody.items():
            met = browser.get(to) if method == "GET" else browser.post(to)
            fits = needed == "" or scope in (needed, Scope.ADMIN)
            if path.startswith("/ui/tickets/{ticket_id}") and fits and scope is not Scope.ADMIN:
                assert met.status_code == 404, "another client's ticket looks like none"
            else:
                assert (met.status_code == 403) is not fits, (page, scope, met.status_code)


def test_nobody_is_let_in_unasked(furnished: Scene, browser: Browser) -> None:
    for method, path in served():
        if f"{method} {path}" in OPEN:
            continue
        to = filled(path, furnished)
        answer = browser.get(to) if method == "GET" else browser.http.post(to)
        assert answer.status_code == 303, (method, path)
        assert "sign-in" in answer.headers["location"]


def test_no_form_is_taken_from_another_site_or_without_the_token(furnished: Scene, signed_in: SignedIn) -> None:
    browser = signed_in()
    for method, path in served():
        if method == "GET" or path == "/ui/sign-in":
            continue
        to = filled(path, furnished)
        assert browser.http.post(to, data={"why": "because"}).status_code == 403, path
        assert browser.post(to, {"why": "because"}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403, path
        assert browser.get(to if path != "/ui/sign-out" else "/").status_code in (200, 405), path


__all__ = ["signing"]


def links(page: str) -> Iterator[str]:
    """What a page leads to; of our pages without the query, which filters, of the API with it."""
    for found in re.findall(r'(?:href|action)="(?!data:)([^"#]+)', page):
        whole = html.unescape(found)
        api = "/ui/" not in whole and ("/models/" in whole or "/deletions/" in whole)
        yield whole if api else whole.partition("?")[0]


SEEN_BY = ((), (Scope.DELETIONS_READ,), (Scope.DELETIONS_READ, Scope.RETRAINS_WRITE))


def test_no_page_shows_a_link_that_does_not_open(furnished: Scene, signed_in: SignedIn) -> None:
    """From home along every link, whatever somebody may do: nothing is missing, nothing is barred."""
    for scopes in SEEN_BY:
        browser = signed_in("acme-privacy", *scopes)
        ahead, seen = ["/"], set[str]()
        while ahead:
            path = ahead.pop()
            if path in seen or path.endswith(("/docs", "/sign-out")) or path.startswith("/static"):
                continue
            seen.add(path)
            answer = browser.get(path)
            # The story's worker stores no bytes, so of weights there is the sentence that they are gone.
            assert answer.status_code == (410 if path.endswith("/weights") else 200), (path, text(answer))
            if answer.headers["content-type"].startswith("text/html"):
                assert not re.search(r'(href|action|src|hx-get)="/', answer.text), (
                    f"{path}: a proxy may serve it elsewhere"
                )
                ahead += [answer.url.join(link).raw_path.decode() for link in links(answer.text)]
        assert len(seen) > 10


def hostile_name() -> str:
    return "\"><script>alert('x')</script><img src=x onerror=alert(1)>{{ 1234567 * 7654321 }}"


def test_hostile_words_are_text_on_every_page(
    database: str, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = hostile_name()
    monkeypatch.setattr(scene, "CLIENT", words)
    known = scene.furnish()
    browser = signed_in(words)
    browser.post("/ui/models/lenet-mnist/flush", {"why": words})
    browser.post(f"/ui/batches/{known.quarantined}/retry", {"why": words})
    browser.post(f"/ui/policies/lenet-mnist/proposals/{known.proposal}/refuse", {"why": words})
    shown = 0
    for method, path in served():
        if method == "POST" or "sign" in path or "export" in path:
            continue
        page = browser.get(filled(path, known)).text
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
        assert "9449772114007" not in page, path
        shown += "&lt;script&gt;" in page
    assert shown > 15, "the test needs the words to be on the pages"


def test_with_a_secret_every_link_to_evidence_opens_too(
    furnished: Scene, signed_in: SignedIn, signing: SigningKeys
) -> None:
    browser = signed_in("acme-privacy", Scope.DELETIONS_READ, Scope.AUDIT_READ)
    ticket = browser.get(f"/ui/tickets/{furnished.fulfilled}").text
    report = browser.get("/models/lenet-mnist@current/audit", headers={"Accept": "text/html"}).text
    found = [link for link in (*links(ticket), *links(report)) if "/deletions/" in link or "/models/" in link]
    kinds = set()
    for link in found:
        if link.endswith("/weights"):
            continue
        answer = browser.get("/" + link.replace("../", ""))
        assert answer.status_code == 200, link
        kinds.add(answer.headers["content-type"].partition(";")[0])
    assert kinds >= {
        "application/pdf",
        "application/zip",
        "application/vnd.in-toto.bundle",
        "application/vnd.cyclonedx+json",
        "application/json",
        "text/html",
    }
