"""Who may scrape, in which formats, and what is said when Postgres is away or several processes answer."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from app.auth import Scope
from app.cli.demo import free_port
from app.config import settings
from app.main import app
from embedded.processes import wait_for
from tests.app import story
from tests.app.conftest import Caller
from tests.app.metrics.exported import Scrape, scrape
from tests.app.routes.test_deletions import is_problem
from tests.databases import forget_settings


def test_a_key_with_the_scope_is_needed(caller: Caller) -> None:
    assert Scrape(caller("prometheus", Scope.METRICS_READ).get("/metrics").text)("expunge_up") == 1
    is_problem(caller("tool", Scope.DELETIONS_READ).get("/metrics"), 403, "forbidden")
    is_problem(TestClient(app).get("/metrics"), 401, "unauthenticated")


def test_a_private_network_may_be_opened(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_METRICS_OPEN", "true")
    settings.cache_clear()
    assert "expunge_up 1.0" in TestClient(app).get("/metrics").text


def test_both_formats_of_prometheus(http: TestClient) -> None:
    plain = http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    fancy = http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert fancy.headers["content-type"].startswith("application/openmetrics-text")
    assert fancy.text.endswith("# EOF\n")
    assert "_created" not in plain.text


def test_requests_are_counted_by_template(http: TestClient) -> None:
    before = scrape()
    http.get("/models/secret-name")
    http.get("/nowhere/secret-path?external_id=secret-query")
    http.request("SECRET", "/models")
    seen = scrape()
    assert "secret" not in seen.text.lower()

    def more(**labels: str) -> float:
        key = ("expunge_http_requests_total", frozenset(labels.items()))
        return seen.values[key] - before.values.get(key, 0.0)

    assert more(method="GET", route="/models/{reference}", status="4xx") == 1
    assert more(method="GET", route="(none)", status="4xx") == 1
    assert seen.has("expunge_http_request_seconds_bucket", method="GET", route="/models/{reference}", le="+Inf")
    assert [key for key in seen.values if ("method", "other") in key[1]]


@pytest.fixture
def away(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    forget_settings()
    yield
    forget_settings()


def test_postgres_away_is_told_and_is_no_error(away: None) -> None:
    http = TestClient(app)  # not entered: the service was running before Postgres went
    answer = http.get("/metrics", headers={"Authorization": "Bearer exp_whatever_itis"})
    assert answer.status_code == 200
    seen = Scrape(answer.text)
    assert seen("expunge_up") == 0
    assert {name for name, _ in seen.values} == {"expunge_up", "expunge_build_info"}, "nobody could check the key"


def test_postgres_away_on_an_open_network(away: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_METRICS_OPEN", "true")
    settings.cache_clear()
    http = TestClient(app)
    http.get("/livez")
    seen = Scrape(http.get("/metrics").text)
    assert seen("expunge_up") == 0
    assert seen("expunge_http_requests_total", method="GET", route="/livez", status="2xx") >= 1


@pytest.mark.service
def test_several_processes_tell_the_same(database: str, tmp_path: Path) -> None:
    """Three processes behind one port: whichever answers a scrape, it tells of all requests, and no total ever falls."""
    story.dataset()
    model_id = story.trained(policy=story.EAGER)
    (tmp_path / "shared").mkdir()
    port = free_port()
    surroundings = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared"), "EXPUNGE_METRICS_OPEN": "1"}
    argv = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--workers", "3", "--no-access-log"]
    with (tmp_path / "api.log").open("w") as log:
        served = subprocess.Popen(argv, env=surroundings, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        assert wait_for(lambda: answers(url), 200), (tmp_path / "api.log").read_text()
        told = []
        for number in range(20):
            httpx.get(f"{url}/models/none")  # a new connection each time, so that the processes take turns
            if number % 5 == 0:
                story.submit(number)
                story.work(model_id)
            seen = Scrape(httpx.get(f"{url}/metrics").text)
            requests = seen("expunge_http_requests_total", method="GET", route="/models/{reference}", status="4xx")
            assert requests == number + 1
            told.append(seen("expunge_events_total", kind="ticket.accepted"))
        assert told == sorted(told)
        assert wait_for(
            lambda: Scrape(httpx.get(f"{url}/metrics").text)("expunge_events_total", kind="ticket.accepted") == 4, 30
        )
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False
