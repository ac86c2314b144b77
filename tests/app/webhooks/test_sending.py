"""One call, over real sockets: what is reached, what is not, and what a receiver can do to its caller."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import httpcore
import pytest
import trustme

from app import config
from app.webhooks import addresses, sending
from app.webhooks.sending import Outcome, Word
from tests.receiver import Receiver, receiver

pytestmark = pytest.mark.usefixtures("configured")
HEADERS = {"Content-Type": "application/json", "Webhook-Id": "m1"}
Resolve = Callable[..., list[tuple[int, int, int, str, tuple[str, int]]]]


def call(url: str) -> Outcome:
    return sending.call(url, HEADERS, b'{"a":1}')


@pytest.fixture
def listening() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def names(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let the resolver give these answers, one after the other, the last one for ever; returns what it is asked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: object, **more: object) -> object:
        try:
            ip_address(host)
        except ValueError:
            asked.append(host)
            given = answers[min(len(asked), len(answers)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in given]
        return real(host, port, *rest, **more)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def refuse_this_machine(monkeypatch: pytest.MonkeyPatch, allow: str = "10.99.0.0/16") -> None:
    monkeypatch.setenv("EXPUNGE_WEBHOOK_ALLOW", allow)
    config.settings.cache_clear()


def test_what_arrives(listening: Receiver) -> None:
    outcome = call(listening.url(path="/hook?x=1"))
    (came,) = listening.calls
    assert (outcome.word, outcome.status) == (Word.DELIVERED, 204)
    assert (came.method, came.path, came.body) == ("POST", "/hook?x=1", b'{"a":1}')
    assert came.headers == {
        "host": f"127.0.0.1:{listening.port}", "content-type": "application/json", "webhook-id": "m1", "content-length": "7",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "word"),
    [(200, Word.DELIVERED), (202, Word.DELIVERED), (400, Word.STATUS), (410, Word.GONE), (500, Word.STATUS)],
)
def test_what_a_status_means(listening: Receiver, status: int, word: Word) -> None:
    listening.answer = lambda _: (status, {})
    assert (call(listening.url()).word, call(listening.url()).status) == (word, status)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(listening: Receiver, status: int) -> None:
    with receiver() as inside:
        listening.answer = lambda _: (status, {"Location": inside.url(path="/secret")})
        assert call(listening.url()).word is Word.REDIRECT
        assert inside.calls == []
    assert len(listening.calls) == 1


def test_the_environments_proxies_are_not_used(listening: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(path=""))
        assert call(listening.url()).word is Word.DELIVERED
        assert proxy.calls == []


def test_a_name_is_resolved_once_and_that_very_address_is_connected_to(
    listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that would say something else the second time is not asked a second time."""
    asked = names(monkeypatch, ["127.0.0.1"], ["192.0.2.1"])
    assert call(listening.url("hooks.example")).word is Word.DELIVERED
    assert asked == ["hooks.example"]
    assert listening.calls[0].headers["host"] == f"hooks.example:{listening.port}"


def test_a_name_that_turns_private_is_refused_before_it_is_connected_to(
    listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: public when the endpoint was made and looked at, this machine when it is called."""
    refuse_this_machine(monkeypatch)
    names(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    assert str(addresses.resolve("rebind.example", 443, 1)[0]) == "93.184.216.34"
    url = f"https://rebind.example:{listening.port}/"
    assert call(url).word is Word.ADDRESS
    assert listening.calls == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_this_machine(monkeypatch)
    names(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    assert call(f"https://both.example:{listening.port}/").word is Word.ADDRESS
    assert listening.calls == []


def test_the_connected_socket_is_looked_at_again(listening: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies between: a resolver's answer that passes and a connection that ends elsewhere is closed unused."""
    refuse_this_machine(monkeypatch)
    monkeypatch.setattr(addresses, "resolve", lambda *_: [ip_address("10.99.0.1")])
    elsewhere = Elsewhere(listening.port)  # as a kernel's translation of addresses would lead there
    monkeypatch.setattr(httpcore, "SyncBackend", lambda: elsewhere)
    assert call(f"http://moved.example:{listening.port}/").word is Word.ADDRESS
    assert listening.calls == []


class Elsewhere:
    def __init__(self, port: int) -> None:
        self.port, self.real = port, httpcore.SyncBackend()

    def connect_tcp(self, address: str, port: int, timeout: float) -> httpcore.NetworkStream:
        return self.real.connect_tcp("127.0.0.1", self.port, timeout)


def test_plain_http_reaches_only_what_the_operator_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, ["93.184.216.34"])
    assert call("http://public.example:8080/").word is Word.ADDRESS


def test_an_endpoint_from_laxer_times_is_refused(listening: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_WEBHOOK_HTTP", "false")
    config.settings.cache_clear()
    assert call(listening.url()).word is Word.ADDRESS
    assert listening.calls == []


def test_names_and_ports_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert call(f"http://127.0.0.1:{port}/").word is Word.CONNECTION

    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert call(f"http://nowhere.example:{port}/").word is Word.NAME


def test_the_next_address_is_tried_when_the_first_one_refuses(
    listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, ["127.0.0.2", "127.0.0.1"])  # the receiver listens on the second alone
    assert call(listening.url("two.example")).word is Word.DELIVERED


@contextmanager
def talker(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server that speaks as it likes to one caller; its URL."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                try:
                    talk(connection, over)
                except OSError:
                    return  # hung up on, as it deserves

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            over.set()
            thread.join()


def drip(connection: socket.socket, over: threading.Event) -> None:
    """A byte now and then: no single read ever times out."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not over.wait(0.02):
        connection.sendall(b"x")


def flood(connection: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def headers_without_end(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.is_set():
        connection.sendall(b"X-Long: " + b"x" * 8192 + b"\r\n")


def body_without_end(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 65536)


def silence(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def nonsense(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"\x00\xff\x00 SSH-2.0\r\n\r\n")


@pytest.mark.parametrize(
    ("talk", "word"),
    [
        (drip, Word.TIMEOUT),
        (silence, Word.TIMEOUT),
        (flood, Word.PROTOCOL),
        (headers_without_end, Word.PROTOCOL),
        (nonsense, Word.PROTOCOL),
        (body_without_end, Word.DELIVERED),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_receiver_holds_its_caller(
    talk: Callable[[socket.socket, threading.Event], None], word: Word, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_WEBHOOK_SECONDS", "0.5" if word is Word.TIMEOUT else "30")
    config.settings.cache_clear()
    with talker(talk) as url:
        outcome = call(url)
    assert outcome.word is word
    assert outcome.seconds < 25


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """A certificate authority of one's own, trusted as an operator would have it."""
    made = trustme.CA()
    with made.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        sending.trust.cache_clear()
        yield made
    sending.trust.cache_clear()


def served_by(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_tls_is_held_against_the_name_not_the_address(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, ["127.0.0.1"])
    seen: list[str | None] = []
    context = served_by(authority, "hooks.example")
    context.sni_callback = lambda _, name, __: seen.append(name)  # type: ignore[assignment]  # None lets it go on
    with receiver(context) as listening:
        assert call(listening.url("hooks.example")).word is Word.DELIVERED
        assert seen == ["hooks.example"]
        assert call(listening.url("other.example")).word is Word.TLS
        assert call(listening.url("127.0.0.1")).word is Word.TLS
        assert len(listening.calls) == 1


def test_a_certificate_of_nobody_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, ["127.0.0.1"])
    sending.trust.cache_clear()
    with receiver(served_by(trustme.CA(), "hooks.example")) as listening:
        assert call(listening.url("hooks.example")).word is Word.TLS
        assert listening.calls == []
