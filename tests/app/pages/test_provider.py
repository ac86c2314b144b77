"""Signing in at an identity provider, against one that keeps to the protocol and can be made not to."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from pydantic import ValidationError

from app import codeflow, config, oidc, sessions
from app.config import Settings
from app.tables import WebSession
from tests.app import story
from tests.app.issuer import AUDIENCE, CLIENT, SECRET, Issuer, running
from tests.app.pages.browser import SITE, Browser, text

ROLES = {"reader": ["deletions:read"], "watcher": ["metrics:read"]}


@pytest.fixture
def issuer(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    with running() as made:
        told = {
            "ISSUER": made.issuer,
            "AUDIENCE": AUDIENCE,
            "JWKS_URL": made.jwks_url,
            "ROLES": json.dumps(ROLES),
            "CLIENT_ID": CLIENT,
            "CLIENT_SECRET": SECRET,
            "AUTHORIZE_URL": made.authorize_url,
            "TOKEN_URL": made.token_url,
        }
        for name, value in told.items():
            monkeypatch.setenv(f"EXPUNGE_OIDC_{name}", value)
        for cached in (config.settings, oidc.verifier, codeflow.verifier):
            cached.cache_clear()
        yield made


def asked(browser: Browser, begin: str = "/ui/sign-in/begin") -> str:
    """To the provider, which sends the browser back: with what."""
    away = browser.get(begin)
    assert away.status_code == 303
    with httpx.Client(trust_env=False) as client:
        return client.get(away.headers["location"]).headers["location"]


def came_back(browser: Browser, to: str) -> Any:
    return browser.get(to.removeprefix(SITE))


def test_somebody_signs_in_and_sees_what_their_roles_open(issuer: Issuer) -> None:
    browser = Browser()
    assert "Sign in with your organisation" in text(browser.get("/ui/sign-in"))
    answer = came_back(browser, asked(browser))
    assert answer.status_code == 200, "no redirect: the browser would keep the cookie to itself"
    assert "You are signed in" in text(answer)
    home = text(browser.get("/"))
    assert "oidc:alice" in home
    assert "Queue" in home
    assert "System" not in home
    (row,) = story.all_of(WebSession)
    assert (row.subject, row.scopes, row.key_id) == ("oidc:alice", ["deletions:read"], None)
    assert browser.post("/ui/sign-out").status_code == 303
    assert story.all_of(WebSession) == []


def test_somebody_comes_back_to_the_page_that_was_asked_for(issuer: Issuer) -> None:
    browser, asked_for = Browser(), "/models/m@current/compare?with=m-v1"
    door = browser.get(f"/ui/sign-in?next={quote(asked_for)}")
    (begin,) = re.findall(r'href="\.\./(ui/sign-in/begin[^"]*)"', door.text)
    answer = came_back(browser, asked(browser, f"/{html.unescape(begin)}"))
    (onward,) = re.findall(r'id="onward" href="([^"]*)"', answer.text)
    assert html.unescape(onward) == f"../..{asked_for}"


def test_nobody_is_sent_on_to_another_site(issuer: Issuer) -> None:
    browser = Browser()
    answer = came_back(browser, asked(browser, "/ui/sign-in/begin?next=//evil.example"))
    assert 'id="onward" href="../../"' in answer.text


def test_whoever_brings_nothing_good_is_soon_not_asked_about(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_REFUSALS_PER_MINUTE", "2")
    config.settings.cache_clear()
    browser, met = Browser(), []
    for code in "abcd":
        browser.get("/ui/sign-in/begin")
        begun = codeflow.Begun.of(browser.http.cookies["__Host-expunge-sign-in"].strip('"'))
        assert begun is not None
        met.append(browser.get(f"/ui/sign-in/provider?code={code}&state={begun.state}").status_code)
    assert met == [401, 401, 429, 429]
    assert issuer.redeemed == ["a", "b"]


def test_what_nobody_is_asked_about_counts_against_nobody(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any page may send a browser here with a state of its own: others behind the same address sign in all the same."""
    monkeypatch.setenv("EXPUNGE_REFUSALS_PER_MINUTE", "2")
    config.settings.cache_clear()
    for _ in range(4):
        assert Browser().get("/ui/sign-in/provider?code=a&state=b").status_code == 401
    assert issuer.redeemed == []
    browser = Browser()
    assert came_back(browser, asked(browser)).status_code == 200


def test_a_way_back_that_no_cookie_holds_leads_home(issuer: Issuer) -> None:
    browser = Browser()
    answer = came_back(browser, asked(browser, "/ui/sign-in/begin?next=/ui/tickets?reference=" + 4000 * "a"))
    assert (answer.status_code, 'id="onward" href="../../"' in answer.text) == (200, True)


def test_what_is_asked_for(issuer: Issuer) -> None:
    to = urlsplit(Browser().get("/ui/sign-in/begin").headers["location"])
    said = {name: values[0] for name, values in parse_qs(to.query).items()}
    assert said["redirect_uri"] == f"{SITE}/ui/sign-in/provider"
    assert said["scope"] == "openid"
    assert said["client_id"] == CLIENT
    assert len({said["state"], said["nonce"], said["code_challenge"]}) == 3


def test_the_public_address_is_where_the_browser_comes_back_to(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_PUBLIC_URL", "https://public.example/expunge/")
    config.settings.cache_clear()
    to = parse_qs(urlsplit(Browser().get("/ui/sign-in/begin").headers["location"]).query)
    assert to["redirect_uri"] == ["https://public.example/expunge/ui/sign-in/provider"]


def test_another_browser_cannot_finish_it(issuer: Issuer) -> None:
    """Or somebody could be signed in as whoever sent them the link."""
    theirs, mine = Browser(), Browser()
    to = asked(theirs)
    mine.get("/ui/sign-in/begin")
    for browser in (Browser(), mine):
        answer = came_back(browser, to)
        assert answer.status_code == 401
        assert "not to this browser" in text(answer)
    assert story.all_of(WebSession) == []


def test_a_code_is_good_once(issuer: Issuer) -> None:
    browser = Browser()
    to = asked(browser)
    cookie = browser.http.cookies.get("__Host-expunge-sign-in")
    assert came_back(browser, to).status_code == 200
    again = Browser()
    again.http.headers["Cookie"] = f"__Host-expunge-sign-in={cookie}"
    assert came_back(again, to).status_code == 401


@pytest.mark.parametrize(
    "said",
    [
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"aud": "expunge"},
        {"iss": "https://evil.example"},
        {"exp": 1},
    ],
)
def test_a_token_that_is_not_for_this_sign_in(issuer: Issuer, said: dict[str, object]) -> None:
    issuer.said = said
    browser = Browser()
    assert came_back(browser, asked(browser)).status_code == 401
    assert browser.get("/").status_code == 303


def test_a_provider_that_is_away_is_said_so(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    to = asked(browser)
    monkeypatch.setenv("EXPUNGE_OIDC_TOKEN_URL", "http://127.0.0.1:9/token")
    config.settings.cache_clear()
    answer = came_back(browser, to)
    assert answer.status_code == 503
    assert "does not answer" in text(answer)


def test_without_one_there_is_the_key_alone(browser: Browser) -> None:
    assert "organisation" not in text(browser.get("/ui/sign-in"))
    assert browser.get("/ui/sign-in/begin").status_code == 401
    assert browser.get("/ui/sign-in/provider?code=x&state=y").status_code == 401


def test_sessions_end_when_the_provider_is_taken_out_of_the_settings(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser()
    came_back(browser, asked(browser))
    assert browser.get("/").status_code == 200
    monkeypatch.delenv("EXPUNGE_OIDC_CLIENT_ID")
    config.settings.cache_clear()
    assert browser.get("/").status_code == 303
    assert sessions.SECURE in str(browser.http.cookies.jar)


def test_where_codes_and_secrets_go_must_be_https() -> None:
    told: dict[str, Any] = {
        "issuer": "https://i.example",
        "audience": "a",
        "jwks_url": "https://i.example/k",
        "roles": {"r": ["admin"]},
    }
    told |= {"client_id": "c", "authorize_url": "https://i.example/a", "token_url": "http://i.example/t"}
    with pytest.raises(ValidationError, match="must be https"):
        Settings(**{f"oidc_{name}": value for name, value in told.items()})
    with pytest.raises(ValidationError, match="set authorize_url and token_url"):
        Settings(**{f"oidc_{name}": value for name, value in told.items() if name != "token_url"})
    with pytest.raises(ValidationError, match="public_url"):
        Settings(public_url="expunge.example")
