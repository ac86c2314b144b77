"""The operator's first seat over HTTP: a policy is read with its ETag and replaced under it, or not at all."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.auth import Scope
from tests.app import story
from tests.app.conftest import Caller
from tests.app.routes.test_deletions import is_problem


@pytest.fixture
def etag(database: str, http: TestClient) -> str:
    """The ETag of the first policy of model `m`."""
    story.dataset()
    story.register()
    return str(http.get("/policies/m").headers["etag"])


def put(http: TestClient, etag: str | None, body: Any) -> Any:
    return http.put("/policies/m", json=body, headers={"If-Match": etag} if etag else {})


def test_a_policy_is_replaced_under_the_etag_it_was_read_with(etag: str, http: TestClient) -> None:
    replaced = put(http, etag, {"thresholds": {"ue": 0.1}})
    assert replaced.status_code == 200
    assert replaced.json()["policy"]["thresholds"]["ue"] == 0.1
    assert replaced.headers["etag"] == http.get("/policies/m").headers["etag"] != etag
    assert [row["number"] for row in http.get("/policies/m/history").json()] == [2, 1]


def test_a_stale_etag_and_none_change_nothing(etag: str, http: TestClient) -> None:
    newer = put(http, etag, {}).headers["etag"]
    stale = put(http, etag, {"thresholds": {"ue": 0.2}})
    is_problem(stale, 412, "precondition_failed")
    assert stale.headers["etag"] == newer
    is_problem(put(http, None, {}), 428, "precondition_required")
    assert http.get("/policies/m").json()["number"] == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"thresholds": {"ue": 1.01}}, "/body/thresholds/ue"),
        ({"thresholds": {"mu": 0}}, "/body/thresholds/mu"),
        ({"thresholds": {"mu": None}}, "/body/thresholds/mu"),
        ({"thresholds": {"zz": 1}}, "/body/thresholds/?"),
        ({"update": {"eta": -1}}, "/body/update/eta"),
        ({"ladder": ["iau"]}, "/body"),
        ({"ladder": []}, "/body"),
        ({"batching": {"max_samples": 0}}, "/body/batching/max_samples"),
        ({"unheard_of": 1}, "/body/?"),
    ],
)
def test_what_is_no_policy(etag: str, http: TestClient, body: Any, pointer: str) -> None:
    said = is_problem(put(http, etag, body), 422, "invalid")
    assert said["errors"][0]["pointer"] == pointer
    assert http.get("/policies/m").headers["etag"] == etag


def test_who_may(etag: str, http: TestClient, caller: Caller) -> None:
    reader = caller("tool", Scope.DELETIONS_READ)
    assert reader.get("/policies/m").status_code == 200
    is_problem(put(reader, etag, {}), 403, "forbidden")
    is_problem(http.get("/policies/nobody"), 404, "not_found")
