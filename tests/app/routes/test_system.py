"""Liveness, readiness, unknown routes, and the schema of the interface."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.db import transaction
from app.errors import OldSchema
from app.main import app
from tests.app.routes.test_deletions import is_problem


def test_alive_and_ready(http: TestClient) -> None:
    for path in ("/livez", "/readyz"):
        http.headers.pop("authorization", None)
        assert http.get(path).json() == {"status": "ok"}


def test_an_old_schema_is_not_served(database: str) -> None:
    at("0001")
    is_problem(TestClient(app).get("/readyz"), 503, "old_schema")
    with pytest.raises(OldSchema), TestClient(app):
        pass


def test_a_later_release_s_schema_is_served_by_who_has_begun_and_begun_on_by_nobody(http: TestClient) -> None:
    at("of a later release")
    assert http.get("/readyz").status_code == 200
    with pytest.raises(OldSchema), TestClient(app):
        pass


def at(revision: str) -> None:
    with transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/deletions", 405), ("DELETE", "/models", 405)],
)
def test_unknown_routes_are_problems_too(http: TestClient, method: str, path: str, status: int) -> None:
    response = http.request(method, path)
    said = is_problem(response, status, f"http_{status}")
    assert said["type"] == "about:blank"
    assert "/docs" in said["detail"], "says what to do"
    assert (status == 405) == ("allow" in response.headers)


def test_the_interface_describes_itself(http: TestClient) -> None:
    described = http.get("/openapi.json").json()
    assert "/deletions" in described["paths"]
    assert "ProblemDetail" in described["components"]["schemas"]


def test_the_stylesheet(http: TestClient) -> None:
    response = http.get("/static/expunge.css")
    assert response.headers["content-type"].startswith("text/css")
