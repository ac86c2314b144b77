"""The supervisor: starts programs in order, restarts the dead, stops them in reverse order, leaves nothing behind."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from embedded import processes
from embedded.child import Child, Program
from embedded.errors import Refused, StartFailed
from embedded.janitor import Janitor

__all__ = ["Program", "Refused", "StartFailed", "Supervisor"]

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
HEALTHY_SECONDS = 60.0
_ROUND_SECONDS = 0.1


@dataclass
class _Post:
    """One program's place: the child that fills it now, or when the next one is due."""

    program: Program
    child: Child | None
    since: float
    pause: float = FIRST_PAUSE
    due: float = 0.0


class Supervisor:
    """Keeps programs running. Use it as a context manager, and from the main thread.

    When this process is killed outright, each program gets its `death_signal` from the kernel, and the janitor kills
    what is left of its process group. Between two starts no signal handler is installed: a SIGTERM then simply ends
    this process, with the same result.
    """

    def __init__(
        self, log_dir: Path, report: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not processes.PROC.joinpath("self/stat").exists():
            raise Refused("The private servers run on Linux only: start servers of your own and point Expunge at them.")
        log_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir = log_dir
        self._report = report
        self._clock = clock
        self._janitor = Janitor()
        self._posts: list[_Post] = []
        self._stopping = False
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, program: Program) -> int:
        """Start the program, wait until it is ready, and return its pid. What was started before keeps running.

        Raises:
            StartFailed: it ended, or was not ready in time; nothing of it is left.
        """
        # The kernel sends the parent-death signal when the thread that forked ends, not when the process does.
        assert threading.current_thread() is threading.main_thread(), "programs are started by the main thread"
        with self._lock:
            child = self._spawn(program)
            try:
                self._await_ready(program, child)
            except BaseException:
                child.stop()
                self._janitor.remove(child.pid)
                raise
            self._posts.append(_Post(program, child, since=self._clock()))
            return child.pid

    def pid(self, name: str) -> int | None:
        """The pid of a program, or None while it waits for its restart."""
        post = next(post for post in self._posts if post.program.name == name)
        return None if post.child is None else post.child.pid

    def watch(self, begun: Callable[[], None] = lambda: None) -> None:
        """Block, restarting what dies, until SIGINT, SIGTERM or `request_stop`. Leave the context to stop the rest.

        `begun` is called once a signal means an orderly stop: the moment to tell the world that the service is up.
        """

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.request_stop()

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            begun()
            while not self._stopping:
                self.poll()
                time.sleep(_ROUND_SECONDS)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def request_stop(self) -> None:
        """Make `watch` return. Safe in a signal handler and in any thread."""
        self._stopping = True

    def poll(self) -> None:
        """One round of the watch, without blocking: for an owner that has its own loop."""
        with self._lock:
            for post in self._posts:
                if post.child is None:
                    self._restart_when_due(post)
                elif post.child.exited():
                    self._bury(post, post.child)
                elif self._clock() - post.since >= HEALTHY_SECONDS:
                    post.pause = FIRST_PAUSE

    def stop(self) -> None:
        """Stop everything, last started first. Returns when no process is left; may be called twice."""
        self._stopping = True
        with self._lock:
            while self._posts:
                post = self._posts[-1]
                if post.child is not None:
                    post.child.stop()
                    self._janitor.remove(post.child.pid)
                self._posts.pop()
            self._janitor.close()

    def _spawn(self, program: Program) -> Child:
        child = Child(program, self._log_dir)
        self._janitor.add(child.pid, program.stop_seconds)
        return child

    def _await_ready(self, program: Program, child: Child) -> None:
        """Death is looked for before readiness: another server might answer in the place of ours."""
        if program.ready is None:
            return
        ready = program.ready
        if not processes.wait_for(lambda: child.exited() or ready(), program.ready_seconds):
            problem = f"{program.name} was not ready within {program.ready_seconds:g} s"
        elif child.exited():
            problem = f"{program.name} ended before it was ready ({child.clear()})"
        else:
            return
        raise StartFailed(f"{problem}. Its log ends:\n{child.log_tail()}")

    def _bury(self, post: _Post, child: Child) -> None:
        """Clear the dead child's group, so that its orphans do not work beside its successor, and set the date."""
        how = child.clear()
        if how.startswith("exit"):  # not by a signal: it gave up, and may have said why
            how = f"{how}: {child.last_words()}"
        self._janitor.remove(child.pid)
        if self._clock() - post.since >= HEALTHY_SECONDS:
            post.pause = FIRST_PAUSE
        post.child, post.due = None, self._clock() + post.pause
        self._report(f"{post.program.name} died ({how}); restarting it in {post.pause:g} s")
        post.pause = min(2 * post.pause, LONGEST_PAUSE)

    def _restart_when_due(self, post: _Post) -> None:
        if self._stopping or self._clock() < post.due:
            return
        try:
            post.child, post.since = self._spawn(post.program), self._clock()
        except OSError as error:  # no memory, no process slot, a full disk: ending here would end the healthy ones too
            post.due = self._clock() + post.pause
            self._report(f"{post.program.name} could not be restarted ({error}); trying again in {post.pause:g} s")
            post.pause = min(2 * post.pause, LONGEST_PAUSE)
        else:
            self._report(f"{post.program.name} restarted (pid {post.child.pid})")
