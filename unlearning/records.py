"""What was kept of one training, and how the deletion of a sample reaches it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unlearning.methods.diagonals import FisherSum, Importance
from unlearning.problem import Indices
from unlearning.training import State


@dataclass(frozen=True)
class Records:
    """What was kept of one training, whose weights they belong to. What was not asked for is None.

    `epochs` are those that led to the weights. `steps` holds the samples of each step, in order; `journal` the change of
    each parameter in a step, by the step's number; `undone` the steps whose change has since been taken back out of the
    weights, `lost` those whose change was purged without that.
    """

    epochs: int
    batch_size: int
    initial: State | None = None
    steps: tuple[Indices, ...] | None = None
    journal: Mapping[int, State] | None = None
    fisher: FisherSum | None = None
    importance: Importance | None = None
    undone: frozenset[int] = frozenset()
    lost: frozenset[int] = frozenset()

    def touched(self, samples: Indices) -> list[int]:
        """The numbers of the steps that learned from any of these samples and are still in the weights.

        Raises:
            ValueError: no membership was recorded.
        """
        if self.steps is None:
            raise ValueError("no record says which sample was in which step: record the membership")
        found = (number for number, step in enumerate(self.steps) if np.isin(step, samples).any())
        return [number for number in found if number not in self.undone]

    def visits(self, sample: int) -> int:
        """How many steps learned from a sample."""
        if self.steps is None:
            raise ValueError("no record says which sample was in which step: record the membership")
        return sum(int((step == sample).sum()) for step in self.steps)

    def covers(self, samples: Indices) -> bool:
        """Whether the journal holds every step that learned from these samples, each of which is known to the membership."""
        if self.steps is None or self.journal is None:
            return False
        known = np.unique(np.concatenate([*self.steps, np.empty(0, dtype=np.int64)]))
        if not np.isin(samples, known).all():
            return False
        return all(number in self.journal for number in self.touched(samples))

    def purge(self, samples: Indices, undone: bool = False) -> "Records":
        """The records without what they hold of deleted samples: their places in steps, the journal of these steps, and
        the sums that they are part of (which belong to the weights before the deletion, too).

        `undone` says that the journal of these steps was subtracted from the weights that the new records go with.
        Otherwise those steps are lost: samples that shared one with a deleted sample are no longer covered.
        """
        if self.steps is None:
            return replace(self, fisher=None, importance=None)
        gone = frozenset(self.touched(samples))
        journal = None if self.journal is None else {n: delta for n, delta in self.journal.items() if n not in gone}
        return replace(
            self,
            steps=tuple(step[~np.isin(step, samples)] for step in self.steps),
            journal=journal,
            fisher=None,
            importance=None,
            undone=self.undone | gone if undone else self.undone,
            lost=self.lost if undone else self.lost | gone,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts there are, by the names that a quote has for them."""
        held = {
            "initial": self.initial,
            "membership": self.steps,
            "journal": self.journal,
            "fisher": self.fisher,
            "importance": self.importance,
        }
        return tuple(name for name, part in held.items() if part is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as `tensors` gives them."""
        return sum(value.numel() * value.element_size() for value in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Everything as one flat dictionary of tensors on the CPU, the way safetensors takes it.

        The journal is one tensor a parameter, whose first axis is the steps: a tensor a step would fill the file's header,
        whose length safetensors limits.
        """
        numbers = [self.epochs, self.batch_size, self.steps is not None, self.journal is not None]
        flat = {"numbers": torch.tensor([int(number) for number in numbers])}
        flat |= _named("initial", self.initial or {})
        if self.steps is not None:
            flat["steps/samples"] = torch.from_numpy(np.concatenate([*self.steps, np.empty(0, dtype=np.int64)]))
            flat["steps/lengths"] = torch.tensor([len(step) for step in self.steps], dtype=torch.int64)
            flat["steps/undone"] = torch.tensor(sorted(self.undone), dtype=torch.int64)
            flat["steps/lost"] = torch.tensor(sorted(self.lost), dtype=torch.int64)
        if self.journal is not None:
            flat |= _stacked(self.journal)
        if self.fisher is not None:
            flat |= _named("fisher", self.fisher.vector)
            flat["fisher-count"] = torch.tensor([self.fisher.count])
        if self.importance is not None:
            flat |= _named("importance", self.importance.vector)
            flat["importance-numbers"] = torch.tensor([self.importance.batch_size, self.importance.count])
        return flat

    @staticmethod
    def from_tensors(flat: Mapping[str, Tensor]) -> "Records":
        """What `tensors` was given.

        Raises:
            ValueError: a part is missing.
        """
        try:
            return _from_tensors(flat)
        except KeyError as error:
            raise ValueError(f"these are no records: {error} is missing") from error


def _named(prefix: str, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value.detach().cpu().contiguous() for name, value in vector.items()}


def _stacked(journal: Mapping[int, State]) -> dict[str, Tensor]:
    """The journal's numbers, ascending, and for each parameter its changes in that order, one on top of the other."""
    numbers = sorted(journal)
    names = journal[numbers[0]] if numbers else ()
    stacked = {name: torch.stack([journal[number][name] for number in numbers]) for name in names}
    return {"journal-numbers": torch.tensor(numbers, dtype=torch.int64)} | _named("journal", stacked)


def _under(prefix: str, flat: Mapping[str, Tensor]) -> State:
    return {name.removeprefix(f"{prefix}/"): value for name, value in flat.items() if name.startswith(f"{prefix}/")}


def _from_tensors(flat: Mapping[str, Tensor]) -> Records:
    epochs, batch_size, has_steps, has_journal = flat["numbers"].tolist()
    records = Records(epochs, batch_size, initial=_under("initial", flat) or None)
    if has_steps:
        ends = np.cumsum(flat["steps/lengths"].numpy())
        samples = flat["steps/samples"].numpy()
        records = replace(
            records,
            steps=tuple(np.split(samples, ends[:-1])) if len(ends) else (),
            undone=frozenset(flat["steps/undone"].tolist()),
            lost=frozenset(flat["steps/lost"].tolist()),
        )
    if has_journal:
        changes = _under("journal", flat)
        journal = {
            number: {name: change[row] for name, change in changes.items()}
            for row, number in enumerate(flat["journal-numbers"].tolist())
        }
        records = replace(records, journal=journal)
    if "fisher-count" in flat:
        records = replace(records, fisher=FisherSum(_under("fisher", flat), int(flat["fisher-count"])))
    if "importance-numbers" in flat:
        size, count = flat["importance-numbers"].tolist()
        records = replace(records, importance=Importance(_under("importance", flat), size, count))
    return records
