"""Every route against every scope, and every named object against another client. What should be is a table of
docs/api.md; what there is comes from the OpenAPI schema and the app's routes, so that no route can be forgotten.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import func, update

from app import config, keys
from app.auth import Scope
from app.db import transaction
from app.installation import make_files
from app.main import app
from app.pages import is_page
from app.tables import ApiKey, WebhookEndpoint
from app.webhooks import deliveries
from tests.app import story
from tests.app.conftest import Caller
from tests.app.webhooks import scene

API_PAGE = Path(__file__).parents[3] / "docs" / "api.md"
SCHEMA: dict[str, Any] = app.openapi()


def ticket_of(client: str) -> dict[str, str]:
    return {"ticket_id": str(story.submit(0, client=client))}


def webhook_of(client: str) -> dict[str, str]:
    make_files(config.settings().home)
    made = scene.endpoint(client)
    with transaction() as session:
        sent = deliveries.test(session, session.get_one(WebhookEndpoint, made))
    return {"webhook_id": str(made), "delivery_id": str(sent.id)}


OWNED: dict[str, Callable[[str], dict[str, str]]] = {
    "ticket_id": ticket_of,
    "webhook_id": webhook_of,
    "delivery_id": webhook_of,
}
"""Path parameters that name what one client owns, each with how that client comes by one."""
SHARED = {"name", "reference", "model", "batch_id", "schedule_id", "prefix", "approval_id", "proposal_id"}
"""Path parameters that name what all clients share: what they show of a ticket is told to an admin alone."""


def promised() -> dict[str, str]:
    """Route to the scope that it needs, or `none`, as the table says."""
    table = API_PAGE.read_text().partition("## Scopes by route")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+ [^`]+)` \| (?:`([\w:]+)`|no key) \|$", table, flags=re.MULTILINE)
    return {route: scope or "none" for route, scope in found}


def described() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation in the schema."""
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def everything() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The same of every route that the app serves; those that the schema leaves out have an empty description. Pages take no
    key: tests/app/pages/test_every_page.py."""
    inside = {(method, path): operation for method, path, operation in described()}
    for route in iter_route_contexts(app.routes):
        for method in (route.methods or set()) - {"HEAD"}:
            assert route.path is not None
            if is_page(route.path):
                continue
            yield method, route.path, inside.get((method, route.path), {})


def filled(path: str, operation: dict[str, Any], **known: str) -> str:
    """The path with a value for each parameter, of an object that does not exist unless it is `known`."""
    kinds = {p["name"]: p["schema"] for p in operation.get("parameters", []) if p["in"] == "path"}

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in known:
            return known[name]
        if kinds[name].get("format") == "uuid":
            return str(uuid4())
        if "pattern" in kinds[name] and not re.fullmatch(kinds[name]["pattern"], "nothing"):
            return "0" * 12
        return "999999" if kinds[name].get("type") == "integer" else "nothing"

    return re.sub(r"\{(\w+)\}", value, path)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_table_names_every_route() -> None:
    assert set(promised()) == {f"{method} {path}" for method, path, _ in everything()}


def test_the_schema_says_the_same() -> None:
    said = {}
    for method, path, operation in described():
        scopes = [scope for way in operation.get("security", []) for scope in set(*way.values())]
        said[f"{method} {path}"] = scopes[0] if scopes else "none"
    table = promised()
    assert said == {route: table[route] for route in said}


def test_every_route_against_every_scope(database: str) -> None:
    make_files(config.settings().home)  # so that what is signed can be
    keys = {scope: story.key("tool", scope) for scope in Scope}
    expected, met = {}, {}
    with TestClient(app) as http:
        for method, path, operation in everything():
            needed = promised()[f"{method} {path}"]
            for scope, key in keys.items():
                answer = http.request(method, filled(path, operation), headers=bearer(key))
                assert answer.status_code < 500
                met[method, path, scope] = answer.status_code if answer.status_code in (401, 403) else "let in"
                fits = needed == "none" or scope in (needed, Scope.ADMIN)
                expected[method, path, scope] = "let in" if fits else 403
    assert met == expected


def test_every_route_without_a_key_that_is_good(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_REFUSALS_PER_MINUTE", "100000")
    config.settings.cache_clear()
    expired, revoked = story.key(), story.key()
    with transaction() as session:
        over = update(ApiKey).where(ApiKey.prefix == expired.split("_")[1])
        session.execute(over.values(expires_at=func.now()))
        keys.revoke(session, revoked.split("_")[1], "admin")
    refused: dict[str, dict[str, str]] = {
        "no key": {},
        "expired": bearer(expired),
        "revoked": bearer(revoked),
        "another scheme": {"Authorization": f"Basic {story.key()}"},
    }
    with TestClient(app) as http:
        for method, path, operation in everything():
            needed = promised()[f"{method} {path}"]
            for why, headers in refused.items():
                answer = http.request(method, filled(path, operation), headers=headers)
                assert (answer.status_code == 401) == (needed != "none"), (method, path, why)
                assert ("www-authenticate" in answer.headers) == (needed != "none")


def test_every_path_parameter_has_an_owner() -> None:
    named = {name for _, path, _ in described() for name in re.findall(r"\{(\w+)\}", path)}
    assert named == OWNED.keys() | SHARED


@pytest.mark.parametrize("parameter", OWNED)
def test_anothers_object_looks_like_none(caller: Caller, parameter: str) -> None:
    story.dataset()
    story.trained(policy=story.PATIENT)
    mine, root = caller("mine", *(scope for scope in Scope if scope is not Scope.ADMIN)), caller("root")
    mine.headers["X-Request-Id"] = "0" * 32  # which the answer repeats
    routes = [(m, p, o) for m, p, o in described() if f"{{{parameter}}}" in p]
    assert routes
    for method, path, operation in routes:
        theirs = OWNED[parameter]("theirs")
        body = {"json": {}} if "requestBody" in operation else {}
        hidden = mine.request(method, filled(path, operation, **theirs), **body)
        missing = mine.request(method, filled(path, operation), **body)
        assert hidden.status_code == missing.status_code == 404, (method, path)
        assert hidden.content == missing.content
        assert hidden.headers.keys() == missing.headers.keys()
        assert root.request(method, filled(path, operation, **theirs), **body).status_code != 404
