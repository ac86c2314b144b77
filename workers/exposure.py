"""Which samples' gradients stand out at the weights just published, where the policy asks: kept with the version, as ordinals.

After everything that the next update needs, and never a reason for a run to fail: where it cannot be told, the row says why.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import structlog
from sqlalchemy import update

from app.db import transaction
from app.tables import Version
from unlearning.exposure import expose
from unlearning.gradients import NonFinite
from unlearning.looks import NoLook
from unlearning.training import restore
from workers import artifacts, stopping
from workers.context import Context
from workers.rungs import read_tombstones
from workers.stopping import Stopping

log = structlog.get_logger()


def look_at(context: Context, version: Version) -> None:
    """Look, if the policy of the run says so, and keep what was seen, unless the version was superseded meanwhile."""
    if not context.lease.policy.outliers.look:
        return
    try:
        keep(version, seen(context, version))
    except Stopping:
        log.info("exposure.not_looked_at", version=version.number, why="the worker was told to stop")
    except Exception as error:  # noqa: BLE001 - the version is published, and stays so without this
        log.warning("exposure.not_looked_at", version=version.number, error=type(error).__name__)


def seen(context: Context, version: Version) -> dict[str, Any]:
    """What the look shows, or why it shows nothing. What a user's code raised is named by kind alone: its text may hold
    somebody's id."""
    asked, problem = context.lease.policy.outliers, context.problem
    model = restore(problem, artifacts.load_weights(version.weights_digest), context.device)
    live = np.setdiff1d(np.arange(len(problem.train)), read_tombstones(context))
    try:
        return asdict(expose(model, problem, live, asked.z, asked.most, go_on))
    except Stopping:
        raise
    except (NoLook, NonFinite) as error:
        return {"why": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a user's Problem raises
        log.warning("exposure.not_looked_at", version=version.number, error=type(error).__name__)
        return {"why": f"it could not be looked at ({type(error).__name__})"}


def go_on(_: float, __: str) -> None:
    """Between two parts: nobody waits for this, so a worker that is to stop drops it. Raises `Stopping`."""
    if stopping.asked():
        raise Stopping


def keep(version: Version, found: dict[str, Any]) -> None:
    """In the version's row, while it is current: what a later publication forgets must not be written down after it."""
    with transaction() as session:
        still_current = update(Version).where(Version.id == version.id, Version.superseded_at.is_(None))
        session.execute(still_current.values(exposure=found))
