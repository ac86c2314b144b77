"""The compliance tool's seat over HTTP: answers, refusals, and that no refusal repeats an id."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog
from fastapi.testclient import TestClient
from sqlalchemy import func, text, update
from sqlalchemy.orm import Session

from app import queue, tickets
from app.auth import Scope
from app.config import settings
from app.db import engine, transaction
from app.main import app
from app.tables import ApiKey, Ticket
from tests.app import story
from tests.app.conftest import Caller

SECRET = "secret-subject-4711"


def body(*ids: str, **more: Any) -> dict[str, Any]:
    return {"dataset": "people", "sample_ids": list(ids), "reason": "erasure_request"} | more


def is_problem(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = response.json()
    assert said["status"] == status
    assert {"type", "title", "status", "detail", "code"} <= set(said)
    assert code is None or said["code"] == code
    return said


@pytest.fixture
def people(database: str) -> int:
    story.dataset()
    return story.trained()


class TestSubmit:
    def test_a_ticket_is_accepted(self, people: int, http: TestClient) -> None:
        response = http.post("/deletions", json=body("s-0001", "nobody", subject_ids=["p-0"], external_id="case 1"))
        assert response.status_code == 202
        said = response.json()
        assert response.headers["location"] == said["href"] == f"/deletions/{said['id']}"
        assert said["counts"] == {"accepted": 2, "unknown": 1, "already_forgotten": 0, "pending_elsewhere": 0}
        assert (said["state"], said["models"]) == ("pending", 1)
        shown = http.get(said["href"]).json()
        assert shown["data_removed_at"] is not None
        assert (shown["external_id"], shown["client"], shown["dataset"]) == ("case 1", "admin", "people")
        (obligation,) = shown["obligations"]
        assert (obligation["model"], obligation["state"]) == ("m", "pending")
        assert obligation["doing"] == "waits for its batch to close"
        assert [event["kind"] for event in shown["timeline"]] == ["ticket.accepted"]

    @pytest.mark.parametrize(
        ("asked", "pointer"),
        [
            (body(), "/body"),
            (body("a", "a"), "/body"),
            (body(subject_ids=["a", "a"]), "/body"),
            (body(""), "/body/sample_ids/0"),
            (body("ok", "x" * 513), "/body/sample_ids/1"),
            (body("a\0b"), "/body/sample_ids/0"),
            (body(7), "/body/sample_ids/0"),  # type: ignore[arg-type]  # wrong on purpose
            (body(None), "/body/sample_ids/0"),  # type: ignore[arg-type]  # wrong on purpose
            (body("a") | {"sample_ids": "a"}, "/body/sample_ids"),
            (body("a") | {"sample_ids": {"a": 1}}, "/body/sample_ids"),
            (body("a", reason="because"), "/body/reason"),
            (body("a", risk_tier="extreme"), "/body/risk_tier"),
            (body("a", deadline="2027-01-01T00:00:00"), "/body/deadline"),
            (body("a", deadline="tomorrow"), "/body/deadline"),
            (body("a", deadline="9999-12-31T23:59:59-14:00"), "/body/deadline"),
            (body("a", deadline="0001-01-01T00:00:00+14:00"), "/body/deadline"),
            (body("a", external_id="a\nb"), "/body/external_id"),
            (body("a", external_id="x" * 129), "/body/external_id"),
            (body("a", external_id=""), "/body/external_id"),
            (body("a", unheard_of=1), "/body/?"),
            ({"sample_ids": ["a"], "reason": "other"}, "/body/dataset"),
            ([], "/body"),
            ("text", "/body"),
            (None, "/body"),
        ],
    )
    def test_what_is_not_as_it_must_be(self, people: int, http: TestClient, asked: Any, pointer: str) -> None:
        said = is_problem(http.post("/deletions", json=asked), 422, "invalid")
        assert said["errors"][0]["pointer"] == pointer

    @pytest.mark.parametrize(
        ("content", "status"),
        [
            (b"", 422),
            (b"{", 422),
            (b'{"dataset": "people", "sample_ids": ["\\ud800"], "reason": "other"}', 422),
            (b'{"dataset": "\\u0000", "sample_ids": ["a"], "reason": "other"}', 422),
            (b"\xff\xfe", 422),
            (b"[" * 100_000, 400),
        ],
    )
    def test_what_is_not_json(self, people: int, http: TestClient, content: bytes, status: int) -> None:
        response = http.post("/deletions", content=content, headers={"content-type": "application/json"})
        said = is_problem(response, status)
        assert status == 422 or "UTF-8" in said["detail"], "says what to do"
        if content == b"{":
            assert said["errors"] == [{"pointer": "/body", "detail": "not JSON (at character 1)"}]

    def test_a_body_of_another_type_is_told_which_is_wanted(self, people: int, http: TestClient) -> None:
        form = {"content-type": "application/x-www-form-urlencoded"}  # what curl -d says unless it is told
        said = is_problem(http.post("/deletions", content=b'{"dataset": "people"}', headers=form), 422, "invalid")
        assert "Content-Type: application/json" in said["detail"]

    def test_an_unknown_dataset_and_unknown_ids(self, people: int, http: TestClient) -> None:
        is_problem(http.post("/deletions", json=body("a", dataset="elsewhere")), 404, "not_found")
        is_problem(http.post("/deletions", json=body("nobody", subject_ids=["nobody"])), 422, "nothing_known")
        assert http.get("/deletions").json()["items"] == []

    def test_too_many_ids(self, people: int, http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings(), "max_ids", 3)
        assert http.post("/deletions", json=body("s-0001", "s-0002", subject_ids=["p-9"])).status_code == 202
        is_problem(http.post("/deletions", json=body("a", "b", subject_ids=["c", "d"])), 413, "too_large")

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_over_the_limit(
        self, people: int, http: TestClient, monkeypatch: pytest.MonkeyPatch, chunked: bool
    ) -> None:
        monkeypatch.setattr(settings(), "max_body_bytes", 2000)
        pieces = [b'{"dataset": "people", "reason": "other", "sample_ids": ["s-0001"', b" " * 1000, b" " * 1000, b"]}"]
        headers = {"content-type": "application/json"}
        content = iter(pieces) if chunked else b"".join(pieces)
        is_problem(http.post("/deletions", content=content, headers=headers), 413, "too_large")
        within = iter([pieces[0], pieces[1], pieces[3]])
        assert http.post("/deletions", content=within, headers=headers).status_code == 202

    def test_a_deadline_with_a_zone(self, people: int, http: TestClient) -> None:
        response = http.post("/deletions", json=body("s-0001", deadline="2027-01-01T00:00:00+02:00"))
        deadline = http.get(response.json()["href"]).json()["deadline"]
        assert datetime.fromisoformat(deadline) == datetime(2026, 12, 31, 22, tzinfo=UTC)

    def test_an_external_id_that_is_taken(self, people: int, http: TestClient) -> None:
        first = http.post("/deletions", json=body("s-0001", external_id="case"))
        refused = http.post("/deletions", json=body("s-0002", external_id="case"))
        is_problem(refused, 409, "conflict")
        assert refused.headers["location"] == first.headers["location"]


class TestIdempotency:
    @staticmethod
    def post(http: TestClient, key: str, *ids: str) -> Any:
        return http.post("/deletions", json=body(*ids), headers={"Idempotency-Key": key})

    def test_a_replay_is_the_same_answer(self, people: int, http: TestClient) -> None:
        first, again = self.post(http, "k", "s-0001"), self.post(http, "k", "s-0001")
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json() == again.json()
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"

    def test_another_body(self, people: int, http: TestClient) -> None:
        self.post(http, "k", "s-0001")
        is_problem(self.post(http, "k", "s-0002"), 422, "idempotency_key_reused")

    def test_in_flight(self, people: int, http: TestClient) -> None:
        with Session(engine()) as session:
            tickets.submit(session, "admin", story.submission(1), "k", b"first")
            is_problem(self.post(http, "k", "s-0001"), 409, "in_flight")
            session.rollback()
        assert self.post(http, "k", "s-0001").status_code == 202

    @pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
    def test_what_is_no_key(self, people: int, http: TestClient, key: str) -> None:
        is_problem(self.post(http, key, "s-0001"), 422)

    def test_fifty_at_once_make_one_ticket(self, people: int, http: TestClient) -> None:
        barrier, answers = threading.Barrier(50), []

        def post() -> None:
            barrier.wait()
            answers.append(self.post(http, "k", "s-0001"))

        threads = [threading.Thread(target=post) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} <= {202, 409}
        made = [answer for answer in answers if answer.status_code == 202]
        assert made
        assert len({answer.json()["id"] for answer in made}) == 1
        assert len([answer for answer in made if "idempotency-replayed" not in answer.headers]) == 1
        for answer in answers:
            if answer.status_code == 409:
                is_problem(answer, 409, "in_flight")
        assert len(story.all_of(Ticket)) == 1
        assert self.post(http, "k", "s-0001").headers["idempotency-replayed"] == "true"


class TestWho:
    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer x", "Bearer exp_a_b", "Basic eDp5", "Bearer exp_é_x"]
    )
    def test_no_valid_key(self, people: int, http: TestClient, header: str | None) -> None:
        http.headers.pop("authorization")
        headers = {} if header is None else {"Authorization": header.encode()}
        for response in (http.get("/deletions", headers=headers), http.post("/deletions", json={}, headers=headers)):
            is_problem(response, 401, "unauthenticated")
            assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("column", ["expires_at", "revoked_at"])
    def test_a_key_that_has_ended(self, people: int, http: TestClient, column: str) -> None:
        assert http.get("/deletions").status_code == 200
        with transaction() as session:
            session.execute(update(ApiKey).values({column: func.now() - timedelta(seconds=1)}))
        is_problem(http.get("/deletions"), 401, "unauthenticated")

    def test_a_missing_scope(self, people: int, caller: Caller) -> None:
        reader, writer = caller("tool", Scope.DELETIONS_READ), caller("tool", Scope.DELETIONS_WRITE)
        is_problem(reader.post("/deletions", json=body("s-0001")), 403, "forbidden")
        made = writer.post("/deletions", json=body("s-0001"))
        assert made.status_code == 202
        is_problem(writer.get(made.json()["href"]), 403, "forbidden")
        is_problem(reader.post(f"{made.json()['href']}/cancel"), 403, "forbidden")
        assert reader.get(made.json()["href"]).status_code == 200

    def test_a_client_sees_its_own_and_an_admin_all(self, people: int, caller: Caller) -> None:
        scopes = (Scope.DELETIONS_READ, Scope.DELETIONS_WRITE)
        one, two, admin = caller("one", *scopes), caller("two", *scopes), caller("root", Scope.ADMIN)
        href = one.post("/deletions", json=body("s-0001")).json()["href"]
        is_problem(two.get(href), 404, "not_found")
        is_problem(two.post(f"{href}/cancel"), 404, "not_found")
        assert two.get("/deletions").json()["items"] == []
        assert [t["client"] for t in admin.get("/deletions").json()["items"]] == ["one"]
        cancelled = admin.post(f"{href}/cancel")
        assert cancelled.status_code == 200
        assert cancelled.json()["state"] == "cancelled"
        assert one.get(href).json()["timeline"][-1]["actor"] == "root"


class TestFollow:
    def test_cancel(self, people: int, http: TestClient) -> None:
        href = http.post("/deletions", json=body("s-0001")).json()["href"]
        said = http.post(f"{href}/cancel").json()
        assert (said["state"], said["data_removed_at"]) == ("cancelled", None)
        is_problem(http.post(f"{href}/cancel"), 409, "conflict")

    def test_a_fulfilled_ticket_names_its_version(self, people: int, http: TestClient) -> None:
        href = http.post("/deletions", json=body("s-0001")).json()["href"]
        story.work(people)
        said = http.get(href).json()
        (obligation,) = said["obligations"]
        assert said["state"] == "fulfilled"
        assert (obligation["clean_version"], obligation["progress"]) == ("m-v2", 1.0)
        assert obligation["audit"] == "/models/m-v2/audit"
        assert said["data_releasable_at"] is None

    @pytest.mark.parametrize("name", ["batched", "running", "quarantined"])
    def test_what_is_being_done_about_it(self, people: int, http: TestClient, name: str) -> None:
        href = http.post("/deletions", json=body("s-0001")).json()["href"]
        story.close(people)
        if name != "batched":
            lease = story.claimed(people)
            if name == "quarantined":
                story.fail(lease, "disk full", again=False)
        doing = http.get(href).json()["obligations"][0]["doing"]
        said = {"batched": "waits for a worker", "running": "claimed", "quarantined": "held for an operator: disk full"}
        assert doing == said[name]

    def test_unknown_tickets(self, people: int, http: TestClient) -> None:
        is_problem(http.get(f"/deletions/{uuid4()}"), 404)
        is_problem(http.get("/deletions/not-a-uuid"), 422)

    def test_pages(self, people: int, caller: Caller) -> None:
        scopes = (Scope.DELETIONS_READ, Scope.DELETIONS_WRITE)
        mine, theirs = caller("one", *scopes), caller("two", *scopes)
        made = [mine.post("/deletions", json=body(f"s-{i:04d}")).json()["id"] for i in range(5)]
        found: list[str] = []
        cursor = None
        while True:
            page = mine.get("/deletions", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
            found += [item["id"] for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
            is_problem(theirs.get("/deletions", params={"limit": 2, "cursor": cursor}), 422)
            is_problem(mine.get("/deletions", params={"state": "pending", "cursor": cursor}), 422)
            is_problem(mine.get("/deletions", params={"cursor": cursor[:-2] + "xx"}), 422)
        assert found == made[::-1]
        is_problem(mine.get("/deletions", params={"cursor": "garbage"}), 422)
        is_problem(mine.get("/deletions", params={"limit": 0}), 422)
        is_problem(mine.get("/deletions", params={"state": "lost"}), 422)

    def test_filters(self, people: int, http: TestClient) -> None:
        late = http.post("/deletions", json=body("s-0001", deadline="2020-01-01T00:00:00Z", external_id="x")).json()
        other = http.post("/deletions", json=body("s-0002")).json()
        http.post(f"{other['href']}/cancel")

        def ids(**params: Any) -> list[str]:
            return [item["id"] for item in http.get("/deletions", params=params).json()["items"]]

        assert ids(overdue=True) == ids(external_id="x") == ids(state="pending") == [late["id"]]
        assert ids(state="cancelled") == [other["id"]]
        assert ids(dataset="elsewhere") == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/deletions?dataset=%00"),
        ("GET", "/deletions?external_id=a%00b"),
        ("GET", "/models/a%00b"),
        ("GET", "/models/a%00b/versions"),
        ("GET", "/models/a%00b-v1/audit"),
        ("GET", "/policies/a%00b"),
        ("GET", "/batches?model=a%00b"),
        ("GET", "/datasets/a%00b"),
        ("GET", "/schedules/99999999999999999999/occurrences"),
        ("DELETE", "/schedules/99999999999999999999"),
        ("GET", "/models/a-v999999999"),
    ],
)
def test_what_no_column_can_hold_is_the_callers_fault(people: int, http: TestClient, method: str, path: str) -> None:
    response = http.request(method, path)
    if response.status_code == 200:
        assert response.json() == []
    else:
        assert response.status_code in (404, 422)
        is_problem(response, response.status_code)


def failing(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Answers to an id that looks secret, sent through every path that fails."""
    headers = {"content-type": "application/json"}
    answers = [
        http.post("/deletions", json=asked)
        for asked in (
            body(SECRET),
            body(SECRET, dataset="elsewhere"),
            body(SECRET, SECRET),
            body(SECRET + "\0"),
            body(SECRET * 40),
            body(SECRET, reason=SECRET),
            body(SECRET, risk_tier=SECRET),
            body(SECRET, deadline=SECRET),
            body(SECRET, **{SECRET: 1}),
            body(SECRET, **{"secret4711": 1}),
            body(SECRET) | {"sample_ids": {SECRET: SECRET}},
            body(SECRET) | {"sample_ids": [[SECRET]]},
            body(SECRET) | {"sample_ids": SECRET},
            {SECRET: SECRET},
            [SECRET],
            SECRET,
        )
    ]
    answers += [
        http.post("/deletions", content=f'{{"sample_ids": ["{SECRET}"'.encode(), headers=headers),
        http.post("/deletions", content=f'{{"sample_ids": ["{SECRET}", "\\ud800"]}}'.encode(), headers=headers),
        http.post("/deletions", content=SECRET.encode() + b"\xff", headers=headers),
        http.post("/deletions", json=body(SECRET), headers={"Authorization": "Bearer x"}),
        http.get(f"/deletions/{SECRET}"),
        http.get("/deletions", params={"cursor": SECRET}),
        http.get("/deletions", params={"external_id": SECRET + "\0"}),
        http.get("/deletions", params={"state": SECRET}),
        http.get(f"/models/{SECRET}"),
        http.get(f"/{SECRET}"),
        http.put(f"/deletions/{SECRET}"),
        http.put("/datasets/d", content=f"id,subject\n{SECRET},x,y\n".encode(), headers={"content-type": "text/csv"}),
        http.put("/datasets/d", content=f"id\n{SECRET}\n{SECRET}\n".encode(), headers={"content-type": "text/csv"}),
        http.put("/datasets/d", content=f"{SECRET}\n".encode(), headers={"content-type": "text/csv"}),
    ]
    monkeypatch.setattr(settings(), "max_ids", 1)
    answers.append(http.post("/deletions", json=body(SECRET, "other")))
    monkeypatch.setattr(settings(), "max_body_bytes", 50)
    answers.append(http.post("/deletions", json=body(SECRET)))
    monkeypatch.undo()
    return answers


def test_no_refusal_and_no_log_repeats_an_id(
    people: int,
    http: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        pytest.MonkeyPatch.context() as patch,
        structlog.testing.capture_logs() as lines,
    ):
        answers = failing(http, patch)
    for answer in answers:
        assert answer.status_code >= 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        for hidden in (SECRET, "secret4711"):
            assert hidden not in answer.text
            assert hidden not in str(answer.headers)
    heard = [
        record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    ]  # the client's own
    written = "".join(capfd.readouterr())
    assert SECRET not in str(lines) + written + "".join(record.getMessage() for record in heard)


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, UnicodeError])
def test_a_defect_is_answered_and_logged_without_its_text(
    people: int,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: type[Exception],
) -> None:
    def broken(*_: object) -> None:
        with transaction() as session:
            session.execute(text("SELECT :a::int"), {"a": SECRET}) if kind is RuntimeError else None
        raise kind(SECRET)

    monkeypatch.setattr(tickets, "submit", broken)
    http = caller("tool")
    with structlog.testing.capture_logs() as lines:
        answer = http.post("/deletions", json=body(SECRET))
    assert answer.status_code in (500, 422)
    is_problem(answer, answer.status_code)
    assert SECRET not in answer.text + str(lines) + "".join(capfd.readouterr())
    assert lines


class TestServersDown:
    def test_without_redis_a_ticket_is_accepted_all_the_same(
        self, people: int, http: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue, "rung", {})
        with structlog.testing.capture_logs() as lines:
            assert http.post("/deletions", json=body("s-0001")).status_code == 202
        assert [line["event"] for line in lines] == ["request", "nudge.lost"]

    def test_without_postgres_nothing_is_and_the_process_lives(
        self, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        from tests.databases import forget_settings

        monkeypatch.setenv("DATABASE_URL", f"postgresql://postgres@/nowhere?host={tmp_path}")
        forget_settings()
        http = TestClient(app, headers={"Authorization": "Bearer exp_a_b"})  # no lifespan: it would refuse to start
        is_problem(http.get("/readyz"), 503, "unavailable")
        is_problem(http.post("/deletions", json=body("s-0001")), 503, "unavailable")
        assert http.get("/livez").json() == {"status": "ok"}
