"""When a request is sent again, and when never: on a transport that fails as it is told to, and a clock nobody waits for."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.console import SOON
from expunge import Conflict, ExpungeError, InFlight, NotConfigured, NotFound, Retry, TooMany, Unavailable
from expunge.retries import Fate, Tries
from expunge.sync.http import ORDINARY
from tests.expunge.driver import Driver, Script, problem

ACCEPTED = {
    "id": "26a1f0c2-5d1e-4a7b-9a53-0c8f4f0f6d11",
    "state": "pending",
    "counts": {"accepted": 1, "unknown": 0, "already_forgotten": 0, "pending_elsewhere": 0},
    "models": 1,
    "href": "/deletions/26a1f0c2-5d1e-4a7b-9a53-0c8f4f0f6d11",
    "receipt": "/deletions/26a1f0c2-5d1e-4a7b-9a53-0c8f4f0f6d11/receipt",
}
NEVER_ARRIVED = [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout]
MAY_HAVE_ARRIVED = [httpx.ReadError, httpx.ReadTimeout, httpx.WriteError, httpx.WriteTimeout, httpx.RemoteProtocolError]
UNAVAILABLE = problem(503, "unavailable")


def ok(body: Any = None) -> httpx.Response:
    return httpx.Response(200, json=[] if body is None else body)


@pytest.mark.parametrize("failure", [*NEVER_ARRIVED, *MAY_HAVE_ARRIVED])
def test_a_read_is_tried_again_whatever_broke(driver: Driver, failure: type[Exception]) -> None:
    script = Script(failure, failure, ok())
    assert driver.client(script.transport).models.all() == []
    assert len(script.asked) == 3
    assert len(driver.clock.slept) == 2


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_read_is_tried_again_when_something_is_away(driver: Driver, status: int) -> None:
    script = Script(httpx.Response(status, text="<html>away</html>"), ok())
    assert driver.client(script.transport).models.all() == []
    assert len(script.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 412, 422, 428, 500, 501])
def test_a_refusal_is_final(driver: Driver, status: int) -> None:
    script = Script(problem(status, "some_code"), ok())
    with pytest.raises(ExpungeError):
        driver.client(script.transport).models.all()
    assert len(script.asked) == 1


def test_what_the_installation_lacks_does_not_come_by_waiting(driver: Driver) -> None:
    script = Script(problem(503, "not_configured"), ok())
    with pytest.raises(NotConfigured):
        driver.client(script.transport).webhooks.page()
    assert len(script.asked) == 1


@pytest.mark.parametrize("failure", [*NEVER_ARRIVED, *MAY_HAVE_ARRIVED, UNAVAILABLE, problem(429, "too_many")])
def test_every_try_of_a_ticket_has_the_same_key_and_body(driver: Driver, failure: Any) -> None:
    script = Script(failure, failure, ok(ACCEPTED))
    made = driver.client(script.transport).tickets.submit("people", samples=["s-1"])
    assert str(made.id) == ACCEPTED["id"]
    assert len(script.asked) == 3
    assert len({request.headers["idempotency-key"] for request in script.asked}) == 1
    assert len({request.headers["x-request-id"] for request in script.asked}) == 1
    assert {request.content for request in script.asked} == {script.asked[0].content}


def test_two_calls_have_two_keys_unless_one_is_given(driver: Driver) -> None:
    script = Script(ok(ACCEPTED))
    client = driver.client(script.transport)
    client.tickets.submit("people", samples=["s-1"])
    client.tickets.submit("people", samples=["s-1"])
    client.tickets.submit("people", samples=["s-1"], idempotency_key="case-7")
    first, second, third = (request.headers["idempotency-key"] for request in script.asked)
    assert first != second
    assert third == "case-7"


def test_a_ticket_whose_first_try_is_still_being_answered_is_waited_for(driver: Driver) -> None:
    script = Script(httpx.ReadTimeout, problem(409, "in_flight"), problem(409, "in_flight"), ok(ACCEPTED))
    driver.client(script.transport).tickets.submit("people", samples=["s-1"])
    assert len(script.asked) == 4
    with pytest.raises(InFlight):
        driver.client(Script(problem(409, "in_flight")).transport).tickets.submit("people", samples=["s-1"])


@pytest.mark.parametrize("failure", [*MAY_HAVE_ARRIVED, UNAVAILABLE, problem(429, "too_many"), httpx.Response(502)])
def test_a_post_without_a_key_is_sent_once_when_it_may_have_arrived(driver: Driver, failure: Any) -> None:
    script = Script(failure, ok())
    client = driver.client(script.transport)
    with pytest.raises(TooMany if is_429(failure) else Unavailable):
        client.batches.retrain("m", "why")
    with pytest.raises(ExpungeError):
        driver.client(Script(failure, ok()).transport).webhooks.change("w", enabled=True)
    assert len(script.asked) == 1
    assert driver.clock.slept == []


def is_429(failure: Any) -> bool:
    return isinstance(failure, httpx.Response) and failure.status_code == 429


@pytest.mark.parametrize("failure", NEVER_ARRIVED)
def test_a_post_that_cannot_have_arrived_is_sent_again(driver: Driver, failure: type[Exception]) -> None:
    script = Script(failure, problem(409, "conflict"))
    with pytest.raises(Conflict):
        driver.client(script.transport).batches.retry("b")
    assert len(script.asked) == 2


def test_a_manifest_that_can_be_read_once_is_sent_once(driver: Driver, tmp_path: Path) -> None:
    made = {
        "name": "d", "samples": 1, "subjects": 1, "subjects_estimated": False, "manifest_sha256": "0" * 64,
        "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    once, again, away = (Script(httpx.ReadError, ok(made)) for _ in range(3))
    with pytest.raises(Unavailable, match="may have been carried out"):
        driver.client(once.transport).datasets.load("d", iter([b"id\n", b"a\n"]))
    assert len(once.asked) == 1
    file = tmp_path / "m.csv"
    file.write_bytes(b"id,subject\n" + b"a,x\n" * 400_000)
    assert driver.client(again.transport).datasets.load("d", file).samples == 1
    assert driver.client(away.transport).datasets.load("d", b"id\na\n").samples == 1
    assert len(again.asked) == len(away.asked) == 2


def test_a_manifest_is_sent_as_it_is_made(driver: Driver) -> None:
    """From whatever gives bytes; where the client awaits, also from what is awaited."""

    async def awaited() -> AsyncIterator[bytes]:
        yield b"id\n"
        yield b"a\n"

    script = Script(problem(409, "conflict"))
    for manifest in ([b"id\n", b"a\n"], *([awaited()] if driver.awaits else [])):
        with pytest.raises(Conflict):
            driver.client(script.transport).datasets.load("d", manifest)
    assert {request.content for request in script.asked} == {b"id\na\n"}
    assert {request.headers["content-type"] for request in script.asked} == {"text/csv"}


def test_retry_after_is_kept_to(driver: Driver) -> None:
    script = Script(problem(429, "too_many", retry_after="7"), problem(503, "unavailable", retry_after="3"), ok())
    driver.client(script.transport).models.all()
    first, second = driver.clock.slept
    assert 7 <= first <= 7.5
    assert 3 <= second <= 4


def test_a_retry_after_that_is_too_long_is_told_at_once(driver: Driver) -> None:
    script = Script(problem(429, "too_many", "The day's ids are spent.", retry_after="40000"))
    with pytest.raises(TooMany, match="spent") as refused:
        driver.client(script.transport).models.all()
    assert refused.value.retry_after == 40000
    assert driver.clock.slept == []


def test_tries_are_bounded_in_number_and_in_time(driver: Driver) -> None:
    script = Script(UNAVAILABLE)
    with pytest.raises(Unavailable):
        driver.client(script.transport, retry=Retry(tries=3)).models.all()
    assert len(script.asked) == 3
    slow = Script(problem(503, "unavailable", retry_after="20"))
    begun = driver.clock.now
    with pytest.raises(Unavailable):
        driver.client(slow.transport, retry=Retry(tries=100, seconds=65)).models.all()
    assert driver.clock.now - begun <= 65
    assert 3 <= len(slow.asked) <= 4
    none = Script(httpx.ConnectError)
    with pytest.raises(Unavailable):
        driver.client(none.transport, retry=Retry(tries=1)).models.all()
    assert len(none.asked) == 1


@pytest.mark.parametrize(("failure", "tries"), [(httpx.ConnectTimeout, 5), (httpx.ReadTimeout, 3)])
def test_a_time_out_is_tried_again_and_not_for_ever(driver: Driver, failure: type[Exception], tries: int) -> None:
    """The minute begins when the first try has failed: else a read that timed out would have used it up."""
    script = Script(failure, clock=driver.clock)
    with pytest.raises(Unavailable):
        driver.client(script.transport, timeout=ORDINARY).tickets.submit("people", samples=["s-1"])
    assert len(script.asked) == tries
    assert len({request.headers["idempotency-key"] for request in script.asked}) == 1
    assert driver.clock.now <= 3 * 30 + 60


def test_a_ticket_s_answer_that_times_out_once_comes_with_the_second_try(driver: Driver) -> None:
    script = Script(httpx.ReadTimeout, ok(ACCEPTED), clock=driver.clock)
    made = driver.client(script.transport, timeout=ORDINARY).tickets.submit("people", samples=["s-1"])
    assert str(made.id) == ACCEPTED["id"]
    assert driver.clock.now >= 30


def test_where_somebody_waits_a_time_out_is_tried_again_too(driver: Driver) -> None:
    script = Script(httpx.ReadTimeout, ok(), clock=driver.clock)
    assert driver.client(script.transport, timeout=ORDINARY, retry=SOON).models.all() == []
    script = Script(httpx.ReadTimeout, clock=driver.clock)
    with pytest.raises(Unavailable):
        driver.client(script.transport, timeout=ORDINARY, retry=SOON).models.all()
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.Response(502), problem(409, "in_flight")]
)
def test_the_key_of_a_ticket_that_failed_is_told(driver: Driver, failure: Any) -> None:
    """Else a call that failed could be repeated under a key of its own alone, and make a second ticket."""
    script = Script(failure)
    with pytest.raises(ExpungeError) as made:
        driver.client(script.transport).tickets.submit("people", samples=["s-1"])
    assert made.value.idempotency_key == script.asked[0].headers["idempotency-key"]
    assert made.value.idempotency_key not in made.value.detail
    with pytest.raises(ExpungeError) as given:
        driver.client(script.transport).tickets.submit("people", samples=["s-1"], idempotency_key="case-7")
    assert given.value.idempotency_key == "case-7"
    with pytest.raises(ExpungeError) as read:
        driver.client(script.transport).models.all()
    assert read.value.idempotency_key is None


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([httpx.ConnectError], r"is that its address\?$"),
        ([UNAVAILABLE], r"what to do$"),
        ([problem(422, "invalid")], r"what to do$"),
        ([httpx.ReadTimeout, problem(422, "invalid")], r"what to do$"),
        ([httpx.Response(502)], r"It may have|An earlier try"),
        ([httpx.ReadTimeout, httpx.ConnectError], r"An earlier try of this same request may have been carried out"),
        ([httpx.ReadTimeout, UNAVAILABLE], r"a call with the same Idempotency-Key is safe, and done once\.$"),
    ],
)
def test_what_may_have_become_of_a_ticket_is_said(driver: Driver, answers: list[Any], said: str) -> None:
    with pytest.raises(ExpungeError, match=said) as refused:
        driver.client(Script(*answers).transport).tickets.submit("people", samples=["s-1"])
    assert refused.value.args == (refused.value.detail,)


def test_a_read_that_failed_has_changed_nothing(driver: Driver) -> None:
    for answers in ([httpx.ReadTimeout], [httpx.ReadTimeout, problem(404, "not_found", "No such model.")]):
        with pytest.raises(ExpungeError) as refused:
            driver.client(Script(*answers).transport).models.get("m")
        assert "carried out" not in str(refused.value)


def test_an_echo_of_an_earlier_try_says_so(driver: Driver) -> None:
    """The first try may have removed it; the second finds nothing any more."""
    script = Script(httpx.ReadTimeout, problem(404, "not_found", "No such key."))
    with pytest.raises(NotFound, match=r"No such key\. An earlier try .* may have been carried out"):
        driver.client(script.transport).keys.revoke("0123456789ab")
    with pytest.raises(NotFound, match=r"No such key\.$"):
        driver.client(Script(httpx.ConnectError, problem(404, "x", "No such key.")).transport).keys.revoke("a")


def test_a_flaky_page_is_asked_for_again_and_no_row_comes_twice(driver: Driver) -> None:
    row = json.loads((Path(__file__).parent / "ticket.json").read_text())
    pages = [{"items": [row], "next": "c1"}, {"items": [row], "next": None}]
    script = Script(ok(pages[0]), httpx.ReadError, UNAVAILABLE, ok(pages[1]))
    assert len(list(driver.client(script.transport).tickets.each())) == 2
    assert [request.url.params.get("cursor") for request in script.asked] == [None, "c1", "c1", "c1"]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.integers(1, 20),
    st.floats(0, 100),
    st.one_of(st.none(), st.floats(0, 50)),
)
def test_pauses_stay_within_what_was_agreed(
    draws: list[float], tries: int, seconds: float, asked: float | None
) -> None:
    left = iter(draws)
    retry, now = Retry(tries=tries, seconds=seconds), 100.0
    made = Tries(retry, repeatable=True, draw=lambda: next(left, 0.5))
    sent, failure = 1, Unavailable("away", retry_after=asked)
    while (pause := made.pause(failure, Fate.REFUSED, now)) is not None:
        assert (asked or 0.0) <= pause <= (asked or 0.0) + retry.longest
        now, sent = now + pause, sent + 1
        assert now - 100.0 <= seconds + 1e-6
    assert sent <= tries


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"seconds": -1}, {"first": -0.1}, {"longest": -1}])
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one try"):
        Retry(**wrong)
