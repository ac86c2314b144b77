"""One call to a receiver: one request on one connection of its own, nothing followed, nothing kept but how it went.

httpcore rather than httpx: no redirects, no proxies of the environment, no cookies, and the network beneath it is ours to
guard.
"""

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx
from typing_extensions import override

from app.config import Settings, settings
from app.errors import Unprocessable
from app.webhooks import addresses

MOST_READ = 256 * 1024
"""Bytes that a receiver may send before the connection is closed: its status line and headers, and nothing of its body."""


class Word(StrEnum):
    """How an attempt went, in one word: all that is kept of it beside the status."""

    DELIVERED = "delivered"
    STATUS = "status"
    REDIRECT = "redirect"
    GONE = "gone"
    NAME = "name_unresolved"
    ADDRESS = "address_refused"
    CONNECTION = "connection"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    UNSIGNED = "secret_changed"


@dataclass(frozen=True)
class Outcome:
    word: Word
    seconds: float = 0.0
    status: int | None = None


def call(address: str, headers: dict[str, str], body: bytes) -> Outcome:
    """POST the body. Never raises for anything that the network or the receiver does."""
    conf, begun = settings(), time.monotonic()
    url = httpx.URL(address)
    network = Network(conf, begun + conf.webhook_seconds, tls=url.scheme == "https")
    origin = httpcore.Origin(url.raw_scheme, url.raw_host, addresses.port_of(url))
    target = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=url.raw_path)
    limits = dict.fromkeys(("connect", "read", "write", "pool"), conf.webhook_seconds)
    status: int | None = None
    try:
        addresses.check_url(address, conf)  # the operator may have tightened the rules since the endpoint was made
        with (
            httpcore.HTTPConnection(origin, trust(), http2=False, retries=0, network_backend=network) as connection,
            connection.stream(
                "POST", target, headers=list(headers.items()), content=body, extensions={"timeout": limits}
            ) as response,
        ):
            status = response.status
        word = judged(status)
    except Exception as error:  # noqa: BLE001 - a receiver may do anything; whatever it was, it is one failed attempt
        word = judged(status) if status is not None else failed(error)
    return Outcome(word, time.monotonic() - begun, status)


def judged(status: int) -> Word:
    """What a receiver's status means."""
    if 200 <= status < 300:
        return Word.DELIVERED
    if 300 <= status < 400:
        return Word.REDIRECT
    return Word.GONE if status == 410 else Word.STATUS


def failed(error: BaseException) -> Word:
    """Why there was no answer; of errors that were caused by others, the first cause that has a word."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case addresses.Refused() | Unprocessable():
                return Word.ADDRESS
            case addresses.Unresolved():
                return Word.NAME
            case ssl.SSLError():
                return Word.TLS
            case _:
                cause = cause.__cause__
    if isinstance(error, httpcore.TimeoutException):
        return Word.TIMEOUT
    return Word.CONNECTION if isinstance(error, httpcore.NetworkError) else Word.PROTOCOL


@lru_cache
def trust() -> ssl.SSLContext:
    """The public certificate authorities, or those that SSL_CERT_FILE or SSL_CERT_DIR names."""
    return httpx.create_ssl_context()


class Network(httpcore.NetworkBackend):
    """Connects to addresses that a webhook may reach, until the call's time is over."""

    def __init__(self, conf: Settings, end: float, *, tls: bool) -> None:
        self.conf, self.end, self.tls = conf, end, tls

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Every address of the name must be permitted: one that mixes public and private ones is up to something."""
        found = addresses.resolve(host, port, left(self.end, timeout))
        for address in found:
            addresses.check(address, self.conf, tls=self.tls)
        for address in found[:-1]:
            try:
                return self._connect(str(address), port, left(self.end, timeout) / 2)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue  # the next one may answer
        return self._connect(str(found[-1]), port, left(self.end, timeout))

    def _connect(self, address: str, port: int, timeout: float) -> httpcore.NetworkStream:
        stream = httpcore.SyncBackend().connect_tcp(address, port, timeout)
        try:
            addresses.check(ip_address(stream.get_extra_info("server_addr")[0]), self.conf, tls=self.tls)
        except BaseException:
            stream.close()
            raise
        return Bounded(stream, self.end)


class Bounded(httpcore.NetworkStream):
    """A connection that ends when the call's time is over, however slowly its other end drips, and that reads so much."""

    def __init__(self, stream: httpcore.NetworkStream, end: float) -> None:
        self.stream, self.end, self.bytes = stream, end, 0

    @override
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        got = self.stream.read(max_bytes, left(self.end, timeout))
        self.bytes += len(got)
        if self.bytes > MOST_READ:
            raise httpcore.RemoteProtocolError("more than a webhook reads")
        return got

    @override
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, left(self.end, timeout))

    @override
    def close(self) -> None:
        self.stream.close()

    @override
    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return Bounded(self.stream.start_tls(ssl_context, server_hostname, left(self.end, timeout)), self.end)

    @override
    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def left(end: float, timeout: float | None) -> float:
    """Seconds that an operation may take: no more than are left of the call. Raises when none are."""
    remaining = end - time.monotonic()
    if remaining <= 0:
        raise httpcore.ReadTimeout("the call's time is over")
    return min(remaining, timeout) if timeout is not None else remaining
