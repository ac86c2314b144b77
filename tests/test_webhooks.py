"""Webhooks with real processes: what a receiver gets when a worker is killed between the call and its account."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.receiver import Call, receiver
from tests.servers import short_folder
from tests.service import LENIENT, service

pytestmark = pytest.mark.service
AT_ONCE = LENIENT | {"release": "publish"}
WANTED = ["ticket.fulfilled", "ticket.data_releasable"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def test_a_receiver_is_told_though_the_caller_is_killed_in_mid_call(folder: Path) -> None:
    """The receiver has each message, but the light worker dies before it can say so: it calls again, by the same id."""
    arrived, killed = threading.Event(), threading.Event()

    def slowly(_: Call) -> tuple[int, dict[str, str]]:
        arrived.set()
        killed.wait(60)
        return 204, {}

    with receiver() as listening:
        listening.answer = slowly
        environment = {
            "EXPUNGE_LEASE_SECONDS": "60",
            "EXPUNGE_WEBHOOK_ALLOW": "127.0.0.0/8",
            "EXPUNGE_WEBHOOK_HTTP": "true",
            "EXPUNGE_WEBHOOK_PORTS": str(listening.port),
            "EXPUNGE_WEBHOOK_SECONDS": "2",
        }
        with service(folder, **environment) as up:
            api = up.api()
            up.model(api, policy=AT_ONCE)
            key = {"EXPUNGE_API_KEY": api.http.headers["Authorization"].removeprefix("Bearer ")}
            events = [part for event in WANTED for part in ("--event", event)]
            added = up.command("webhooks", "add", listening.url(), *events, **key).stdout.split()
            endpoint, secret = added[1], added[-1]
            ticket = up.submit(api, range(40))
            up.fulfilled(api, ticket)
            up.until(arrived.is_set, "the first call")
            assert up.kill("--queues light") >= 1
            killed.set()
            href = f"/webhooks/{endpoint}/deliveries"
            up.until(lambda: len(api.get(href, state="delivered")["items"]) == 2, "both messages to be accounted for")
            told = [Webhook(secret).verify(call.body, call.headers) for call in listening.calls]
            assert sorted({message["type"] for message in told}) == sorted(WANTED)
            assert {message["data"]["ticket"] for message in told} == {ticket}
            assert len(listening.ids()) == 2, "each message has one id, however often it came"
            assert max(listening.ids().values()) >= 2, "the one in mid-call came again"
            attempts = [[each["outcome"] for each in row["attempts"]] for row in api.get(href)["items"]]
            assert any(outcomes[0] is None and outcomes[-1] == "delivered" for outcomes in attempts)
            listing = up.command("webhooks", "deliveries", endpoint, **key).stdout
            assert all(event in listing for event in WANTED)
            assert "Delivered: 204" in up.command("webhooks", "test", endpoint, **key).stdout
            assert "whsec_" in up.command("webhooks", "rotate", endpoint, **key).stdout
            up.command("webhooks", "disable", endpoint, **key)
            assert "disabled" in up.command("webhooks", "list", **key).stdout
            up.command("webhooks", "enable", endpoint, **key)
            up.command("webhooks", "remove", endpoint, **key)
            assert "unbroken" in up.command("audit", "verify").stdout
