"""What a training leaves for methods that need more than its weights: quoted, kept, and purged of what is forgotten.

A version is worth more than its records. What goes wrong with these is told on the batch's timeline, and the version does
without.
"""

from collections.abc import Callable
from dataclasses import asdict

from torch import nn

from app.errors import whereabouts
from app.runs import Kept
from unlearning.problem import Indices
from unlearning.recorder import Recorder, RecorderSettings, quote
from unlearning.records import Records
from unlearning.training import State
from workers import artifacts
from workers.context import Context


class Keeper:
    """Observes one training for the policy's recorder, and never costs it: where the quote is above the limit, or the
    recorder raises, the training goes on and nothing is kept."""

    def __init__(self, context: Context, live: Indices) -> None:
        asked = context.lease.policy.recorder
        self.context = context
        self.settings = RecorderSettings(
            initial=asked.initial,
            membership=asked.membership,
            journal="all" if asked.journal else "none",
            fisher=asked.fisher,
            importance=asked.importance,
            importance_batch=asked.importance_batch,
            limit_bytes=asked.limit_bytes,
        )
        self.recorder: Recorder | None = Recorder(self.settings, context.problem, live)
        self.samples, self.quoted = len(live), 0

    def started(self, model: nn.Module) -> None:
        """Say what the records will take, before the first step."""
        offer, limit = quote(self.settings, model, self.samples, self.context.problem.recipe), self.settings.limit_bytes
        self.quoted = offer.total
        self.context.tell_records("quoted", bytes=asdict(offer), total=offer.total, limit=limit)
        if offer.total > limit:
            self.give_up(
                "refused",
                f"the records would take {offer.total:,} bytes ({offer.journal:,} of them the journal) and the policy's"
                f" limit is {limit:,}: the training goes on without them",
            )
        self.guarded(lambda recorder: recorder.started(model))

    def stepping(self, epoch: int, chosen: Indices) -> None:
        self.guarded(lambda recorder: recorder.stepping(epoch, chosen))

    def stepped(self) -> None:
        self.guarded(lambda recorder: recorder.stepped())

    def finished(self, state: State, epochs: int) -> None:
        self.guarded(lambda recorder: recorder.finished(state, epochs))

    def guarded(self, call: Callable[[Recorder], None]) -> None:
        if self.recorder is None:
            return
        try:
            call(self.recorder)
        except Exception as error:  # noqa: BLE001 - memory, a user's data source, a loss that a sum cannot be taken of
            self.give_up("abandoned", whereabouts(error))

    def give_up(self, what: str, why: str) -> None:
        self.recorder = None
        self.context.tell_records(what, why=why)


def of_training(context: Context, keeper: Keeper | None) -> Kept | None:
    """Store what was recorded of the training that is about to be published."""
    if keeper is None or keeper.recorder is None:
        return None
    parent = context.lease.parent
    name = f"{context.lease.model}-v{parent.number + 1 if parent else 1}"
    return stored(context, keeper.recorder.records, name, keeper.quoted, 0)


def of_update(context: Context, forget: Indices, *, undone: bool) -> Kept | None:
    """Store what an updated version may keep: the parent's records without what they hold of D_f.

    `undone` says that the update subtracted the journal of D_f's steps from the weights. Otherwise these steps are lost.
    """
    kept = context.lease.parent.kept if context.lease.parent else None
    if kept is None or context.records is None:
        return None
    left = context.records.purge(forget, undone)
    if not left.parts:
        return None
    return stored(context, left, kept.of, kept.quoted_bytes, kept.purged_samples + len(forget))


def stored(context: Context, records: Records, of: str, quoted: int, purged: int) -> Kept | None:
    """The bytes first, for the row that is about to name them; None, with the reason told, where they cannot be stored."""
    try:
        digest, size = artifacts.save_records(records, f"{context.lease.batch_id}/{context.lease.epoch}")
    except Exception as error:  # noqa: BLE001 - memory, a store that is full: the weights may fit all the same
        context.tell_records("abandoned", why=whereabouts(error))
        return None
    return Kept(
        digest=digest,
        bytes=size,
        of=of,
        quoted_bytes=quoted,
        parts=list(records.parts),
        epochs=records.epochs,
        steps=None if records.steps is None else len(records.steps),
        journal_steps=None if records.journal is None else len(records.journal),
        lost_steps=len(records.lost),
        undone_steps=len(records.undone),
        purged_samples=purged,
    )
