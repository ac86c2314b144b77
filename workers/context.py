"""What a run has at hand: its lease and heartbeat, the problem, the two halves of unseen data, the parent's network."""

import platform
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import structlog
import torch
from torch import nn

from app import runs
from app.db import transaction
from app.errors import Corrupt, Gone
from app.runs import Lease
from unlearning.problem import Problem
from unlearning.records import Records
from unlearning.splits import AuditData, TuningData, split_unseen
from unlearning.training import restore
from workers import artifacts
from workers.problems import load_for
from workers.pulse import Pulse
from workers.torchrun import ONE, Asker

log = structlog.get_logger()


def device() -> torch.device:
    """CUDA where it is there."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Context:
    """One run's things, each made when it is first asked for."""

    lease: Lease
    pulse: Pulse

    @cached_property
    def device(self) -> torch.device:
        return device()

    @property
    def asker(self) -> Asker:
        """For what several processes may do."""
        return Asker(self.lease, self.lease.policy.compute, self.device, self.pulse.step)

    @cached_property
    def problem(self) -> Problem:
        return load_for(self.lease.problem, self.lease.manifest_digest)

    @cached_property
    def unseen(self) -> tuple[TuningData, AuditData]:
        return split_unseen(self.problem)

    @property
    def tuning(self) -> TuningData:
        return self.unseen[0]

    @property
    def audit(self) -> AuditData:
        return self.unseen[1]

    @cached_property
    def parent(self) -> nn.Module:
        """The parent version's network, its bytes verified against their digest."""
        assert self.lease.parent is not None
        return restore(self.problem, artifacts.load_weights(self.lease.parent.weights_digest), self.device)

    @cached_property
    def records(self) -> Records | None:
        """What the parent keeps of its training, verified. None where it keeps nothing, or nothing that can be used, which
        the timeline then says."""
        parent = self.lease.parent
        if parent is None or parent.kept is None:
            return None
        try:
            return artifacts.load_records(parent.kept.digest)
        except (Corrupt, Gone) as error:
            self.tell_records("unusable", records=parent.kept.digest, why=error.code)
            return None

    def tell_records(self, what: str, **facts: Any) -> None:
        """Put what becomes of a training's records on the batch's timeline, and into the log."""
        log.info(f"records.{what}", batch=str(self.lease.batch_id), **facts)
        with transaction() as session:
            runs.tell_records(session, self.lease, what, **facts)

    def environment(self) -> dict[str, Any]:
        """What the bytes depend on besides the inputs named elsewhere in the audit."""
        recipe = self.problem.recipe
        return {
            "expunge": version("expunge"),
            "torch": torch.__version__,
            "numpy": version("numpy"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "seed": recipe.seed,
            "recipe": asdict(recipe),
            "split": self.tuning.salt,
        } | ONE.told()
