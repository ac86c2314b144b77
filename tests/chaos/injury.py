"""Faults at work: each begins, may have to be watched, and is made good when the run heals."""

import hashlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.control import proceed
from tests.chaos.ground import Ground
from tests.chaos.plan import Fault, Kind
from tests.chaos.stack import SETTINGS
from tests.faults.plugin import Action

ASLEEP = 1.6 * float(SETTINGS["EXPUNGE_LEASE_SECONDS"])
"""Longer than a lease."""
WEIGHTS = """
    SELECT weights_digest FROM version JOIN model ON model.current_version_id = version.id WHERE model.name = %s
"""


@dataclass
class Injury:
    """One fault of a plan, on this ground. `done` says that it has happened, which one at a label may never do."""

    fault: Fault
    ground: Ground
    model: str
    done: bool = False
    begun: float | None = None
    armed: str = ""
    undo: list[Callable[[], None]] = field(default_factory=list)
    since: float | None = None

    def begin(self) -> None:
        """Inject it, or put it in place."""
        self.begun = time.monotonic()
        fault, stack = self.fault, self.ground.stack
        control = stack.control
        match fault.kind:
            case Kind.KILL_API | Kind.KILL_BEAT | Kind.KILL_POSTGRES | Kind.KILL_REDIS:
                self.signal(fault.kind.removeprefix("kill-"), signal.SIGKILL)
            case Kind.KILL_WORKER:
                self.signal(fault.worker, signal.SIGKILL)
            case Kind.TERM_WORKER:
                self.signal(fault.worker, signal.SIGTERM)
            case Kind.STOP_WORKER:
                self.signal(fault.worker, signal.SIGSTOP)
                self.undo.append(lambda: stack.signal(fault.worker, signal.SIGCONT))
            case Kind.KILL_AT_LABEL | Kind.EXIT_AT_LABEL | Kind.STOP_AT_LABEL:
                self.armed = control.arm(fault.label, Action(fault.kind.partition("-")[0]))
            case Kind.OUT_OF_MEMORY:
                self.armed = control.arm(fault.label, Action.MEMORY)
            case Kind.POSTGRES_IN_PUBLISH:
                self.armed = control.arm(fault.label, Action.HANG, always=True)
            case Kind.REDIS_DOWN:
                stack.end("redis")
                self.undo.append(lambda: stack.begin("redis"))
                self.done = True
            case Kind.REDIS_FLUSHED:
                self.done = self.flushed()
            case Kind.REDIS_RESTARTED:
                self.signal("redis", signal.SIGTERM)
            case Kind.POSTGRES_RESTARTED:
                self.signal("postgres", signal.SIGINT)
            case Kind.MESSAGES_TWICE:
                self.always("message.send", Action.TWICE)
            case Kind.TWO_BEATS:
                stack.begin("beat-2")
                self.undo.append(lambda: stack.end("beat-2"))
                self.done = True
            case Kind.STORE_FAILS:
                self.always("store.put", Action.FAIL)
            case Kind.STORE_FULL:
                self.always("store.put", Action.FULL)
            case Kind.WEIGHTS_CORRUPTED:
                self.done = self.corrupt()
            case Kind.PROBLEM_RAISES | Kind.PROBLEM_HANGS:
                control.misbehave("raise" if fault.kind is Kind.PROBLEM_RAISES else "hang")
                self.undo.append(lambda: (control.folder / "problem.json").unlink(missing_ok=True))
                self.done = True
            case Kind.POISON_TICKET:
                control.misbehave("raise", list(fault.ordinals))
                self.done = True  # taken back by the healing alone

    def watch(self) -> None:
        """One look: has it fired, is its time over?"""
        if self.begun is None:
            return
        pids = self.ground.stack.control.fired(self.armed) if self.armed else []
        if pids and self.since is None:
            self.since, self.done = time.monotonic(), True
            if self.fault.kind is Kind.POSTGRES_IN_PUBLISH:
                self.ground.stack.signal("postgres", signal.SIGINT)
                (self.ground.stack.control.folder / "armed" / self.armed).unlink(missing_ok=True)
        if self.fault.kind is Kind.STOP_AT_LABEL and self.since is not None and time.monotonic() - self.since > ASLEEP:
            for pid in pids:
                proceed(pid)
        if time.monotonic() - self.begun > self.lasts:
            self.end()

    @property
    def lasts(self) -> float:
        return ASLEEP if self.fault.kind is Kind.STOP_WORKER else self.fault.seconds

    @property
    def waiting(self) -> bool:
        """Whether it is in place and has not been met yet."""
        return self.begun is None or (bool(self.armed) and not self.done)

    def end(self) -> None:
        """Make good what does not heal by itself."""
        while self.undo:
            self.undo.pop()()

    def signal(self, name: str, number: signal.Signals) -> None:
        self.done = name in self.ground.stack.children
        self.ground.stack.signal(name, number)

    def always(self, lever: str, action: Action) -> None:
        self.armed = self.ground.stack.control.arm(lever, action, always=True)
        file = self.ground.stack.control.folder / "armed" / self.armed
        self.undo.append(lambda: file.unlink(missing_ok=True))

    def flushed(self) -> bool:
        try:
            self.ground.stack.flush_redis()
        except Exception:  # noqa: BLE001 - it is down: then there is nothing to flush
            return False
        return True

    def corrupt(self) -> bool:
        """Damage the weights that the model's next update starts from. An operator restores them from a back-up."""
        try:
            found = self.ground.stack.ask(WEIGHTS, self.model)
        except Exception:  # noqa: BLE001 - Postgres is away: another fault's work
            return False
        if not found:
            return False
        name = str(found[0][0])
        path: Path = self.ground.stack.artifacts / "sha256" / name[:2] / name
        if not path.exists():
            return False
        sound = path.read_bytes()
        path.write_bytes(sound[:-8] + bytes(8))

        def restore() -> None:
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != name:
                path.write_bytes(sound)

        self.undo.append(restore)
        return True
