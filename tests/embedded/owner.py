"""An owner for tests to kill: starts what it is told to in a folder, prints a line with its pid, and watches.

Usage: owner.py FOLDER servers LEG | owner.py FOLDER crew | owner.py FOLDER sleep IDENTITY | owner.py FOLDER prepare BIN
"""

import os
import signal
import sys
from pathlib import Path

from embedded.child import Program
from embedded.lock import exclusive
from embedded.postgres import PostgresServer
from embedded.supervisor import Supervisor
from tests.embedded import standin
from tests.servers import pair


def crew(folder: Path, *deaf_to: str, death_signal: signal.Signals = signal.SIGKILL) -> Program:
    """A stand-in worker master with a pool, whose pids appear in `folder`; ready when all of them have."""
    folder.mkdir(exist_ok=True)
    return Program(
        name="crew",
        argv=(sys.executable, "-S", standin.__file__, str(folder), *deaf_to),
        ready=lambda: len(list(folder.iterdir())) == standin.CREW,
        stop_seconds=0.2,
        death_signal=death_signal,
    )


def start(supervisor: Supervisor, folder: Path, what: str, *details: str) -> None:
    match what:
        case "servers":
            servers = pair(details[0], folder)
            for server in (servers.postgres, servers.redis):
                server.prepare()
                supervisor.start(server.program())
        case "crew":
            supervisor.start(crew(folder / "crew"))
        case "sleep":
            supervisor.start(Program("sleep", ("sleep", "1000"), identity=details[0]))
        case "prepare":
            PostgresServer(folder / "postgres", folder / "run", Path(details[0])).prepare()


def main() -> None:
    folder, what, *details = sys.argv[1:]
    with exclusive(Path(folder)), Supervisor(Path(folder, "log"), print) as supervisor:
        start(supervisor, Path(folder), what, *details)
        supervisor.watch(begun=lambda: print("ready", os.getpid(), flush=True))  # noqa: T201  (a script's output)


if __name__ == "__main__":
    main()
