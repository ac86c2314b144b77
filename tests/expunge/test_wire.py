"""Over real connections that end when they should not: what breaks there is what the client knows how to deal with."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from expunge import AsyncClient, Client, Retry, Unavailable
from tests.expunge.driver import KEY, Awaited, Driver

SOON = Retry(tries=4, first=0)
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n["
NOISE = b"220 mail.example.org ESMTP\r\n"
NOTHING = b""


class Server:
    """Answers one connection after the other as it is told, and counts the requests that it read."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.requests = list(answers), list[bytes]()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        for answer in self.answers:
            connection, _ = self.socket.accept()
            with connection:
                read = b""
                while b"\r\n\r\n" not in read:
                    read += connection.recv(65536)
                self.requests.append(read)
                connection.sendall(answer)


@contextmanager
def serving(*answers: bytes) -> Iterator[Server]:
    server = Server(*answers)
    server.thread.start()
    try:
        yield server
    finally:
        while server.thread.is_alive():  # a client that gave up leaves answers over: take them all
            with socket.create_connection(server.socket.getsockname()) as left:
                left.sendall(b"\r\n\r\n")
            server.thread.join(0.05)
        server.socket.close()


@contextmanager
def client_of(driver: Driver, address: str, retry: Retry) -> Iterator[Any]:
    made: Any = Client(address, KEY, retry=retry)
    if driver.portal is not None:
        made = Awaited(driver.portal, AsyncClient(address, KEY, retry=retry))
    yield made
    made.close()


@pytest.mark.parametrize("broken", [NOTHING, HALF, NOISE], ids=["nothing", "half", "noise"])
def test_what_breaks_is_asked_for_again(driver: Driver, broken: bytes) -> None:
    with serving(broken, broken, EMPTY) as server, client_of(driver, server.address, SOON) as client:
        assert client.models.all() == []
        assert len(server.requests) == 3


@pytest.mark.parametrize("broken", [NOTHING, HALF, NOISE], ids=["nothing", "half", "noise"])
def test_an_order_that_was_read_is_not_given_twice(driver: Driver, broken: bytes) -> None:
    with serving(broken, EMPTY) as server, client_of(driver, server.address, SOON) as client:
        with pytest.raises(Unavailable, match="may have been carried out"):
            client.batches.retrain("m", "why")
        assert len(server.requests) == 1


def test_where_nobody_listens_is_a_sentence(driver: Driver) -> None:
    with socket.socket() as bound:  # and not listened on: a connection to it is refused
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with (
            client_of(driver, address, SOON) as client,
            pytest.raises(Unavailable, match=f"No service answers at {address}"),
        ):
            client.models.all()


def test_a_server_that_says_nothing_is_given_up(driver: Driver) -> None:
    """Its connection is made and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address, waits = f"http://127.0.0.1:{silent.getsockname()[1]}", httpx.Timeout(0.05)
        made: Any = Client(address, KEY, retry=Retry(tries=2, first=0), http=httpx.Client(timeout=waits))
        if driver.portal is not None:
            awaited = httpx.AsyncClient(timeout=waits)
            made = Awaited(driver.portal, AsyncClient(address, KEY, retry=Retry(tries=2, first=0), http=awaited))
        with pytest.raises(Unavailable, match="ReadTimeout"):
            made.models.all()
