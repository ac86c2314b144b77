"""Signing in and out: what the cookie is, when a session ends, and that no other site can use it."""

import hashlib

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, update
from sqlalchemy.exc import OperationalError

from app import config, keys, sessions, sweep
from app.auth import IN_A_SESSION, Scope
from app.db import transaction
from app.main import app
from app.tables import ApiKey, WebSession
from tests.app import story
from tests.app.conftest import Caller
from tests.app.pages.browser import HERE, Browser, text, typed
from tests.app.pages.conftest import SignedIn


class TestCookie:
    def test_a_key_becomes_a_cookie_that_no_script_and_no_other_site_gets(self, browser: Browser) -> None:
        answer = browser.http.post("/ui/sign-in", data={"key": story.key()})
        assert answer.status_code == 303
        assert answer.headers["location"] == "../"
        said = answer.headers["set-cookie"]
        assert said.startswith("__Host-expunge=")
        parts = {part.strip().lower() for part in said.split(";")[1:]}
        assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=28800"} <= parts
        assert not any(part.startswith("domain") for part in parts)

    def test_on_loopback_without_tls_it_does_without_secure(self, database: str) -> None:
        browser = Browser("http://127.0.0.1:8420")
        answer = browser.http.post("/ui/sign-in", data={"key": story.key()})
        assert answer.headers["set-cookie"].startswith("expunge=")
        assert "secure" not in answer.headers["set-cookie"].lower()
        assert browser.get("/").status_code == 200

    def test_behind_a_proxy_with_tls_it_does_not(self, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Which may send a browser's request on as one to this machine."""
        monkeypatch.setenv("EXPUNGE_PUBLIC_URL", "https://expunge.example")
        config.settings.cache_clear()
        answer = Browser("http://127.0.0.1:8420").http.post("/ui/sign-in", data={"key": story.key()})
        assert answer.headers["set-cookie"].startswith("__Host-expunge=")
        assert "secure" in answer.headers["set-cookie"].lower()

    def test_elsewhere_without_tls_it_does_not(self, database: str) -> None:
        answer = Browser("http://10.0.0.7:8420").http.post("/ui/sign-in", data={"key": story.key()})
        assert "secure" in answer.headers["set-cookie"].lower()

    def test_only_a_digest_is_kept(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        (row,) = story.all_of(WebSession)
        assert row.digest == hashlib.sha256(browser.token.encode()).digest()
        assert len(browser.token) >= 43

    def test_one_that_was_made_up_opens_nothing(self, browser: Browser) -> None:
        for token in ("", "x", "x" * 43, "x" * 5000, "\xe9" * 43):
            sent = [(b"Cookie", b"__Host-expunge=" + token.encode("latin-1"))]
            assert browser.http.get("/", headers=sent).status_code == 303


class TestRefusals:
    def test_a_wrong_key_is_told_and_not_repeated(self, browser: Browser) -> None:
        answer = browser.http.post("/ui/sign-in", data={"key": "exp_0123_secret-hard-to-guess", "next": "/ui/queue"})
        assert answer.status_code == 401
        assert "opens nothing" in text(answer)
        assert "hard-to-guess" not in answer.text
        assert 'value="/ui/queue"' in answer.text, "where somebody was going is not lost"

    def test_guessing_is_as_slow_as_with_the_key_itself(
        self, browser: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EXPUNGE_REFUSALS_PER_MINUTE", "2")
        config.settings.cache_clear()
        prefix = story.key().split("_")[1]
        met = [browser.http.post("/ui/sign-in", data={"key": f"exp_{prefix}_{n}"}).status_code for n in range(4)]
        assert met == [401, 401, 429, 429]

    def test_nobody_is_sent_on_to_another_site(self, browser: Browser) -> None:
        for following in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/ui/../../x\n", "/deletions"):
            answer = browser.http.post("/ui/sign-in", data={"key": story.key(), "next": following})
            assert answer.headers["location"] == "../", following

    def test_a_page_leads_to_the_sign_in_and_back(self, browser: Browser) -> None:
        answer = browser.get("/ui/queue")
        assert answer.status_code == 303
        assert answer.headers["location"] == "../ui/sign-in?next=/ui/queue"
        assert 'value="/ui/queue"' in browser.follow(answer).text
        assert browser.http.post("/ui/sign-in", data={"key": story.key(), "next": "/ui/queue"}).headers["location"] == (
            "../ui/queue"
        )

    def test_what_was_asked_of_a_page_is_not_lost(self, browser: Browser) -> None:
        asked = "/ui/tickets?state=pending&client=a%26b"
        shown = browser.follow(browser.get(asked))
        assert typed(shown, "next") == asked
        answer = browser.http.post("/ui/sign-in", data={"key": story.key(), "next": typed(shown, "next")})
        assert answer.headers["location"] == f"..{asked}"

    def test_what_a_page_asks_for_by_itself_takes_the_whole_page_to_the_sign_in(self, browser: Browser) -> None:
        answer = browser.get("/ui/queue", headers={"HX-Request": "true"})
        assert answer.status_code == 204
        assert answer.headers["hx-redirect"] == "../ui/sign-in?next=/ui/queue"

    def test_a_stranger_s_large_form_is_not_read(self, browser: Browser) -> None:
        answer = browser.http.post("/ui/tickets/new", content=b"x" * 200_000, headers={"Content-Type": "text/plain"})
        assert answer.status_code == 303


class TestEnds:
    def test_revoking_the_key_ends_its_sessions_at_once(self, browser: Browser) -> None:
        key = story.key("ada")
        browser.http.post("/ui/sign-in", data={"key": key})
        assert browser.get("/").status_code == 200
        with transaction() as session:
            keys.revoke(session, key.split("_")[1], "admin")
        assert browser.get("/").status_code == 303

    def test_so_does_its_expiry(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        with transaction() as session:
            session.execute(update(ApiKey).values(expires_at=func.now()))
        assert browser.get("/").status_code == 303

    def test_signing_out_deletes_it(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        kept = browser.token
        answer = browser.post("/ui/sign-out")
        assert answer.status_code == 303
        assert 'expunge=""' in answer.headers["set-cookie"]
        assert story.all_of(WebSession) == []
        browser.http.headers["Cookie"] = f"__Host-expunge={kept}"
        assert browser.get("/").status_code == 303

    def test_signing_in_again_leaves_no_second_one(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        before = browser.token
        browser.sign_in("other")
        assert browser.token != before
        assert len(story.all_of(WebSession)) == 1

    @pytest.mark.parametrize("column", ["expires_at", "seen_at"])
    def test_it_ends_after_hours_and_when_idle(self, signed_in: SignedIn, column: str) -> None:
        browser = signed_in()
        over = func.now() if column == "expires_at" else func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 1801)
        with transaction() as session:
            session.execute(update(WebSession).values({column: over}))
        assert browser.get("/").status_code == 303
        sweep.purge()
        assert story.all_of(WebSession) == []

    def test_a_page_keeps_it_going_and_what_pages_ask_for_by_themselves_does_not(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        earlier = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 600)
        with transaction() as session:
            session.execute(update(WebSession).values(seen_at=earlier))
        before = story.all_of(WebSession)[0].seen_at
        browser.get("/", headers={"HX-Request": "true"})
        assert story.all_of(WebSession)[0].seen_at == before
        browser.get("/")
        assert story.all_of(WebSession)[0].seen_at > before

    def test_live_ones_are_not_purged(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        sweep.purge()
        assert browser.get("/").status_code == 200


class TestForms:
    """A page of another site can make a browser send a form, and neither read our pages nor say that it is ours."""

    def test_without_the_session_s_token_nothing_is_done(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        for sent in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": sessions.csrf("another")}):
            answer = browser.http.post("/ui/sign-out", data=sent)
            assert answer.status_code == 403
            assert "not of this session" in text(answer)
        assert len(story.all_of(WebSession)) == 1

    def test_the_token_may_come_in_a_header(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        assert browser.http.post("/ui/sign-out", headers={"X-CSRF-Token": browser.csrf}).status_code == 303

    @pytest.mark.parametrize(
        ("headers", "fine"),
        [
            ({"Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "same-site"}, False),
            ({"Sec-Fetch-Site": "none"}, False),
            ({"Sec-Fetch-Site": "cross-site", "Origin": "https://expunge.example"}, False),
            ({"Origin": "https://expunge.example"}, True),
            ({"Origin": "https://evil.example"}, False),
            ({"Origin": "https://expunge.example.evil.example"}, False),
            ({"Origin": "null"}, False),
            ({}, False),
        ],
    )
    @pytest.mark.parametrize("path", ["/ui/sign-out", "/ui/sign-in"])
    def test_and_only_from_here(self, signed_in: SignedIn, path: str, headers: dict[str, str], fine: bool) -> None:
        browser = signed_in()
        del browser.http.headers["Sec-Fetch-Site"]
        answer = browser.post(path, {"key": story.key()}, headers=headers)
        assert (answer.status_code == 303) is fine
        assert (answer.status_code == 403) is not fine

    def test_behind_a_proxy_that_renames_the_host_the_public_address_counts(
        self, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        browser = signed_in()
        del browser.http.headers["Sec-Fetch-Site"]
        from_outside = {"Origin": "https://public.example"}
        assert browser.post("/ui/sign-out", headers=from_outside).status_code == 403
        monkeypatch.setenv("EXPUNGE_PUBLIC_URL", "https://public.example/expunge")
        config.settings.cache_clear()
        assert browser.post("/ui/sign-out", headers=from_outside).status_code == 303


class TestApi:
    """A cookie opens pages; the API wants a key, but for what a page links to."""

    def test_a_cookie_changes_nothing_there(self, signed_in: SignedIn) -> None:
        story.dataset()
        story.trained()
        browser = signed_in()
        asked = {"dataset": "people", "sample_ids": ["s-0001"], "reason": "other"}
        sent = {"X-CSRF-Token": browser.csrf}
        assert browser.http.post("/deletions", json=asked, headers=sent).status_code == 401
        assert browser.http.post("/models/m/flush", json={}, headers=sent).status_code == 401
        assert browser.http.delete("/schedules/1", headers=sent).status_code == 401

    def test_nor_does_it_read_there(self, signed_in: SignedIn) -> None:
        browser = signed_in()
        for path in ("/deletions", "/models", "/policies/m", "/batches", "/keys", "/workers", "/metrics"):
            assert browser.get(path).status_code == 401, path

    def test_but_the_report_opens_in_its_frame(self, signed_in: SignedIn) -> None:
        story.dataset()
        story.trained()
        answer = signed_in("ada").get("/models/m-v1/audit")
        assert answer.status_code == 200
        assert "Audit of m-v1" in text(answer)
        assert 'aria-label="Pages"' in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"

    def test_and_needs_the_scope_all_the_same(self, signed_in: SignedIn) -> None:
        story.dataset()
        story.trained()
        assert signed_in("ada", Scope.DELETIONS_READ).get("/models/m-v1/audit").status_code == 403

    def test_a_key_beside_the_cookie_is_what_counts(self, signed_in: SignedIn) -> None:
        story.dataset()
        story.trained()
        browser = signed_in("ada")
        narrow = {"Authorization": f"Bearer {story.key('tool', Scope.DELETIONS_READ)}"}
        assert browser.get("/models/m-v1/audit", headers=narrow).status_code == 403

    def test_with_a_key_it_is_the_report_alone(self, caller: Caller) -> None:
        story.dataset()
        story.trained()
        answer = caller().get("/models/m-v1/audit", headers={"Accept": "text/html"})
        assert "<script" not in answer.text
        assert "<nav" not in answer.text.replace('<nav class="contents"', "")
        assert "shell.css" not in answer.text
        assert "script-src" not in answer.headers["content-security-policy"]

    def test_a_key_opens_no_page(self, caller: Caller) -> None:
        answer = caller().get("/ui/queue", follow_redirects=False)
        assert answer.status_code == 303

    def test_what_a_cookie_opens_is_read_and_no_more(self) -> None:
        paths = app.openapi()["paths"]
        assert "/models/{reference}/audit" in IN_A_SESSION
        for path in IN_A_SESSION & paths.keys():
            assert set(paths[path]) == {"get"}


class TestFrame:
    def test_only_what_the_scopes_open_is_shown(self, signed_in: SignedIn) -> None:
        everything, few = text(signed_in().get("/")), text(signed_in("ada", Scope.METRICS_READ).get("/"))
        for label in ("Tickets", "Queue", "Decisions", "Models", "Policies", "Schedules"):
            assert label in everything
            assert label not in few
        assert "System" in few

    def test_a_key_that_opens_no_page_is_told_so(self, signed_in: SignedIn) -> None:
        assert "open no page" in text(signed_in("ada", Scope.WEBHOOKS_WRITE).get("/"))

    def test_an_unknown_page_and_an_unfitting_one_are_pages_too(self, signed_in: SignedIn) -> None:
        browser = signed_in("ada", Scope.DELETIONS_READ)
        missing, barred = browser.get("/ui/nothing"), browser.get("/ui/decisions")
        assert missing.status_code == 404
        assert "There is no such page" in text(missing)
        assert 'aria-label="Pages"' in missing.text
        assert barred.status_code == 403
        assert "scope policies:approve" in text(barred)
        assert 'aria-label="Pages"' in barred.text

    def test_what_goes_wrong_is_a_page_and_tells_nothing_of_it(
        self, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        browser = signed_in()
        for error, status, sentence in (
            (
                OperationalError("secret-hard-to-guess", {}, Exception("secret-hard-to-guess")),
                503,
                "Postgres does not answer",
            ),
            (ZeroDivisionError("secret-hard-to-guess"), 500, "It is in the log"),
        ):

            def broken(_: object, raised: Exception = error) -> None:
                raise raised

            monkeypatch.setattr("app.overview.queue", broken)
            answer = browser.get("/ui/queue")
            assert answer.status_code == status
            assert answer.headers["content-type"].startswith("text/html")
            assert sentence in text(answer)
            assert "hard-to-guess" not in answer.text
            assert 'aria-label="Pages"' in answer.text

    def test_hostile_names_are_text(self, database: str) -> None:
        name = "<script>alert(1)</script>{{ 1234567 * 7654321 }}\"'"
        page = Browser().sign_in(name).get("/")
        assert "<script>alert" not in page.text
        assert "9449772114007" not in page.text
        assert "&lt;script&gt;" in page.text

    def test_headers(self, signed_in: SignedIn) -> None:
        answer = signed_in().get("/")
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert HERE["Accept"] == "text/html"


def test_a_link_to_a_report_leads_to_the_sign_in_and_back(database: str) -> None:
    story.dataset()
    story.trained()
    browser = Browser()
    answer = browser.get("/models/m-v1/audit")
    assert answer.status_code == 303
    asked = browser.follow(answer)
    assert typed(asked, "next") == "/models/m-v1/audit"
    back = browser.http.post(
        "/ui/sign-in", data={"key": story.key("reviewer", Scope.AUDIT_READ), "next": "/models/m-v1/audit"}
    )
    assert browser.follow(back).status_code == 200
    program = TestClient(app).get(
        "/models/m-v1/audit", headers={"Accept": "text/html", "Authorization": "Bearer exp_a_b"}
    )
    assert program.status_code == 401
    assert TestClient(app).get("/models/m-v1/audit").status_code == 401
