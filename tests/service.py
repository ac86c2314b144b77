"""The whole service as a person starts it, for tests: `expunge up` in a process of its own, spoken to over HTTP."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.cli.demo import free_port
from embedded.processes import wait_for
from tests.plain import Api

PROBLEMS = Path(__file__).parent / "problems"
LONG = float(os.environ.get("EXPUNGE_TEST_SECONDS", "90"))  # a busy machine needs more
EAGER = {"batching": {"max_wait_seconds": 0}}
LENIENT = EAGER | {
    "accept_undetectable": True,
    "thresholds": {"mu": 1, "ue": 1, "worst_class": 1, "retrain_accuracy_drop": 1},
    "update": {"eta": 2.0},
}
QUICK = {
    "EXPUNGE_SWEEP_SECONDS": "0.5",
    "EXPUNGE_LEASE_SECONDS": "3",
    "EXPUNGE_RETRY_SECONDS": "0",
    "OMP_NUM_THREADS": "1",
}


class Service:
    """One `expunge up` on a folder. Start it, talk to it, kill parts of it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.port = folder, free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPUNGE_")}
        paths = os.pathsep.join(filter(None, [str(PROBLEMS), os.environ.get("PYTHONPATH")]))
        mine = {"EXPUNGE_DATA_DIR": str(folder), "EXPUNGE_PORT": str(self.port), "PYTHONPATH": paths, "COLUMNS": "160"}
        self.environment = kept | QUICK | mine | environment
        self.gate = folder / "gate"
        self.process: subprocess.Popen[str] | None = None
        self.apis: list[Api] = []

    def command(self, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        """One call of the command line, as a person would type it."""
        argv = [sys.executable, "-m", "app.cli", *arguments]
        done = subprocess.run(
            argv, capture_output=True, text=True, env=self.environment | extra, check=False, timeout=LONG
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self) -> None:
        """`expunge up`, until it says that it is."""
        argv = [sys.executable, "-m", "app.cli", "up"]
        log = (self.folder / "up.log").open("a")
        self.process = subprocess.Popen(
            argv, stdout=log, stderr=log, text=True, env=self.environment, start_new_session=True
        )
        log.close()
        begun = (self.folder / "up.log").read_text().count("Ctrl-C stops it.")
        self.until(
            lambda: (self.folder / "up.log").read_text().count("Ctrl-C stops it.") > begun, "the service to be up"
        )

    def stop(self) -> int:
        """Ctrl-C, and its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LONG)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for a condition, not for a time; the bound only ends a test that has failed."""
        if not wait_for(lambda: bool(condition()), LONG, pause=0.05):
            raise AssertionError(f"waited in vain for {what}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of every process's log."""
        logs = [self.folder / "up.log", *sorted((self.folder / "log").glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def api(self, *scopes: str, client: str = "tester") -> Api:
        options = [part for scope in scopes or ("admin",) for part in ("--scope", scope)]
        key = self.command("keys", "create", client, *options).stdout.strip()
        self.apis.append(Api(f"http://127.0.0.1:{self.port}", key))
        return self.apis[-1]

    def model(self, api: Api, name: str = "net", policy: dict[str, Any] = LENIENT) -> None:
        """A dataset and a trained model, prepared for its updates: the worker reads no training sample any more."""
        lines = "".join(f"train-{i:04d},train-subject-{i // 20:03d}\n" for i in range(400))
        csv = {"Content-Type": "text/csv"}
        api.call("PUT", "/datasets/clusters", content=("id,subject\n" + lines).encode(), headers=csv)
        api.post("/models", {"name": name, "dataset": "clusters", "problem": "clusters", "policy": policy})
        self.until(lambda: api.get(f"/models/{name}/versions")["versions"], "the first version")
        kept = 1 + len(api.get("/models"))  # its weights, and what was prepared; as many of each model before it
        self.until(lambda: len(list(self.folder.rglob("sha256/*/*"))) >= kept, "the first version's preparation")

    def submit(self, api: Api, ordinals: range, **more: Any) -> str:
        ids = [f"train-{i:04d}" for i in ordinals]
        return str(api.post("/deletions", {"dataset": "clusters", "sample_ids": ids, "reason": "other"} | more)["id"])

    def fulfilled(self, api: Api, ticket: str) -> Any:
        """Wait for a ticket's end; returns it."""
        self.until(lambda: api.get(f"/deletions/{ticket}")["state"] == "fulfilled", "the ticket's end")
        return api.get(f"/deletions/{ticket}")

    def close_gate(self) -> None:
        """From here on whoever reads training samples waits."""
        self.gate.mkdir(exist_ok=True)
        (self.gate / "reached").unlink(missing_ok=True)
        (self.gate / "closed").touch()

    def open_gate(self) -> None:
        (self.gate / "closed").unlink()

    def second_worker(self, pool: str = "solo", queue: str = "app.queue:celery") -> subprocess.Popen[bytes]:
        """Another worker beside the supervised one, as on a second machine. Its log is `second.log`."""
        argv = [sys.executable, "-m", "celery", "-A", queue, "worker", "--pool", pool, "--concurrency", "1"]
        argv += ["--hostname", "second@%h", "--loglevel", "INFO"]
        with (self.folder / "second.log").open("a") as log:
            return subprocess.Popen(argv, env=self.environment, stdout=log, stderr=log)

    def started(self, mark: str) -> list[int]:
        """The processes whose command line holds `mark` and that are no other such one's child: a worker's parent, say."""
        found = {pid for pid, command in self.processes().items() if mark in command}
        return sorted(pid for pid in found if parent_of(pid) not in found)

    def terminate(self, mark: str) -> None:
        """SIGTERM for the program of that command line, and wait until it has ended."""
        (pid,) = self.started(mark)
        os.kill(pid, signal.SIGTERM)
        self.until(lambda: pid not in self.processes(), f"{mark} to end")

    def processes(self) -> dict[int, str]:
        """Every process that belongs to this service: pid to command line.

        Known by its environment, or by where it works: Redis writes its title over its environment.
        """
        found = {}
        mark = f"EXPUNGE_DATA_DIR={self.folder}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                mine = mark in (entry / "environ").read_bytes().split(b"\0")
                if mine or (entry / "cwd").readlink().is_relative_to(self.folder):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has just ended
        return found

    def kill(self, what: str) -> int:
        """kill -9 of every process whose command line holds `what`; returns how many."""
        doomed = [pid for pid, command in self.processes().items() if what in command]
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(doomed)


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0  # it has just ended


@contextmanager
def service(folder: Path, **environment: str) -> Iterator[Service]:
    """A started service, and afterwards nothing of it."""
    made = Service(folder, environment | {"EXPUNGE_TEST_GATE": str(folder / "gate")})
    try:
        made.start()
        yield made
    finally:
        for api in made.apis:
            api.http.close()
        made.kill("")
        if made.process is not None:
            made.process.wait(LONG)
        wait_for(lambda: not made.processes(), 10)
