"""Samples, subjects and clients' own references turn up nowhere but where their owner asked for them.

One service as a person starts it, at its most talkative; ids that can be told; work that succeeds and work that fails
in every way that is known to put ids into an error's text. Then everything that was written or answered is searched.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.config import Settings
from tests.servers import short_folder
from tests.service import LENIENT, LONG, Service, service

pytestmark = pytest.mark.service

MARK = "zz-secret"
TICKET = {"dataset": "marked", "reason": "other"}


class Overheard:
    """A client that keeps every answer it gets, to be searched."""

    def __init__(self, up: Service) -> None:
        key = up.command("keys", "create", "tester", "--scope", "admin").stdout.strip()
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{up.port}", headers=headers, timeout=LONG)
        self.answers: list[httpx.Response] = []

    def ask(self, method: str, path: str, status: int, **options: Any) -> httpx.Response:
        answer = self.http.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        self.answers.append(answer)
        return answer

    def close(self) -> None:
        self.http.close()

    def get(self, path: str, **headers: str) -> Any:
        return self.ask("GET", path, 200, headers=headers)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def database(up: Service) -> "psycopg.Connection[Any]":
    return psycopg.connect(Settings(data_dir=up.folder).database.replace("+psycopg", ""), autocommit=True)


def prepare(up: Service, api: Overheard) -> None:
    lines = "".join(f"{MARK}-{i:04d},{MARK}-subject-{i // 20:03d}\n" for i in range(400))
    csv = {"Content-Type": "text/csv"}
    api.ask("PUT", "/datasets/marked", 201, content="id,subject\n" + lines, headers=csv)
    for bad in (  # a repeated id, a row too long, an id too long, an id that cannot be kept
        f"id\n{MARK}-1\n{MARK}-1\n",
        f"id,subject\n{MARK},a,{MARK}\n",
        f"id\n{MARK}{'x' * 600}\n",
        f"id\n{MARK}\0\n",
        f"{MARK}\n1\n",
    ):
        api.ask("PUT", "/datasets/other", 422, content=bad, headers=csv)
    policy = LENIENT | {"outliers": {"look": True}}
    registered = {"name": "net", "dataset": "marked", "problem": "marked", "policy": policy}
    api.ask("POST", "/models", 201, json=registered)
    up.until(lambda: api.get("/models/net/versions").json()["versions"], "the first version")


def succeed(up: Service, api: Overheard) -> str:
    named = {"sample_ids": [f"{MARK}-0000"], "subject_ids": [f"{MARK}-subject-001"], "external_id": f"{MARK}-case"}
    accepted = api.ask("POST", "/deletions", 202, json=TICKET | named, headers={"Idempotency-Key": f"{MARK}-key"})
    ticket = accepted.headers["location"]
    up.until(lambda: api.http.get(ticket).json()["state"] == "fulfilled", "the ticket's end")
    return str(ticket)


def confirm_an_outlier(up: Service, api: Overheard) -> str:
    """One is planted in what the worker saw; an admin reads its id, and nothing else of the service repeats it."""
    path, named = "/models/net/exposure", {"sample_ids": [f"{MARK}-0210"], "why": "unreadable"}
    up.until(lambda: api.http.get(path).json()["look"] is not None, "the look after the update")
    planted = '[{"position": 210, "norm": 9.0, "z": 9.0}]'
    with database(up) as postgres:
        update = (
            "UPDATE version SET exposure = jsonb_set(exposure, '{outliers}', %s::jsonb) WHERE superseded_at IS NULL"
        )
        postgres.execute(update, [planted])
    assert f"{MARK}-0210" in api.http.get(path).text, "its reader sees it"
    api.ask("POST", f"{path}/deletions", 409, json=named | {"sample_ids": [f"{MARK}-0211"]})
    api.ask("POST", f"{path}/deletions", 422, json=named | {"why": f"{MARK}-0210 is none"})
    api.ask("POST", f"{path}/deletions", 422, json=named | {MARK: MARK})
    accepted = api.ask("POST", f"{path}/deletions", 202, json=named, headers={"Idempotency-Key": f"{MARK}-yes"})
    ticket = str(accepted.headers["location"])
    up.until(lambda: api.http.get(ticket).json()["state"] == "fulfilled", "the outlier's end")
    return ticket


def ask_badly(api: Overheard) -> None:
    """What a client may get wrong, each with a mark where an answer might repeat it."""
    known = TICKET | {"sample_ids": [f"{MARK}-0100"]}
    api.ask("POST", "/deletions", 422, json=TICKET | {"sample_ids": [f"{MARK}-unknown"]})
    api.ask("POST", "/deletions", 409, json=known | {"external_id": f"{MARK}-case"})
    api.ask("POST", "/deletions", 422, json=known, headers={"Idempotency-Key": f"{MARK}-key"})
    api.ask("POST", "/deletions", 422, json=known | {MARK: MARK})
    api.ask("POST", "/deletions", 422, json=known | {"reason": MARK})
    api.ask("POST", "/deletions", 422, json=TICKET | {"sample_ids": [f"{MARK}\0"]})
    api.ask("POST", "/deletions", 422, json=TICKET | {"sample_ids": [f"{MARK}-1", f"{MARK}-1"]})
    api.ask("POST", "/deletions", 422, json=TICKET | {"sample_ids": MARK, "deadline": MARK})
    api.ask("POST", "/deletions", 422, content=f'{{"{MARK}": {MARK}', headers={"Content-Type": "application/json"})
    api.ask("POST", "/deletions", 422, content=MARK.encode("utf-16"), headers={"Content-Type": "application/json"})
    api.ask("GET", f"/deletions/{MARK}", 422)
    api.ask("GET", f"/deletions?cursor={MARK}", 422)
    api.ask("GET", f"/deletions?state={MARK}", 422)
    api.ask("GET", f"/{MARK}", 404)
    api.ask("GET", "/models", 401, headers={"Authorization": f"Bearer exp_{MARK}_{MARK}"})
    api.ask("GET", "/deletions", 200, params={"external_id": f"{MARK}-nobody"})


def break_the_database(up: Service, api: Overheard) -> None:
    """A constraint whose violation repeats the row, and a time-out that tells the value."""
    with database(up) as postgres:
        postgres.execute(f"ALTER TABLE ticket ADD CONSTRAINT planted CHECK (external_id <> '{MARK}-refused')")
        broken = TICKET | {"sample_ids": [f"{MARK}-0200"], "external_id": f"{MARK}-refused"}
        api.ask("POST", "/deletions", 500, json=broken)
        postgres.execute("ALTER TABLE ticket DROP CONSTRAINT planted")
        postgres.execute(
            "CREATE FUNCTION telling() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'planted' USING DETAIL = NEW.external_id, ERRCODE = '57014'; END $$"
        )
        postgres.execute("CREATE TRIGGER planted BEFORE INSERT ON ticket FOR EACH ROW EXECUTE FUNCTION telling()")
        api.ask("POST", "/deletions", 503, json=broken | {"external_id": f"{MARK}-slow"})
        postgres.execute("DROP TRIGGER planted ON ticket")


def let_user_code_raise(up: Service, api: Overheard) -> str:
    up.gate.mkdir(exist_ok=True)
    (up.gate / "raising").touch()
    ticket = api.ask("POST", "/deletions", 202, json=TICKET | {"sample_ids": [f"{MARK}-0300"]}).headers["location"]
    up.until(lambda: api.http.get(ticket).json()["state"] == "quarantined", "the ticket to be held")
    return str(ticket)


def written(folder: Path) -> Iterator[tuple[str, str]]:
    """Everything that any process of the service wrote as a log."""
    for path in [folder / "up.log", *(folder / "log").iterdir()]:
        yield path.name, path.read_text(errors="replace")


@pytest.mark.timeout(900)
def test_ids_turn_up_nowhere(folder: Path) -> None:
    with service(folder, EXPUNGE_LOG_LEVEL="DEBUG") as up, closing(Overheard(up)) as api:
        prepare(up, api)
        done = succeed(up, api)
        unusual = confirm_an_outlier(up, api)
        ask_badly(api)
        break_the_database(up, api)
        held = let_user_code_raise(up, api)

        assert MARK in api.http.get(done).text, "its owner sees the reference"
        timelines = [api.http.get(ticket).json()["timeline"] for ticket in (done, unusual, held)]
        for path in (
            "/models",
            "/models/net/versions",
            "/models/net@current/audit",
            "/batches",
            "/policies/net/history",
            "/models/net/approvals",
            "/workers",
            "/metrics",
            "/webhooks",
        ):
            api.get(path)
        api.get("/models/net@current/audit", Accept="text/html")
        for batch in api.get("/batches").json()["items"]:
            api.get(f"/batches/{batch['id']}")
        said = [up.command(*command, check=False).stdout for command in (("audit", "verify"), ("keys", "list"))]
        with database(up) as postgres:
            events = [body for (body,) in postgres.execute("SELECT body FROM audit_event")]
            failures = [text for (text,) in postgres.execute("SELECT failure FROM batch WHERE failure IS NOT NULL")]
        logs = dict(written(folder))

    assert failures, "user code did raise"
    assert any("RuntimeError" in failure for failure in failures), "and the operator is told what kind of error it was"
    assert len(events) > 10
    assert {"api.log", "worker.log"} <= logs.keys()
    assert "planted" in logs["postgres.log"], "the database's errors are in its log"
    assert '"error"' in logs["api.log"], "and their kind in the API's"
    for answer in api.answers:
        where = f"{answer.request.method} {answer.request.url.path}: {answer.status_code}"
        assert MARK not in answer.text, where
        assert MARK not in json.dumps(dict(answer.headers)), where
    for what, texts in {"timeline": timelines, "output": said, "event": events, "failure": failures}.items():
        assert MARK not in json.dumps(texts), what
    for name, text in logs.items():
        lines = [line for line in text.splitlines() if MARK in line]
        assert not lines, f"{name}: {lines[:3]}"
