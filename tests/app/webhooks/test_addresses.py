"""Which addresses a webhook may reach, in all the forms that they come in."""

import socket
import threading
from ipaddress import ip_address

import pytest

from app.config import Settings
from app.errors import Unprocessable
from app.webhooks import addresses

PRIVATE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "5f00::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808"]


def settings(**given: object) -> Settings:
    return Settings.model_validate(given)


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_on_the_internet(text: str) -> None:
    assert not addresses.public(ip_address(text))
    with pytest.raises(addresses.Refused):
        addresses.check(ip_address(text), settings(), tls=True)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is(text: str) -> None:
    assert addresses.public(ip_address(text))
    addresses.check(ip_address(text), settings(), tls=True)
    with pytest.raises(addresses.Refused):
        addresses.check(ip_address(text), settings(webhook_http=True, webhook_allow="10.0.0.0/8"), tls=False)


def test_the_operators_list_opens_what_it_names_and_nothing_else() -> None:
    conf = settings(webhook_allow="10.0.0.0/8, fd00::/8")
    for inside in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::7"):
        addresses.check(ip_address(inside), conf, tls=True)
        addresses.check(ip_address(inside), conf, tls=False)
    for outside in ("11.0.0.1", "127.0.0.1", "::1"):
        with pytest.raises(addresses.Refused):
            addresses.check(ip_address(outside), conf, tls=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "[::1]", "[::ffff:7f00:1]", "10.0.0.1"]
)  # fmt: skip
def test_a_host_that_is_a_private_address_is_refused_at_once(host: str) -> None:
    with pytest.raises(Unprocessable, match=r"not one that a webhook may reach|cannot be read"):
        addresses.check_url(f"https://{host}/hook", settings())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.org/", "begin with https"),
        ("ftp://example.org/", "begin with https"),
        ("file:///etc/passwd", "begin with https"),
        ("//example.org", "begin with https"),
        ("https:///path", "begin with https"),
        ("https://user:pass@example.org/", "neither a user"),
        ("https://user@example.org/", "neither a user"),
        ("https://example.org/#part", "fragment"),
        ("https://example.org:22/", "port must be one of: 443,8443"),
        ("https://example.org:99999/", "port must be"),
        ("https://exa mple.org/", "cannot be read"),
        ("https://" + "a" * 2050, "2048"),
    ],
)
def test_urls_that_could_never_be_called(url: str, says: str) -> None:
    with pytest.raises(Unprocessable, match=says):
        addresses.check_url(url, settings())


def test_urls_that_can() -> None:
    assert addresses.check_url("https://example.org/a?b=c", settings()) == "https://example.org/a?b=c"
    assert addresses.check_url("https://example.org:8443", settings()) == "https://example.org:8443"
    assert addresses.check_url("https://bücher.example/", settings()) == "https://xn--bcher-kva.example/"
    plain = settings(webhook_http=True, webhook_ports="80")
    assert addresses.check_url("http://hooks.internal/", plain) == "http://hooks.internal/"


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    hung = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        asked.set()
        hung.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(addresses.Unresolved):
        addresses.resolve("slow.example", 443, 0.01)
    assert asked.wait(5)
    hung.set()
