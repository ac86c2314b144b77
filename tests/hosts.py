"""Hosts on this machine: network namespaces on one bridge, each with an address of its own, that can be cut off and healed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

NETWORK = "10.213.77"
Child = subprocess.Popen[bytes]


def missing() -> str | None:
    """What this machine lacks for namespaces; None where it has it all."""
    if shutil.which("ip") is None:
        return "no `ip` here (iproute2)"
    probe = f"exprobe{os.getpid()}"
    made = _run("ip", "netns", "add", probe, check=False)
    if made.returncode != 0:
        return f"network namespaces need root, or CAP_NET_ADMIN and CAP_SYS_ADMIN: {made.stderr.decode().strip()}"
    _run("ip", "netns", "delete", probe)
    bridge = f"exb{os.getpid() % 10_000}"
    made = _run("ip", "link", "add", bridge, "type", "bridge", check=False)
    if made.returncode != 0:
        return f"the kernel makes no bridges: {made.stderr.decode().strip()}"
    _run("ip", "link", "delete", bridge)
    made = _run("ip", "link", "add", "exv0", "type", "veth", "peer", "name", "exv1", check=False)
    if made.returncode != 0:
        return f"the kernel makes no veth pairs: {made.stderr.decode().strip()}"
    _run("ip", "link", "delete", "exv0")
    return None


@dataclass
class Host:
    """One namespace: its name, its address, and what runs in it."""

    name: str
    address: str
    outside: str
    """The end of its cable that is in the bridge."""
    children: list[Child] = field(default_factory=list)

    def start(self, argv: list[str], environment: dict[str, str], log: Path, user: int | None = None) -> Child:
        """Run a program on this host."""
        with log.open("ab") as out:
            child = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *argv],
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
                user=user,
            )
        self.children.append(child)
        return child

    def cut(self) -> None:
        """Nothing gets in or out; nobody is told."""
        _run("ip", "link", "set", self.outside, "down")

    def heal(self) -> None:
        _run("ip", "link", "set", self.outside, "up")


@contextmanager
def hosts(*names: str) -> Iterator[dict[str, Host]]:
    """Namespaces of these names, joined; and a foot in the same network for this process, at address 1."""
    tag = f"{os.getpid() % 10_000}"
    bridge = f"exb{tag}"
    made: dict[str, Host] = {}
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "address", "add", f"{NETWORK}.1/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for number, name in enumerate(names, 2):
            made[name] = _host(name, number, tag, bridge)
        yield made
    finally:
        for host in made.values():
            for child in host.children:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, 9)
                child.wait()
            for pid in _run("ip", "netns", "pids", host.name, check=False).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
            _run("ip", "netns", "delete", host.name, check=False)
        _run("ip", "link", "delete", bridge, check=False)


def _host(name: str, number: int, tag: str, bridge: str) -> Host:
    host = Host(f"ex{tag}-{name}", f"{NETWORK}.{number}", f"ex{tag}o{number}")
    inside = f"ex{tag}i{number}"
    _run("ip", "netns", "add", host.name)
    _run("ip", "link", "add", host.outside, "type", "veth", "peer", "name", inside)
    _run("ip", "link", "set", inside, "netns", host.name)
    _run("ip", "link", "set", host.outside, "master", bridge, "up")
    for words in (
        ("address", "add", f"{host.address}/24", "dev", inside),
        ("link", "set", inside, "up"),
        ("link", "set", "lo", "up"),
    ):
        _run("ip", "-n", host.name, *words)
    return host


def _run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, capture_output=True, check=check)
