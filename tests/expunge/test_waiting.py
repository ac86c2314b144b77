"""Waiting for something to end: how often it is looked at, for how long, and what a service that is away does to it."""

from typing import Any

import httpx
import pytest

from expunge import NotConfigured, Quarantined, Retry, StillOpen, TooMany, Unauthenticated, Unavailable
from expunge.models import TicketDetail, TicketState
from expunge.sync.http import ORDINARY
from tests.expunge.driver import TICKET, Driver, Script, problem, ticket

BATCH: dict[str, Any] = {
    "id": TICKET["id"], "model": "m", "kind": "retrain", "trigger": "operator", "state": "running", "why": "w",
    "requested_by": "o", "parent": "m-v1", "version": None, "obligations": 0, "attempt": 1, "rung": None,
    "step": None, "progress": 0.5, "failure": None, "created_at": "2026-01-01T00:00:00Z", "started_at": None,
    "finished_at": None, "policy": {}, "verdicts": [], "timeline": [],
}  # fmt: skip


def test_it_looks_at_growing_intervals(driver: Driver) -> None:
    script = Script(*[ticket("working")] * 12, ticket("fulfilled"))
    seen: list[TicketDetail] = []
    found = driver.client(script.transport).tickets.wait(TICKET["id"], longest=5, progress=seen.append)
    assert (found.state, len(seen)) == ("fulfilled", 13)
    slept = driver.clock.slept
    assert slept == sorted(slept)
    assert (slept[0], slept[-1]) == (0.5, 5)


def test_without_a_timeout_it_waits_for_as_long_as_it_takes(driver: Driver) -> None:
    script = Script(*[ticket("working")] * 500, ticket("fulfilled"))
    assert driver.client(script.transport).tickets.wait(TICKET["id"], timeout=None).state == "fulfilled"
    assert driver.clock.now > 3600


def test_a_cancelled_ticket_has_ended(driver: Driver) -> None:
    client = driver.client(Script(ticket("pending"), ticket("cancelled")).transport)
    assert client.tickets.wait(TICKET["id"]).state == TicketState.CANCELLED


def test_one_that_is_held_says_why(driver: Driver) -> None:
    held = ticket("quarantined", state="quarantined", doing="held for an operator: it broke")
    with pytest.raises(Quarantined, match="held for an operator: it broke"):
        driver.client(Script(ticket("working"), held).transport).tickets.wait(TICKET["id"])


@pytest.mark.parametrize("timeout", [0, 0.1, 7.3])
def test_the_time_is_kept_to_and_the_last_look_taken_then(driver: Driver, timeout: float) -> None:
    script = Script(ticket("working"))
    with pytest.raises(StillOpen, match=f"is working after {timeout:g} s"):
        driver.client(script.transport).tickets.wait(TICKET["id"], timeout=timeout)
    assert driver.clock.now == pytest.approx(timeout)
    assert len(script.asked) >= 1


def test_a_service_that_is_away_for_a_moment_is_waited_for(driver: Driver) -> None:
    script = Script(ticket("working"), httpx.ConnectError, problem(503, "unavailable"), ticket("fulfilled"))
    assert driver.client(script.transport).tickets.wait(TICKET["id"]).state == "fulfilled"


def test_a_batch_is_waited_for_in_the_same_way(driver: Driver) -> None:
    running, done = httpx.Response(200, json=BATCH), httpx.Response(200, json=BATCH | {"state": "published"})
    held = httpx.Response(200, json=BATCH | {"state": "quarantined", "failure": "it broke"})
    seen: list[Any] = []
    client = driver.client(Script(running, done).transport)
    assert client.batches.wait(BATCH["id"], progress=seen.append).state == "published"
    assert len(seen) == 2
    with pytest.raises(Quarantined, match="it broke"):
        driver.client(Script(held).transport).batches.wait(BATCH["id"])
    with pytest.raises(StillOpen, match="running after 3 s"):
        driver.client(Script(running).transport).batches.wait(BATCH["id"], timeout=3)


WAITS = [
    ("tickets", ticket("working"), ticket("fulfilled"), "Ticket"),
    ("batches", httpx.Response(200, json=BATCH), httpx.Response(200, json=BATCH | {"state": "published"}), "Batch"),
]
TIMES = ORDINARY.as_dict()


@pytest.mark.parametrize(("room", "open_", "ended", "called"), WAITS)
class TestAService:
    """That is away while something of it is waited for."""

    def test_for_longer_than_any_request_is_tried_is_waited_for(
        self, driver: Driver, room: str, open_: Any, ended: Any, called: str
    ) -> None:
        away = [httpx.ConnectTimeout, httpx.ReadTimeout, problem(503, "unavailable"), problem(429, "too_many")]
        script = Script(open_, *(away * 8), ended, clock=driver.clock)
        client = driver.client(script.transport, timeout=ORDINARY)
        seen: list[Any] = []
        found = getattr(client, room).wait(TICKET["id"], progress=seen.append)
        assert (found.state, len(seen), len(script.asked)) == (seen[-1].state, 2, 34)
        assert driver.clock.now > 8 * 40
        assert max(driver.clock.slept) == 15

    def test_beyond_the_time_is_told_with_what_was_seen_last(
        self, driver: Driver, room: str, open_: Any, ended: Any, called: str
    ) -> None:
        script = Script(open_, httpx.ReadTimeout, clock=driver.clock)
        client = driver.client(script.transport, timeout=ORDINARY)
        said = (
            rf"{called} \S+ was \w+ when it was last seen; after 100 s .*broke off.*\(ReadTimeout\).* Wait for it again"
        )
        with pytest.raises(StillOpen, match=said):
            getattr(client, room).wait(TICKET["id"], timeout=100)
        assert driver.clock.now == pytest.approx(100)
        waited = [request.extensions["timeout"]["read"] for request in script.asked]
        assert waited[:3] == [TIMES["read"]] * 3
        assert waited[-1] < TIMES["read"], "no longer than what was left of the time"

    def test_is_not_waited_for_where_it_was_never_seen(
        self, driver: Driver, room: str, open_: Any, ended: Any, called: str
    ) -> None:
        """The address may be wrong: whoever calls is told within the time they gave."""
        script = Script(httpx.ConnectTimeout, clock=driver.clock)
        client = driver.client(script.transport, timeout=ORDINARY, retry=Retry(tries=50, seconds=1000))
        with pytest.raises(Unavailable, match="No service answers"):
            getattr(client, room).wait(TICKET["id"], timeout=25)
        assert 20 <= driver.clock.now <= 27
        assert 2 < len(script.asked) < 50

    def test_and_refuses_is_not_away(self, driver: Driver, room: str, open_: Any, ended: Any, called: str) -> None:
        for answer, kind in (("not_configured", NotConfigured), ("unauthenticated", Unauthenticated)):
            script = Script(open_, problem(401 if kind is Unauthenticated else 503, answer), ended)
            with pytest.raises(kind):
                getattr(driver.client(script.transport), room).wait(TICKET["id"])

    def test_is_given_the_pause_that_it_asks_for(
        self, driver: Driver, room: str, open_: Any, ended: Any, called: str
    ) -> None:
        asks = [problem(503, "unavailable", retry_after=after) for after in ("40", "9" * 30)]
        script = Script(open_, *asks, ended)
        getattr(driver.client(script.transport), room).wait(TICKET["id"], timeout=None)
        assert driver.clock.slept[1:] == [40, 3600]


def test_a_look_when_the_time_is_up_gets_a_moment(driver: Driver) -> None:
    script = Script(ticket("working"))
    with pytest.raises(StillOpen):
        driver.client(script.transport, timeout=httpx.Timeout(30, read=None)).tickets.wait(TICKET["id"], timeout=0)
    assert script.asked[0].extensions["timeout"] == {"connect": 2, "read": 2, "write": 2, "pool": 2}


def test_the_first_look_is_tried_again_and_later_ones_come_anyway(driver: Driver) -> None:
    first = Script(httpx.ConnectError, problem(429, "too_many"), ticket("fulfilled"))
    assert driver.client(first.transport).tickets.wait(TICKET["id"]).state == "fulfilled"
    with pytest.raises(TooMany):
        driver.client(Script(problem(429, "too_many")).transport).tickets.wait(TICKET["id"])
    driver.clock.slept.clear()
    driver.client(Script(ticket("working"), httpx.ReadError, ticket("fulfilled")).transport).tickets.wait(TICKET["id"])
    assert driver.clock.slept == [0.5, 0.75], "no pause of a request's own"


def test_a_state_of_a_later_release_has_ended_where_its_end_has_a_time(driver: Driver) -> None:
    script = Script(ticket("resting"), ticket("withdrawn", closed_at="2026-01-02T00:00:00Z"))
    assert driver.client(script.transport).tickets.wait(TICKET["id"]).state == "withdrawn"
    over = BATCH | {"state": "superseded", "finished_at": "2026-01-02T00:00:00Z"}
    script = Script(httpx.Response(200, json=BATCH | {"state": "resting"}), httpx.Response(200, json=over))
    assert driver.client(script.transport).batches.wait(BATCH["id"]).state == "superseded"


def test_what_is_held_for_an_operator_has_not_ended_though_it_has_a_time(driver: Driver) -> None:
    held = BATCH | {"state": "quarantined", "failure": "it broke", "finished_at": "2026-01-02T00:00:00Z"}
    with pytest.raises(Quarantined, match="it broke"):
        driver.client(Script(httpx.Response(200, json=held)).transport).batches.wait(BATCH["id"])
