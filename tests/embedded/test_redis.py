"""The private Redis-compatible server, from the wheel and from the system."""

import os
import shutil
import signal
from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest

from embedded import redis as module
from embedded.errors import Refused
from embedded.processes import alive
from embedded.redis import RedisServer
from embedded.supervisor import Supervisor
from tests.embedded.conftest import Owner, until
from tests.servers import Servers


def start(supervisor: Supervisor, server: RedisServer) -> int:
    server.prepare()
    return supervisor.start(server.program())


def push(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.rpush("items", "one"))


@pytest.mark.service
def test_a_restart_keeps_items_and_a_stop_leaves_nothing(servers: Servers, folder: Path) -> None:
    for count in (1, 2):
        with Supervisor(folder / "log", print) as supervisor:
            pid = start(supervisor, servers.redis)
            assert push(servers.redis) == count
        assert not alive(pid)
        assert not servers.redis.socket_path.exists()


@pytest.mark.service
def test_a_killed_server_comes_back_with_its_items(servers: Servers, supervisor: Supervisor) -> None:
    pid = start(supervisor, servers.redis)
    push(servers.redis)
    os.kill(pid, signal.SIGKILL)
    until(lambda: supervisor.poll() or supervisor.pid("redis") not in (None, pid))
    until(servers.redis.answers)
    assert push(servers.redis) == 2


@pytest.mark.service
def test_a_start_right_after_the_owner_was_killed(
    own: Callable[..., Owner], leg: str, servers: Servers, supervisor: Supervisor, folder: Path
) -> None:
    owner = own(folder, "servers", leg)
    owner.await_ready()
    push(servers.redis)
    owner.end(signal.SIGKILL)
    start(supervisor, servers.redis)
    assert push(servers.redis) == 2
    assert servers.redis.socket_path.exists()


@pytest.mark.service
def test_a_running_server_is_not_joined(
    servers: Servers, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start(supervisor, servers.redis)
    monkeypatch.setattr(module, "VACATE_SECONDS", 0.1)
    with pytest.raises(Refused, match=f"already runs on .* .pid {pid}."):
        servers.redis.prepare()


def test_a_missing_server_names_the_extra(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Refused, match=r"pip install 'expunge\[embedded\]'"):
        RedisServer(folder, folder / "redis.sock").prepare()


def test_a_wrong_path_is_named(folder: Path) -> None:
    with pytest.raises(Refused, match="no Redis-compatible server at"):
        RedisServer(folder, folder / "redis.sock", folder / "nothing").prepare()


def test_a_long_socket_path_is_refused(folder: Path) -> None:
    with pytest.raises(Refused, match="longer than a socket path may be"):
        RedisServer(folder, folder / ("x" * 120)).prepare()
