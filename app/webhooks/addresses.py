"""Whom a webhook may reach. A receiver's name is its owner's to choose and may lead anywhere, now or a minute later, so
what counts is the address that is connected to: resolved once, judged, connected to by number, and looked at again.
"""

import ipaddress
import queue
import re
import socket
import threading
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpx

from app.config import Settings
from app.errors import Unprocessable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NAT64 = IPv6Network("64:ff9b::/96")
UNICAST = IPv6Network("2000::/3")
NOT_PUBLIC = (
    IPv6Network("2002::/16"),  # 6to4: an IPv4 address inside, of whatever kind
    IPv4Network("192.88.99.0/24"),  # its relays
    IPv4Network("192.0.0.0/24"),  # kept for protocols; Oracle's machines find their metadata here
    IPv4Network("168.63.129.16/32"),  # where Azure's machines find their host: public by its number alone
)
LONGEST_URL = 2048
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*")


class Refused(OSError):
    """The address is not one that a webhook may reach."""


class Unresolved(OSError):
    """The name leads to no address, or not in time."""


def public(address: Address) -> bool:
    """Whether the address is on the internet: neither private, loopback, link-local, shared (CGNAT), multicast, reserved,
    nor a way to such a one in IPv6 clothes."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return public(address.ipv4_mapped)
        if address in NAT64:
            return public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in UNICAST or address.scope_id is not None:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in NOT_PUBLIC)


def allowed(address: Address, conf: Settings) -> bool:
    """Whether the operator's list names the address."""
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    return any(plain in network for network in conf.webhook_networks)


def check(address: Address, conf: Settings, *, tls: bool) -> None:
    """Raise `Refused` unless a webhook may reach the address. Without TLS only what the operator's list names."""
    if not (allowed(address, conf) or (tls and public(address))):
        raise Refused


def check_url(text: str, conf: Settings) -> str:
    """The URL as it will be called. Raises `Unprocessable` for one that could never be; the name is judged at each call."""
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode()
    except (httpx.InvalidURL, ValueError):
        raise Unprocessable("The URL cannot be read.") from None
    schemes = ("https", "http") if conf.webhook_http else ("https",)
    if host and not HOST.fullmatch(host):
        raise Unprocessable("The URL's host cannot be read.")
    if url.scheme not in schemes or not host or len(str(url)) > LONGEST_URL:
        raise Unprocessable(
            f"The URL must begin with {' or '.join(schemes)}:// and have at most {LONGEST_URL} characters."
        )
    if url.userinfo or url.fragment:
        raise Unprocessable(
            "The URL must hold neither a user, a password nor a fragment. The signature says who calls."
        )
    if port_of(url) not in conf.webhook_port_numbers:
        raise Unprocessable(f"The URL's port must be one of: {conf.webhook_ports}.")
    written = literal(host)
    if written is not None:
        try:
            check(written, conf, tls=url.scheme == "https")
        except Refused:
            raise Unprocessable("The URL's address is not one that a webhook may reach.") from None
    return str(url)


def port_of(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def literal(host: str) -> Address | None:
    """The address that a host is, in whichever form the system would read it: `127.1`, octal, hexadecimal, one number."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def resolve(host: str, port: int, seconds: float) -> list[Address]:
    """All addresses of the host, asked for once. Raises `Unresolved`. In a thread, because the system's resolver knows no
    time-out; one that hangs ends by itself."""
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.put([str(address[0]) for *_, address in found])
        except Exception as error:  # noqa: BLE001 - whatever a name does to the resolver, it resolves to nothing
            answer.put(OSError(type(error).__name__))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=max(seconds, 0))
    except queue.Empty:
        raise Unresolved from None
    if isinstance(found, OSError) or not found:
        raise Unresolved
    return [ipaddress.ip_address(address) for address in dict.fromkeys(found)]
