"""The whole interface under made-up requests: no 5xx, no status that the schema does not name, answers as it says.

A bounded, repeatable number of them here; `make fuzz` sends thousands.
"""

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import checks as known
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response

from app import config
from app.main import app
from tests.app import story
from tests.app.webhooks import scene

pytestmark = pytest.mark.service


def without_keys(schema: dict[str, Any]) -> dict[str, Any]:
    """Who may ask is another test's: every request here carries a key that may do everything."""
    made = copy.deepcopy(schema)
    for methods in made["paths"].values():
        for operation in methods.values():
            operation.pop("security", None)
    return made


CASES = int(os.environ.get("EXPUNGE_FUZZ_CASES", "8"))
"""Requests for each operation."""
NAMES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "use_after_free",
)
SCHEMA = schemathesis.openapi.from_dict(without_keys(app.openapi()))
SCHEMA.config.update(base_url="http://testserver")
CHECKS = [known.CHECKS.get_one(name) for name in NAMES]  # after the schema, which brings its own
REPEATABLE = settings(
    max_examples=CASES,
    derandomize="EXPUNGE_FUZZ_CASES" not in os.environ,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
    stateful_step_count=8,
)
KNOWN = {"name": "m", "model": "m", "reference": "m@current", "ticket_id": "", "batch_id": "", "webhook_id": ""}
"""Path parameters of objects that exist; the second half of all cases has them."""


@pytest.fixture
def http(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service with something of everything in it."""
    monkeypatch.setenv("EXPUNGE_LOCK_SECONDS", "60")
    for name in ("WEBHOOK", "SIGNING"):
        monkeypatch.setenv(f"EXPUNGE_{name}_SECRET", "of no use to anybody but these tests")
    config.settings.cache_clear()
    story.dataset(samples=200)
    model_id = story.trained(policy=story.PATIENT)
    KNOWN["ticket_id"] = str(story.submit(0, client="fuzz"))
    KNOWN["batch_id"] = str(story.retrain(model_id))
    KNOWN["webhook_id"] = str(scene.endpoint("fuzz", admin=True))
    with TestClient(
        app, headers={"Authorization": f"Bearer {story.key('fuzz')}"}, raise_server_exceptions=False
    ) as made:
        yield made


def send(http: TestClient, case: schemathesis.Case, **more: Any) -> Response:
    told = case.as_transport_kwargs(base_url="http://testserver") | more
    headers = {name: value for name, value in told["headers"].items() if name.lower() != "user-agent"}
    request = {name: told.get(name) for name in ("params", "json", "data")}
    if isinstance(request["data"], bytes | str):
        request["content"] = request.pop("data")
    answer = http.request(told["method"], told["url"], headers=headers, **request)
    return Response.from_any(answer)


def check(http: TestClient, operation: Any) -> None:
    """So many made-up requests to one operation."""
    number = 0

    @REPEATABLE
    @given(case=operation.as_strategy())
    def scenario(case: schemathesis.Case) -> None:
        nonlocal number
        number += 1
        if number % 2:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = KNOWN.get(name, case.path_parameters[name])
        case.validate_response(send(http, case), checks=CHECKS)

    scenario()


def test_each_operation(http: TestClient) -> None:
    """One database for all: what one operation leaves behind, another meets."""
    faults = {}
    for found in SCHEMA.get_all_operations():
        operation = found.ok()
        try:
            check(http, operation)
        except (Exception, FailureGroup) as error:  # noqa: BLE001 - one fault must not hide those of other operations
            faults[operation.label] = f"{type(error).__name__}: {error}"
    assert not faults, "\n\n".join(f"{label}\n{fault}" for label, fault in faults.items())


def test_operations_that_lead_to_each_other(http: TestClient) -> None:
    """Chains of requests along the schema's links, each with what the one before gave."""

    class Chain(SCHEMA.as_state_machine()):  # type: ignore[misc]  # a class that is made from the schema
        def call(self, case: schemathesis.Case, **_: Any) -> Response:
            return send(http, case)

        def validate_response(self, response: Response, case: schemathesis.Case, **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    run_state_machine_as_test(Chain, settings=REPEATABLE)
