"""Answers that mean success and are not the service's: a proxy's page is no receipt, and nothing of it is kept."""

import inspect
from pathlib import Path
from typing import Any

import httpx
import pytest

from expunge import Client, NotUnderstood
from expunge.sync.http import LONG, ORDINARY
from tests.expunge.driver import KEY, URL, Driver, Script, problem

LOGIN = httpx.Response(200, html="<html>please log in</html>")
KEPT = {
    "tickets": [("receipt", "t"), ("statement", "t"), ("in_print", "t"), ("in_print", "t", "receipt")],
    "audit": [
        ("json", "m-v1"), ("page", "m-v1"), ("bundle", "m-v1"), ("pdf", "m-v1"), ("bom", "m-v1"), ("attestation", "m-v1"),
        ("form", "m-v1", "attestations"), ("form", "m-v1", "newer"), ("signature", "m-v1"), ("checkpoint",),
    ],
    "system": [("metrics",)],
    "schedules": [("remove", 1)],
    "webhooks": [("remove", "w")],
    "keys": [("revoke", "k")],
}  # fmt: skip
CALLS = [(room, *call) for room, calls in KEPT.items() for call in calls]
AS_JSON = [("tickets", "receipt"), ("tickets", "statement"), ("audit", "json"), ("audit", "signature")]


def call(client: Any, room: str, method: str, *arguments: Any) -> Any:
    return getattr(getattr(client, room), method)(*arguments)


@pytest.mark.parametrize("asked", CALLS)
def test_a_page_is_taken_for_nothing_else(driver: Driver, asked: tuple[Any, ...]) -> None:
    with pytest.raises(NotUnderstood, match=r"is not what this client expects .*Is a proxy in between") as refused:
        call(driver.client(Script(LOGIN).transport), *asked)
    assert refused.value.status == 200
    assert "log in" not in str(refused.value)


def test_all_that_has_no_shape_is_among_them() -> None:
    """What a method returns as it came, or does not look into, is looked at by its type alone."""
    with Client(URL, KEY) as client:
        rooms = {name: room for name, room in vars(client).items() if name != "http"}
    bare = {
        (name, method)
        for name, room in rooms.items()
        for method, made in inspect.getmembers(room, inspect.ismethod)
        if method[0] != "_" and made.__annotations__["return"] in (str, bytes, Any, None)
    }
    looked_into = {("system", "live"), ("system", "ready")}
    assert bare - looked_into == {(room, method) for room, method, *_ in CALLS}


@pytest.mark.parametrize(("room", "method"), AS_JSON)
@pytest.mark.parametrize("content", [b"{", b"", b"\xff"])
def test_json_that_is_none_is_told(driver: Driver, room: str, method: str, content: bytes) -> None:
    half = httpx.Response(200, content=content, headers={"content-type": "application/json"})
    with pytest.raises(NotUnderstood, match="it is no JSON"):
        call(driver.client(Script(half).transport), room, method, "m-v1")


def test_a_stylesheet_is_no_page_either(driver: Driver) -> None:
    page = httpx.Response(200, html='<link rel="stylesheet" href="/static/base.css">')
    with pytest.raises(NotUnderstood, match=r"/static/base\.css"):
        driver.client(Script(page, LOGIN).transport).audit.page("m-v1")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_the_type_is_read_as_it_may_be_written(driver: Driver, kind: str) -> None:
    script = Script(httpx.Response(200, content=b'{"a": 1}', headers={"content-type": kind}))
    assert driver.client(script.transport).tickets.receipt("t") == {"a": 1}


def test_a_form_of_a_later_release_is_kept_as_it_is(driver: Driver) -> None:
    script = Script(httpx.Response(200, content=b"a,b", headers={"content-type": "text/csv"}))
    assert driver.client(script.transport).audit.form("m-v1", "csv") == b"a,b"


def test_a_change_that_was_answered_by_something_else_may_have_been_made(driver: Driver) -> None:
    client = driver.client(Script(LOGIN).transport)
    with pytest.raises(NotUnderstood, match=r"says that it was carried out: look before you send it again\.$") as order:
        client.batches.retrain("m", "why")
    with pytest.raises(NotUnderstood, match=r"a call with the same Idempotency-Key is safe, and done once\.$") as made:
        client.tickets.submit("people", samples=["s-1"], idempotency_key="case-7")
    assert (order.value.idempotency_key, made.value.idempotency_key) == (None, "case-7")
    with pytest.raises(NotUnderstood, match=r"much later release\?$"):
        client.models.all()


def test_an_answer_that_names_no_request_is_known_by_the_id_that_was_sent(driver: Driver) -> None:
    script = Script(LOGIN)
    with pytest.raises(NotUnderstood) as refused:
        driver.client(script.transport).models.all()
    assert refused.value.request_id == script.asked[0].headers["x-request-id"]
    told = httpx.Response(200, html="", headers={"x-request-id": "r-9"})
    with pytest.raises(NotUnderstood) as named:
        driver.client(Script(told).transport).models.all()
    assert named.value.request_id == "r-9"


class TestTimeOuts:
    """Longer ones for what the service works on, unless a client of one's own brings others."""

    def seen(self, client: Client, script: Script, tmp_path: Path) -> list[Any]:
        calls = [
            lambda: client.audit.bundle("m-v1"),
            lambda: client.audit.pdf("m-v1"),
            lambda: client.policies.dry_run("m", {}),
            lambda: client.models.weights("m-v1", tmp_path / "w"),
            lambda: client.datasets.load("d", b"id\n"),
            lambda: client.tickets.submit("people", samples=["s-1"]),
            lambda: client.models.all(),
        ]
        for each in calls:
            with pytest.raises(Exception, match="what to do"):
                each()
        return [request.extensions["timeout"]["read"] for request in script.asked]

    def test_of_the_client_s_own(self, tmp_path: Path) -> None:
        script = Script(problem(400, "some_code"))
        with Client(URL, KEY) as client:
            client.http.http.close()
            client.http.http = httpx.Client(transport=script.transport, timeout=ORDINARY)
            assert self.seen(client, script, tmp_path) == [600] * 5 + [30, 30]
        assert LONG.as_dict()["connect"] == ORDINARY.as_dict()["connect"] == 10

    def test_of_a_client_that_was_given(self, tmp_path: Path) -> None:
        script = Script(problem(400, "some_code"))
        with httpx.Client(transport=script.transport, timeout=7) as mine:
            assert self.seen(Client(URL, KEY, http=mine), script, tmp_path) == [7] * 7
