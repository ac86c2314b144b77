"""The endpoints' life over HTTP."""

from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook

from app import config, queue
from app.auth import Scope
from app.db import transaction
from app.tables import AuditEvent
from app.webhooks import endpoints, relay
from tests.app import story
from tests.app.conftest import Caller
from tests.app.webhooks import scene
from tests.app.webhooks.conftest import configured
from tests.receiver import receiver

__all__ = ["configured"]
pytestmark = pytest.mark.usefixtures("configured")
URL = "https://hooks.example/in"


def made(http: TestClient, **asked: Any) -> dict[str, Any]:
    answer = http.post("/webhooks", json={"url": URL} | asked)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == found["href"] == f"/webhooks/{found['id']}"
    assert answer.headers["cache-control"] == "no-store"
    return found


def test_a_secret_is_shown_once(caller: Caller) -> None:
    http = caller("mine", Scope.WEBHOOKS_WRITE)
    answer = made(http, description="the case desk")
    assert answer.pop("secret").startswith("whsec_")
    assert http.get(answer["href"]).json() == answer
    assert http.get("/webhooks").json() == {"items": [answer], "next": None}
    assert (answer["client"], answer["every_client"], answer["enabled"]) == ("mine", False, True)


def test_a_client_sees_its_own_and_an_admin_all(caller: Caller) -> None:
    mine, other, root = caller("mine", Scope.WEBHOOKS_WRITE), caller("other", Scope.WEBHOOKS_WRITE), caller("root")
    first, second = made(mine), made(other)
    assert [row["id"] for row in mine.get("/webhooks").json()["items"]] == [first["id"]]
    page = root.get("/webhooks", params={"limit": 1}).json()
    assert [row["id"] for row in page["items"]] == [second["id"]]
    rest = root.get("/webhooks", params={"limit": 1, "cursor": page["next"]}).json()
    assert [row["id"] for row in rest["items"]] == [first["id"]]
    assert rest["next"] is None
    assert mine.get("/webhooks", params={"cursor": page["next"]}).status_code == 422
    assert made(root)["every_client"]


def test_a_narrow_key_of_an_admin_s_client_turns_no_endpoint_of_every_client(caller: Caller) -> None:
    admin, narrow = caller("ops"), caller("ops", Scope.WEBHOOKS_WRITE)
    href = made(admin)["href"]
    assert narrow.get(href).status_code == 200
    for refused in (
        narrow.patch(href, json={"url": "https://elsewhere.example/in"}),
        narrow.delete(href),
        narrow.post(f"{href}/rotate"),
        narrow.post(f"{href}/test"),
        narrow.post(f"{href}/deliveries/{uuid4()}/redeliver"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert admin.get(href).json()["url"] == URL
    own = made(narrow)["href"]
    assert narrow.patch(own, json={"url": "https://elsewhere.example/in"}).status_code == 200


def test_what_only_admins_are_told_is_refused_to_others(caller: Caller) -> None:
    http = caller("mine", Scope.WEBHOOKS_WRITE)
    refused = http.post("/webhooks", json={"url": URL, "events": ["version.published"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    endpoint = made(http, events=["ticket.fulfilled"])
    assert http.patch(endpoint["href"], json={"events": ["model.stopped"]}).status_code == 403
    assert made(caller("root"), events=["version.published"])["events"] == ["version.published"]


@pytest.mark.parametrize(
    "body",
    [
        {"url": "https://127.0.0.2.example/\u0000"},
        {"url": "https://[::2]/"},
        {"url": "https://169.254.169.254/latest/meta-data"},
        {"url": "https://0xa9fea9fe/"},
        {"url": "gopher://hooks.example/"},
        {"url": URL, "events": []},
        {"url": URL, "events": ["ticket.forgotten"]},
        {"url": URL, "secret": "mine"},
        {},
    ],
)
def test_what_is_refused(caller: Caller, body: dict[str, Any]) -> None:
    refused = caller("mine", Scope.WEBHOOKS_WRITE).post("/webhooks", json=body)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"


def test_changes(caller: Caller) -> None:
    http = caller("mine", Scope.WEBHOOKS_WRITE)
    endpoint = made(http, events=["ticket.fulfilled"])
    changed = http.patch(endpoint["href"], json={"events": None, "description": "x", "url": URL + "2"}).json()
    assert (changed["events"], changed["description"], changed["url"]) == (None, "x", URL + "2")
    off = http.patch(endpoint["href"], json={"enabled": False}).json()
    assert (off["enabled"], off["disabled_why"], off["events"]) == (False, "by mine", None)
    assert http.post(f"{endpoint['href']}/test").status_code == 409
    on = http.patch(endpoint["href"], json={"enabled": True}).json()
    assert (on["enabled"], on["disabled_at"], on["disabled_why"]) == (True, None, None)
    assert http.patch(endpoint["href"], json={"url": "https://10.0.0.1/"}).status_code == 422
    assert http.delete(endpoint["href"]).status_code == 204
    assert http.get(endpoint["href"]).status_code == 404
    kinds = [event.kind for event in story.all_of(AuditEvent) if event.kind.startswith("webhook")]
    assert kinds == ["webhook.created", "webhook.changed", "webhook.changed", "webhook.changed", "webhook.removed"]


def test_rotation(caller: Caller) -> None:
    http = caller("mine", Scope.WEBHOOKS_WRITE)
    endpoint = made(http)
    first = http.post(f"{endpoint['href']}/rotate").json()
    assert first["secret"] != endpoint["secret"]
    assert first["old_secret_until"] is not None
    second = http.post(f"{endpoint['href']}/rotate", json={"overlap_hours": 0}).json()
    assert second["old_secret_until"] is None
    assert len({endpoint["secret"], first["secret"], second["secret"]}) == 3
    assert http.post(f"{endpoint['href']}/rotate", json={"overlap_hours": 1000}).status_code == 422


def test_a_test_call_its_deliveries_and_a_redelivery(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[str] = []
    monkeypatch.setattr(queue, "send", rung.append)
    http = caller("mine", Scope.WEBHOOKS_WRITE)
    with receiver() as listening:
        endpoint = made(http, url=listening.url())
        sent = http.post(f"{endpoint['href']}/test")
        assert (sent.status_code, sent.json()["type"], sent.json()["state"]) == (202, "webhook.test", "pending")
        assert http.post(f"{endpoint['href']}/test").status_code == 409
        scene.drain()
        (row,) = http.get(f"{endpoint['href']}/deliveries").json()["items"]
        assert (row["id"], row["state"], row["next_attempt_at"]) == (sent.json()["id"], "delivered", None)
        assert [(each["outcome"], each["status"]) for each in row["attempts"]] == [("delivered", 204)]
        again = http.post(f"{endpoint['href']}/deliveries/{row['id']}/redeliver")
        assert (again.status_code, again.json()["state"]) == (202, "pending")
        scene.drain()
        assert listening.ids() == {row["id"]: 2}
        told = Webhook(endpoint["secret"]).verify(listening.calls[0].body, listening.calls[0].headers)
    assert told["data"] == {"webhook": endpoint["id"], "href": endpoint["href"]}
    assert rung == [queue.DELIVER, queue.DELIVER]
    assert http.post(f"{endpoint['href']}/deliveries/{uuid4()}/redeliver").status_code == 404


def test_deliveries_come_in_pages(caller: Caller) -> None:
    story.dataset()
    http = caller("mine", Scope.WEBHOOKS_WRITE, Scope.DELETIONS_WRITE)
    endpoint = made(http, events=["ticket.accepted"])
    for ordinal in range(5):
        story.submit(ordinal, client="mine")
    relay.fan_out()
    seen, cursor = [], None
    while True:
        parameters = {"limit": 2, "state": "pending"} | ({"cursor": cursor} if cursor else {})
        page = http.get(f"{endpoint['href']}/deliveries", params=parameters).json()
        seen += [row["sequence"] for row in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5
    assert http.get(f"{endpoint['href']}/deliveries", params={"state": "failed"}).json()["items"] == []
    answer = http.get(f"{endpoint['href']}/deliveries", params={"cursor": "AAAA"})
    assert answer.status_code == 422


def test_a_client_has_so_many_and_no_more(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MOST", 2)
    http = caller("mine", Scope.WEBHOOKS_WRITE)
    made(http), made(http)
    assert http.post("/webhooks", json={"url": URL}).status_code == 409
    made(caller("other", Scope.WEBHOOKS_WRITE))


def test_without_the_installations_secret_it_says_so(
    database: str, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXPUNGE_WEBHOOK_SECRET")
    config.settings.cache_clear()
    answer = caller("mine", Scope.WEBHOOKS_WRITE).post("/webhooks", json={"url": URL})
    assert (answer.status_code, answer.json()["code"]) == (503, "not_configured")
    with transaction() as session:
        assert session.query(AuditEvent).filter_by(kind="webhook.created").count() == 0
