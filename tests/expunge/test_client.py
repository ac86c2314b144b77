"""What a client is made of, what it never tells, and what it makes of answers that it does not know."""

import copy
import json
import logging
import pickle
import subprocess
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import expunge
from expunge import (
    AsyncClient,
    Client,
    Conflict,
    ExpungeError,
    Forbidden,
    Gone,
    InFlight,
    NotFound,
    NotUnderstood,
    PreconditionFailed,
    PreconditionRequired,
    Retry,
    SecondPerson,
    TooLarge,
    TooMany,
    TooSlow,
    Unauthenticated,
    Unavailable,
    Unprocessable,
)
from expunge.models import Drift, KeyMade, PolicyBody, TicketDetail, TicketState
from tests.expunge.driver import KEY, TICKET, URL, Driver, Script, problem, ticket

ONCE = Retry(tries=1)
MINE = "exp_0123456789ab_hunter2"


@pytest.mark.parametrize("module", ["expunge", "expunge.errors", "expunge.retries"])
def test_naming_the_package_costs_nothing(module: str) -> None:
    call = f"import sys, {module}; print(sorted({{'httpx', 'pydantic', 'anyio', 'app'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_names_what_it_has() -> None:
    for name in expunge.__all__:
        assert getattr(expunge, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = expunge.Klient  # type: ignore[attr-defined]  # that is the point


@pytest.mark.parametrize("kind", [Client, AsyncClient])
class TestWhereAndWithWhat:
    def test_the_environment_says_so(self, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXPUNGE_API_KEY", f" {KEY}\n")
        monkeypatch.setenv("EXPUNGE_API_URL", "https://cases.example.org/expunge/")
        assert repr(kind()) == f"{kind.__name__}('https://cases.example.org/expunge')"
        monkeypatch.delenv("EXPUNGE_API_URL")
        assert "127.0.0.1:8420" in repr(kind())
        assert "other.example" in repr(kind("http://other.example"))

    @pytest.mark.parametrize("key", ["", "  ", "with space", "ключ", "line\nfeed", None])
    def test_what_is_no_key_is_not_sent(self, kind: Any, key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EXPUNGE_API_KEY", raising=False)
        with pytest.raises(Unauthenticated, match="EXPUNGE_API_KEY"):
            kind(URL, key)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "nowhere",
            "ftp://x",
            "http://",
            "http://h:port",
            "http://h:0",
            "http://[::1",
            "http://h/?a=b",
            "http://h#a",
            "http://-é..",
            "http://..",
            "http://" + "a" * 64,
            "http://1.2.3.999",
            "http://h\x01",
            "http://h\n.example/",
            "http://h\ud800",
            "http://" + "h" * 70_000,
        ],
    )
    def test_what_is_no_address_is_not_called(self, kind: Any, url: str) -> None:
        with pytest.raises(ExpungeError, match="EXPUNGE_API_URL"):
            kind(url, KEY)

    def test_a_password_in_the_address_is_refused_and_not_repeated(self, kind: Any) -> None:
        with pytest.raises(ExpungeError, match="user and password") as refused:
            kind("https://me:hunter2@h", KEY)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "key"), [("http//typo", MINE), (URL, f"{MINE} mangled"), (URL, f"{MINE}\u200b"), (URL, None)]
)
def test_a_client_that_cannot_be_made_shows_no_key(
    kind: Any, url: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In none of this package's frames, where a traceback is reported with its local variables."""
    monkeypatch.setenv("EXPUNGE_API_KEY", f"{MINE} mangled")
    with pytest.raises(ExpungeError) as refused:
        kind(url, key)
    package = str(Path(expunge.__file__).parent)
    trace = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    frames = [frame for frame in trace.stack if frame.filename.startswith(package)]
    assert len(frames) >= 3
    assert not [frame for frame in frames if "hunter2" in repr(frame.locals)]
    assert frames[0].locals is not None
    assert frames[0].locals["self"] == f"{kind.__name__}(...)"


def test_a_key_may_come_wrapped(driver: Driver) -> None:
    script = Script(httpx.Response(200, json=[]))
    driver.client(script.transport, key=SecretStr(KEY)).models.all()
    assert script.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_key_is_sent_and_told_nowhere(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a repr, an error with all its local variables, or a log line at the lowest level; nor through a redirect."""
    caplog.set_level(logging.DEBUG)
    script = Script(httpx.ReadError, problem(401, "unauthenticated"))
    client = driver.client(script.transport)
    with pytest.raises(Unauthenticated) as refused:
        client.tickets.get(TICKET["id"])
    assert [request.headers["authorization"] for request in script.asked] == [f"Bearer {KEY}"] * 2
    inner = client.inner if driver.awaits else client
    frames = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    told = [repr(inner), repr(vars(inner.http)), caplog.text, "".join(frames.format()), repr(refused.value)]
    assert "try 2 in" in caplog.text
    assert not [text for text in told if KEY in text or KEY.rpartition("_")[2] in text]
    moved = Script(httpx.Response(307, headers={"location": "http://elsewhere.example/"}), httpx.Response(200, json=[]))
    with pytest.raises(ExpungeError, match=r"307.*EXPUNGE_API_URL"):
        driver.client(moved.transport).models.all()
    assert len(moved.asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", Unauthenticated), (403, "forbidden", Forbidden), (403, "second_person", SecondPerson),
        (404, "not_found", NotFound), (408, "too_slow", TooSlow), (409, "conflict", Conflict), (409, "in_flight", InFlight),
        (410, "gone", Gone), (412, "precondition_failed", PreconditionFailed), (413, "too_large", TooLarge),
        (422, "invalid", Unprocessable), (422, "bad_cron", Unprocessable), (428, "precondition_required", PreconditionRequired),
        (429, "too_many", TooMany), (500, "internal", ExpungeError), (503, "unavailable", Unavailable),
        (503, "old_schema", Unavailable), (418, "new_one", ExpungeError), (409, "new_one", Conflict),
    ],
)  # fmt: skip
def test_each_problem_is_an_error_of_its_own(driver: Driver, status: int, code: str, kind: type[ExpungeError]) -> None:
    with pytest.raises(kind, match=r"^what to do$") as refused:
        driver.client(Script(problem(status, code)).transport, retry=ONCE).models.all()
    error = refused.value
    assert type(error) is kind
    assert (error.code, error.status, error.detail, error.request_id) == (code, status, "what to do", "r-1")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), vars(again), str(again)) == (kind, vars(error), str(error))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(502, text="<html>bad gateway</html>"), "answered 502 Bad Gateway"),
        (httpx.Response(404, text="nothing here"), "answered 404 Not Found. Is EXPUNGE_API_URL its address"),
        (httpx.Response(400, text="{", headers={"content-type": "application/problem+json"}), "answered 400"),
        (httpx.Response(400, text="[]", headers={"content-type": "application/problem+json"}), "answered 400"),
        (
            httpx.Response(400, json={"detail": [1]}, headers={"content-type": "application/problem+json"}),
            "answered 400",
        ),
        (httpx.Response(403, json={"detail": "of another program"}), "answered 403"),
    ],
)
def test_a_refusal_that_is_no_problem_still_is_a_sentence(driver: Driver, answer: httpx.Response, said: str) -> None:
    with pytest.raises(ExpungeError, match=said) as refused:
        driver.client(Script(answer).transport, retry=ONCE).models.all()
    assert refused.value.code == f"http_{answer.status_code}"
    assert "another program" not in str(refused.value)


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[{"name": "s-17"}])])
def test_an_answer_of_something_else_is_told_without_its_values(driver: Driver, answer: httpx.Response) -> None:
    with pytest.raises(NotUnderstood, match="/models is not what this client expects") as refused:
        driver.client(Script(answer).transport).models.all()
    assert "s-17" not in str(refused.value)


def test_no_answer_says_what_to_do(driver: Driver) -> None:
    with pytest.raises(
        Unavailable, match=r"No service answers at http://service.test \(ConnectError\). Is it up"
    ) as away:
        driver.client(Script(httpx.ConnectError).transport, retry=ONCE).models.all()
    assert away.value.status is None
    assert away.value.request_id
    with pytest.raises(Unavailable, match=r"broke off before the answer was whole \(ReadError\)\.$"):
        driver.client(Script(httpx.ReadError).transport, retry=ONCE).models.all()


class TestANewerService:
    def test_fields_that_are_not_known_are_ignored(self, driver: Driver) -> None:
        answer = httpx.Response(200, json=TICKET | {"newer": {"deep": [1]}})
        assert driver.client(Script(answer).transport).tickets.get(TICKET["id"]).dataset == "people"

    def test_words_that_are_not_known_are_taken_as_they_are(self, driver: Driver) -> None:
        script = Script(ticket("resting", state="dozing"), ticket("fulfilled"))
        seen: list[TicketDetail] = []
        driver.client(script.transport).tickets.wait(TICKET["id"], progress=seen.append)
        assert [each.state for each in seen] == ["resting", TicketState.FULFILLED]
        assert seen[0].obligations[0].state == "dozing"
        assert json.loads(seen[0].model_dump_json())["state"] == "resting"
        assert pickle.loads(pickle.dumps(seen[0])) == seen[0]
        assert {TicketState("resting"): 1}["resting"] == 1  # type: ignore[index]  # as a word, it is its text
        with pytest.raises(ValueError, match="3"):
            TicketState(3)

    def test_a_policy_s_values_that_are_not_known_are_put_back(self, driver: Driver) -> None:
        """Read, changed and put back whole: what is left out would get its default."""
        body = PolicyBody().model_dump(mode="json")
        body["thresholds"] |= {"newer": 0.5}
        body |= {"newest": {"a": 1}}
        whole = {"model": "m", "number": 1, "author": "a", "approved_by": None, "created_at": "2026-01-01T00:00:00Z"}
        script = Script(httpx.Response(200, json=whole | {"policy": body}, headers={"ETag": '"policy-1-1"'}))
        client = driver.client(script.transport)
        found = client.policies.get("m")
        found.policy.thresholds.ue = 0.1
        client.policies.replace("m", found.policy, found.etag)
        body["thresholds"]["ue"] = 0.1
        assert json.loads(script.asked[-1].content) == body
        assert script.asked[-1].headers["if-match"] == '"policy-1-1"'


def view(policy: dict[str, Any]) -> httpx.Response:
    whole = {"model": "m", "number": 1, "author": "a", "approved_by": None, "created_at": "2026-01-01T00:00:00Z"}
    return httpx.Response(200, json=whole | {"policy": policy}, headers={"ETag": '"policy-1-1"'})


class TestPolicies:
    """What is sent is what was said: nothing of this client's own defaults."""

    @pytest.mark.parametrize(
        "said",
        [
            {},
            {"thresholds": {"ue": 0.2}, "ladder": ["retrain"]},
            {"thresholds": {"ue": 0.2, "newer": 1}, "newest": {"a": [1]}, "drift": {}},
            PolicyBody().model_dump(mode="json"),
        ],
        ids=["nothing", "older", "newer", "whole"],
    )
    def test_one_that_was_read_goes_back_as_it_came(self, driver: Driver, said: dict[str, Any]) -> None:
        script = Script(view(said))
        client = driver.client(script.transport)
        found = client.policies.get("m")
        client.policies.replace("m", found.policy, found.etag)
        assert json.loads(script.asked[-1].content) == said
        found.policy.thresholds.ue = 0.1
        client.policies.replace("m", found.policy, found.etag)
        assert json.loads(script.asked[-1].content) == said | {"thresholds": said.get("thresholds", {}) | {"ue": 0.1}}

    def test_a_proxy_that_compresses_does_no_harm(self, driver: Driver) -> None:
        """It weakens the ETag, which would never match again."""
        answer = view({})
        answer.headers["etag"] = 'W/"policy-1-1"'
        script = Script(answer)
        client = driver.client(script.transport)
        client.policies.replace("m", {}, client.policies.get("m").etag)
        assert script.asked[-1].headers["if-match"] == '"policy-1-1"'

    def test_one_that_is_made_is_what_was_said_of_it(self, driver: Driver) -> None:
        script = Script(view({}))
        client = driver.client(script.transport)
        changed = PolicyBody()
        changed.thresholds.ue = 0.1
        changed.methods["scrub"] = {"rewind": True}
        changed.retrain_tiers.clear()
        bodies: list[tuple[Any, Any]] = [
            (PolicyBody(ladder=["retrain"]), {"ladder": ["retrain"]}),
            (PolicyBody(drift=Drift(max_updates=7)), {"drift": {"max_updates": 7}}),
            (PolicyBody(keep_weights_days=30), {"keep_weights_days": 30}),
            (changed, {"thresholds": {"ue": 0.1}, "methods": {"scrub": {"rewind": True}}, "retrain_tiers": []}),
            ({"ladder": ["retrain"]}, {"ladder": ["retrain"]}),
        ]
        for body, sent in bodies:
            client.policies.replace("m", body, '"policy-1-1"')
            assert json.loads(script.asked[-1].content) == sent
            with pytest.raises(NotUnderstood):
                client.models.register("m", "people", "digits", body)
            assert json.loads(script.asked[-1].content)["policy"] == sent


def test_a_single_id_is_not_taken_for_a_list_of_letters(driver: Driver) -> None:
    script = Script(httpx.ReadError)
    with pytest.raises(TypeError, match=r"write \[an_id\]"):
        driver.client(script.transport).tickets.submit("people", samples="s-1")
    assert script.asked == []


@pytest.mark.parametrize("key", ["", "ключ", "line\nfeed", "x" * 256])
def test_an_idempotency_key_that_cannot_be_sent_is_refused(driver: Driver, key: str) -> None:
    script = Script(httpx.ReadError)
    with pytest.raises(Unprocessable, match="255 printable"):
        driver.client(script.transport).tickets.submit("people", samples=["s-1"], idempotency_key=key)
    assert script.asked == []


def test_an_id_that_is_no_text_is_refused_and_not_repeated(driver: Driver) -> None:
    script = Script(httpx.ReadError)
    for wrong, said in (("s-17\ud800", "half a character"), (17, "sample_ids.0: Input should be a valid string")):
        with pytest.raises(Unprocessable, match=said) as refused:
            driver.client(script.transport).tickets.submit("people", samples=[wrong])
        assert "17" not in str(refused.value)
    assert script.asked == []


def test_what_cannot_be_an_address_is_refused_and_not_repeated(driver: Driver) -> None:
    script = Script(httpx.ReadError)
    client = driver.client(script.transport)
    asks = [
        lambda: client.models.get("n" * 70_000),
        lambda: client.tickets.page(external_id="n" * 70_000),
        lambda: client.tickets.page(external_id="n\ud800"),
    ]
    for ask in asks:
        with pytest.raises(Unprocessable, match="cannot be sent as an address") as refused:
            ask()
        assert "nnn" not in str(refused.value)
    assert script.asked == []


@pytest.mark.parametrize("etag", ['"policy-é"', '"policy\n-1"', "\ud800", "\0"])
def test_a_header_that_cannot_be_sent_is_refused(driver: Driver, etag: str) -> None:
    script = Script(httpx.ReadError)
    with pytest.raises(Unprocessable, match="If-Match cannot be sent"):
        driver.client(script.transport).policies.replace("m", {}, etag)
    assert script.asked == []


@pytest.mark.parametrize("name", ["a/b", "../models", "a\\b", "..\\models", "/", "a" * 100 + "/"])
def test_a_slash_in_a_name_is_not_sent(driver: Driver, name: str) -> None:
    """Encoded it may be decoded on the way, and lead to another place."""
    script = Script(httpx.ReadError)
    for call in ("get", "flush"):
        with pytest.raises(NotFound, match="Nothing is called"):
            getattr(driver.client(script.transport).models, call)(name)
    assert script.asked == []


def test_each_request_says_which_release_asks(driver: Driver) -> None:
    script = Script(httpx.Response(200, json=[]))
    client = driver.client(script.transport)
    client.models.all()
    client.request("GET", "/models", headers={"User-Agent": b"mine"})
    said = [request.headers["user-agent"] for request in script.asked]
    assert said == [f"expunge-python/{version('expunge')}", "mine"]
    assert expunge.__version__ == version("expunge")


@pytest.mark.parametrize("path", ["models", ".evil.example/", "@evil.example/", ":81/models", ""])
def test_a_path_leads_to_no_other_host(driver: Driver, path: str) -> None:
    """Behind the address it would be read as more of the host, which would then be sent the key."""
    script = Script(httpx.Response(200, json=[]))
    with pytest.raises(ValueError, match="begins with /"):
        driver.client(script.transport).request("GET", path)
    assert script.asked == []
    driver.client(script.transport).request("GET", "//evil.example/")
    assert script.asked[0].url.host == "service.test"


def test_a_name_of_a_file_is_not_taken_for_its_content(driver: Driver) -> None:
    script = Script(httpx.ReadError)
    with pytest.raises(TypeError, match="Path"):
        driver.client(script.transport).datasets.load("people", "manifest.csv")
    assert script.asked == []


def test_a_secret_that_is_made_is_shown_by_name_alone() -> None:
    """In a log line or a traceback that shows the answer; whoever asks for it by name has it."""
    made = KeyMade.model_construct(prefix="0123456789ab", client="desk", key="exp_0123456789ab_hush")
    assert "hush" not in repr(made) + str(made)
    assert "desk" in repr(made)
    assert made.key == "exp_0123456789ab_hush"


def test_a_process_that_is_not_the_service_is_neither_alive_nor_ready(driver: Driver) -> None:
    """A portal or a proxy may answer everything with a page and 200."""
    client = driver.client(Script(httpx.Response(200, text="<html>please log in</html>")).transport)
    for ask in (client.system.live, client.system.ready):
        with pytest.raises(NotUnderstood):
            ask()


def test_an_idempotency_key_of_one_s_own_request_is_known_in_small_letters_too(driver: Driver) -> None:
    script = Script(problem(503, "unavailable"), httpx.Response(200, json={}))
    driver.client(script.transport).request("POST", "/new", json={"a": 1}, headers={"idempotency-key": "k"})
    assert len(script.asked) == 2
    assert script.asked[1].headers["content-type"] == "application/json"
    again = Script(problem(503, "unavailable"), httpx.Response(200, json={}))
    assert driver.client(again.transport).request("get", "/new").status_code == 200


def test_a_client_closes_what_it_opened_and_nothing_else() -> None:
    with Client(URL, KEY) as client:
        mine = client.http.http
    assert mine.is_closed
    with httpx.Client() as given:
        with Client(URL, KEY, http=given):
            pass
        assert not given.is_closed


@pytest.mark.parametrize(
    "after",
    [
        "soon",
        "",
        "-3",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +" + "9" * 20,
    ],
)
def test_a_retry_after_that_says_nothing_of_use_is_no_harm(driver: Driver, after: str) -> None:
    script = Script(problem(429, "too_many", retry_after=after), httpx.Response(200, json=[]))
    assert driver.client(script.transport).models.all() == []
    assert driver.clock.slept[0] <= 0.5
