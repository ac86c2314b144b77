"""What is drawn of a verdict beside its statistics: plain JSON for its row, never a reason for a run to fail.

Of weights that are about to be published, and before they are: what is not published has no page, and where the policy
releases the samples with the publication, nothing reads them afterwards. The scores are at hand; gradient norms and maps cost
a few passes of their own.
"""

from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import Any

import numpy as np
import structlog
from torch import nn

from unlearning import looks
from unlearning.evidence import Evidence
from unlearning.figures import Spread, classes_of, figures_of
from unlearning.gradients import NonFinite, Scores
from unlearning.looks import Maps
from unlearning.validation import compare
from workers.context import Context
from workers.rungs import Task

log = structlog.get_logger()
Drawn = dict[str, Any]
Look = Spread | Maps


def of_update(context: Context, task: Task, updated: nn.Module, evidence: Evidence) -> Drawn | None:
    """All figures of an update. None where nothing could be drawn."""
    try:
        found = figures_of(evidence, whose(context, evidence))
    except Exception as error:  # noqa: BLE001 - a verdict stands without its pictures
        log.warning("figures.missing", error=type(error).__name__)
        return None
    drawn = asdict(found)
    looks_at: tuple[tuple[str, Callable[[], Look]], ...] = (
        ("norms", lambda: gradient_norms(context, updated, evidence, found.withheld)),
        ("maps", lambda: class_maps(context, task, updated)),
    )
    for name, look in looks_at:
        seen, why = looked(look)
        drawn |= {name: None if seen is None else asdict(seen), f"why_no_{name}": why}
    return drawn


def whose(context: Context, evidence: Evidence) -> list[Hashable]:
    """Of whom each sample of D_f is; one that is of nobody in particular stands for itself."""
    subjects = context.problem.train.subjects
    return [subjects[i] if subjects[i] is not None else i for i in evidence.forget_N.tolist()]


def gradient_norms(context: Context, updated: nn.Module, evidence: Evidence, withheld: str | None) -> Look:
    """Not where distributions of D_f are withheld: norms are one more of them."""
    if withheld is not None:
        raise looks.NoLook(withheld)
    weights_M = compare(evidence).pairing.weights_M
    return looks.gradient_norms(
        context.parent, updated, context.problem, evidence.forget_N, context.audit.holdout, weights_M
    )


def class_maps(context: Context, task: Task, updated: nn.Module) -> Look:
    """Of no test image of somebody of whom nothing is left in the training set, whichever update it was that forgot them."""
    subjects = context.problem.train.subjects
    gone = set(np.union1d(task.tombstoned, task.forget).tolist())
    asked = {subjects[i] for i in gone} - {None}
    staying = {subject for i, subject in enumerate(subjects) if subject in asked and i not in gone}
    return looks.class_maps(context.parent, updated, context.problem, context.audit.test, asked - staying)


def looked(look: Callable[[], Look]) -> tuple[Look | None, str | None]:
    """What was seen, or why nothing was. What a user's code raised is named by kind alone: its text may hold somebody's id."""
    try:
        return look(), None
    except (looks.NoLook, NonFinite) as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - a verdict stands without its pictures
        log.warning("figures.missing", error=type(error).__name__)
        return None, f"it could not be taken ({type(error).__name__})"


def of_training(before: Scores | None, after: Scores) -> Drawn | None:
    """Of a training only the classes: D_f is not looked at. None where they cannot be told."""
    try:
        return {"classes": asdict(classes_of(before, after))}
    except Exception as error:  # noqa: BLE001 - hours of training are not lost to a picture
        log.warning("figures.missing", error=type(error).__name__)
        return None
