"""How each label is reached: a short story over HTTP that leads some process past it, and what must be so afterwards.

`arm` puts the fault in place; a scenario calls it right before the step that it is for, and `fired` waits for it.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from tests.chaos.ground import LAZY, LENIENT, STRICT, WAITING, Ground, Line
from tests.faults.plugin import Action

MANY = 4
TRAINING = ("worker-a", "worker-b")


@dataclass
class Case:
    """One label's story: the ground, the model it happens to, and the fault."""

    ground: Ground
    line: Line
    label: str
    action: Action = Action.KILL
    fault: str = ""

    def arm(self) -> None:
        self.fault = self.ground.stack.control.arm(self.label, self.action)

    def met(self) -> bool:
        return bool(self.ground.stack.control.fired(self.fault))

    def fired(self) -> None:
        self.ground.until(self.met, f"{self.label} to be reached")

    def submit(self, ordinals: list[int] | None = None, **more: str) -> str:
        taken = self.line.take(MANY) if ordinals is None else ordinals
        ticket = self.ground.client.submit(self.line.dataset, uuid4().hex, taken, **more)
        assert ticket is not None
        return ticket

    def ticket(self, ticket: str) -> str:
        """Its state."""
        return str(self.ground.stack.ask("SELECT state FROM ticket WHERE id = %s", ticket)[0][0])


def ticket(case: Case) -> None:
    """A ticket, answered by an update; now and then one is judged not to be published, and the next ticket must do."""
    case.arm()
    for _ in range(8):
        answer = in_background(case, case.submit)
        made = answer()
        case.ground.settle()
        assert case.ticket(made) == "fulfilled"
        if case.met():
            return
    seen = (
        "SELECT batch.kind, batch.state, batch.why FROM batch JOIN model ON model.id = model_id WHERE name = %s"
        " ORDER BY batch.created_at"
    )
    raise AssertionError(f"{case.label} was not reached: {case.ground.stack.ask(seen, case.line.name)[-8:]}")


def ticked(case: Case) -> None:
    """A ticket, and beat's next tick, which may come after all of it."""
    case.arm()
    made = in_background(case, case.submit)()
    case.fired()
    case.ground.settle()
    assert case.ticket(made) == "fulfilled"


def swept(case: Case) -> None:
    """A ticket while nobody hears the bell: the sweep finds it, and rings until somebody does."""
    for name in TRAINING:
        case.ground.stack.signal(name, signal.SIGSTOP)
    case.arm()
    made = case.submit()
    case.fired()
    for name in TRAINING:
        case.ground.stack.signal(name, signal.SIGCONT)
    case.ground.settle()
    assert case.ticket(made) == "fulfilled"


def again(case: Case) -> None:
    """A second update, whose parent has something prepared that no other model shares."""
    case.submit()
    case.ground.settle()
    case.ground.until(lambda: case.ground.prepared(case.line), "the version to be prepared")
    ticket(case)


def cancel(case: Case) -> None:
    """A ticket that waits, taken back."""
    made = case.submit()
    case.arm()
    answer = in_background(case, lambda: str(case.ground.client.cancel(made)))
    case.fired()
    assert answer() in ("200", "409")  # 409 where it had happened, and the answer was lost
    assert case.ticket(made) == "cancelled"


def registration(case: Case) -> None:
    """A second model on the dataset, and its first training."""
    second = Line(f"{case.line.name}-{uuid4().hex[:6]}", case.line.dataset, case.line.policy)
    case.arm()
    answer = in_background(case, lambda: str(case.ground.register(second)))
    case.fired()
    answer()
    case.ground.until(lambda: case.ground.prepared(second), "the second model's first version")


def retrain(case: Case) -> None:
    """A ticket over unlawful training, which gets a retrain; and an update before it, whose truth that measures."""
    case.submit()
    case.ground.settle()
    case.arm()
    answer = in_background(case, lambda: case.submit(reason="unlawful_training"))
    case.fired()
    made = answer()
    case.ground.settle()
    assert case.ticket(made) == "fulfilled"


def order(case: Case) -> None:
    """A retrain that an operator orders."""
    case.arm()
    answer = in_background(
        case, lambda: str(case.ground.client.order("/retrains", {"model": case.line.name, "why": "a test"}))
    )
    case.fired()
    answer()
    case.ground.settle()


def schedule(case: Case) -> None:
    """A retrain that a schedule orders: once."""
    ask = case.ground.stack.ask
    made = case.ground.client.order("/schedules", {"model": case.line.name, "cron": "0 3 * * 0"})["id"]
    case.arm()
    ask("UPDATE schedule SET next_at = now() - interval '1 minute' WHERE id = %s", made)
    case.fired()
    case.ground.until(lambda: ask("SELECT 1 FROM occurrence WHERE schedule_id = %s", made), "the occurrence")
    case.ground.settle()
    assert ask("SELECT count(batch_id) FROM occurrence WHERE schedule_id = %s", made) == [(1,)]
    case.ground.client.ask("DELETE", f"/schedules/{made}")


def nothing_left(case: Case) -> None:
    """Two tickets over the same samples, the second while the first is being worked off."""
    control, samples = case.ground.stack.control, case.line.take(MANY)
    held = control.arm("rung.begun", Action.HANG, always=True)
    first = case.submit(samples)
    case.ground.until(lambda: control.fired(held), "the first ticket's batch to be in its middle")
    second = case.submit(samples)
    case.arm()
    (control.folder / "armed" / held).unlink()
    case.fired()
    case.ground.settle()
    assert case.ticket(first) == case.ticket(second) == "fulfilled"


def failing(case: Case) -> None:
    """A run that raises."""
    case.ground.stack.control.arm("update.computed", Action.RAISE)
    ticket(case)


def told_to_stop(case: Case) -> None:
    """Both workers are told to stop while one has a batch, which it gives back."""
    control, stack = case.ground.stack.control, case.ground.stack
    held = control.arm("rung.begun", Action.HANG, always=True)
    made = case.submit()
    case.ground.until(lambda: control.fired(held), "the batch to be in its middle")
    case.arm()
    for name in TRAINING:
        stack.signal(name, signal.SIGTERM)
    (control.folder / "armed" / held).unlink()
    case.fired()
    case.ground.settle()
    assert case.ticket(made) == "fulfilled"


def split(case: Case) -> None:
    """Two tickets in a batch that fails until it is split."""
    tickets = [case.submit(), case.submit()]
    for _ in range(3):
        case.ground.stack.control.arm("climb.begun", Action.RAISE)
    case.arm()
    case.ground.client.order(f"/models/{case.line.name}/flush", {})
    case.fired()
    case.ground.settle()
    assert {case.ticket(each) for each in tickets} == {"fulfilled"}
    batches = "SELECT count(*) FROM batch JOIN model ON model.id = model_id WHERE name = %s AND batch.state = 'split'"
    assert case.ground.stack.ask(batches, case.line.name) == [(1,)]


def wait(case: Case) -> None:
    """An inconclusive verdict whose batch waits for more tickets."""
    control = case.ground.stack.control
    control.plant("inconclusive")
    case.arm()
    made = case.submit()
    case.fired()
    held = "SELECT 1 FROM model WHERE name = %s AND deferral IS NOT NULL"
    case.ground.until(lambda: case.ground.stack.ask(held, case.line.name), "the batch to wait")
    (control.folder / "bugs" / "inconclusive").unlink()
    case.ground.client.order(f"/models/{case.line.name}/flush", {})
    case.ground.settle()
    assert case.ticket(made) == "fulfilled"


def bank(case: Case) -> None:
    """A bank of four references, or four more; a dataset of so few subjects gives no more than two groups."""
    ask = case.ground.stack.ask
    count = "SELECT count(*) FROM reference JOIN bank ON bank.id = bank_id JOIN model ON model.id = model_id WHERE name = %s"
    has = int(str(ask(count, case.line.name)[0][0]))
    if has >= 8:
        case.line, has = case.ground.line(case.line.policy), 0
    case.arm()
    path, body = f"/models/{case.line.name}/bank", {"references": has + 4}
    answer = in_background(case, lambda: str(case.ground.client.order(path, body)))
    case.fired()
    answer()
    ready = (
        "SELECT 1 FROM bank JOIN model ON model.id = model_id WHERE name = %s AND (facts ->> 'references')::int = %s"
    )
    case.ground.until(lambda: ask(ready, case.line.name, has + 4), "the table with all references")


def failing_reference(case: Case) -> None:
    """A reference's training raises."""
    case.ground.stack.control.arm("reference.begun", Action.RAISE)
    bank(case)


def purge(case: Case) -> None:
    """Weights whose days are over go, and artifacts that no row names. The first version's may be another model's as well,
    which was trained on the same samples; the second's are this one's alone."""
    ground = case.ground
    for _ in range(2):
        case.submit()
        ground.settle()
    ground.age_artifacts()
    case.arm()
    ground.stack.ring("expunge.purge")
    case.fired()
    old = "SELECT weights_digest FROM version JOIN model ON model.id = model_id WHERE name = %s AND superseded_at IS NOT NULL"
    digests = {str(digest) for (digest,) in ground.stack.ask(old, case.line.name)}
    used = {
        str(digest) for (digest,) in ground.stack.ask("SELECT weights_digest FROM version WHERE superseded_at IS NULL")
    }
    assert digests - used

    def gone() -> bool:
        ground.age_artifacts()
        ground.stack.ring("expunge.purge")  # more than once: a bell that the dying worker had heard already is lost
        return not (digests - used) & {file.name for file in ground.artifacts()}

    ground.until(gone, "the old weights to go")


def in_background(case: Case, request: Callable[[], str]) -> Callable[[], str]:
    """Send a request from a thread of its own, since the stack must be tended while the API is away; returns how to get
    its answer."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(request)
    pool.shutdown(wait=False)

    def answer() -> str:
        case.ground.stack.until(future.done, "the answer")
        return future.result()

    return answer


SCENARIOS: dict[Callable[[Case], None], tuple[dict[str, object], tuple[str, ...]]] = {
    ticked: (LENIENT, ("bell.ringing", "bell.rung")),
    swept: (LENIENT, ("sweep.found",)),
    again: (LENIENT, ("parent.dropped",)),
    cancel: (LAZY, ("cancel.written", "cancel.committed")),
    # a worker that is at a model already goes on with it: only another model is sure to be taken up anew
    registration: (LENIENT, ("registration.written", "work.begun")),
    order: (LENIENT, ("retrain.ordered",)),
    schedule: (LENIENT, ("schedule.written", "schedule.committed")),
    nothing_left: (LENIENT, ("nothing.left",)),
    failing: (LENIENT, ("failure.met", "failure.explained", "failure.written", "failure.committed")),
    told_to_stop: (LENIENT, ("return.written", "return.committed")),
    split: (LAZY, ("batch.given_up",)),
    wait: (WAITING, ("wait.written", "wait.committed")),
    bank: (
        LENIENT,
        (
            "bank.ordered",
            "reference.claimed",
            "reference.begun",
            "reference.keeping",
            "reference.written",
            "reference.finished",
            "bank.assembling",
            "bank.written",
            "bank.assembled",
        ),
    ),
    failing_reference: (LENIENT, ("reference.failed",)),
    purge: (LENIENT, ("purge.written", "purge.committed", "purge.collected")),
    retrain: (
        LENIENT,
        (
            "retrain.begun",
            "absorb.begun",
            "absorb.written",
            "absorb.committed",
            "retrain.trained",
            "retrain.judged",
            "truth.measured",
            "truth.written",
        ),
    ),
}
ESCALATING = ("rung.escalating", "rung.escalated", "wait.begun")


def scenario(label: str) -> tuple[Callable[[Case], None], dict[str, object]]:
    """The story that reaches the label, and the policy it needs."""
    for story, (policy, labels) in SCENARIOS.items():
        if label in labels:
            return story, policy
    return ticket, STRICT if label in ESCALATING else LENIENT
