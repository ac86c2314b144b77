"""The lineage of one version as a flow: from the tickets and the version before to the bytes that were published."""

from uuid import UUID

from app.charts import Box, Chart, flow
from app.evidence.origin import Ancestor, Attempt, Lineage
from app.schemas import VerdictView, VersionView
from app.tables import VersionKind

KINDS = {
    VersionKind.TRAINED: "first training",
    VersionKind.UNLEARNED: "approximate update",
    VersionKind.RETRAINED: "retrained",
}


def graph(
    view: VersionView,
    lineage: Lineage,
    verdicts: list[VerdictView],
    batch: UUID,
    why: str,
    runs: list[Attempt],
) -> Chart:
    """Tickets and batch on the left, what the work began from on the right, the work and its outcome below both. `verdicts`
    are those of the batch in order, the last one that on this version."""
    updated = view.kind is VersionKind.UNLEARNED
    left_out = forget_set(lineage) if updated else excluded(lineage, view)
    begun_from = ancestry(lineage.parents) if updated else [training_set(lineage)]
    asked = tickets_and_batch(lineage, batch, why, "set" if left_out else "run")
    boxes = [*asked, *left_out, *begun_from, run(verdicts, runs), judged(verdicts[-1]), published(view)]
    return flow(f"Lineage of {view.version}", boxes)


def tickets_and_batch(lineage: Lineage, batch: UUID, why: str, to: str) -> list[Box]:
    tickets = len(lineage.tickets)
    said = counted(sum(ticket.samples for ticket in lineage.tickets))
    many = "1 ticket" if tickets == 1 else f"{tickets} tickets"
    first = [Box("tickets", "ticket", many, (said,), 0, ("batch",))] if tickets else []
    return [*first, Box("batch", "batch", f"batch {str(batch)[:8]}…", (why,), 0, (to,))]


def forget_set(lineage: Lineage) -> list[Box]:
    """What the update was to forget."""
    return [Box("set", "data", counted(lineage.forgotten_by_this_version), ("forget set of this update",), 0, ("run",))]


def excluded(lineage: Lineage, view: VersionView) -> list[Box]:
    """What a training left out; nothing where it read everything."""
    if not lineage.samples_excluded:
        return []
    said = ["left out of the training"]
    if lineage.forgotten_by_this_version and view.parent:
        said.append(f"{lineage.forgotten_by_this_version} that {view.parent} had learnt")
    return [Box("set", "data", counted(lineage.samples_excluded), tuple(said), 0, ("run",))]


def training_set(lineage: Lineage) -> Box:
    """What a training read: the manifest less what is excluded."""
    left = lineage.samples_in_manifest - lineage.samples_excluded
    said = (f"{left} of {counted(lineage.samples_in_manifest)}", f"manifest {digest(lineage.manifest_sha256)}")
    return Box("data", "data", f"data set {lineage.dataset}", said, 1, ("run",))


def ancestry(parents: list[Ancestor]) -> list[Box]:
    """The version before, and what it descends from by updates, back to the last training."""
    chain: list[Ancestor] = []
    for parent in parents:  # newest first
        chain.append(parent)
        if parent.kind is not VersionKind.UNLEARNED:
            break
    chain.reverse()
    between = chain[1:-1]
    boxes = [version_box(chain[0], "between" if between else "parent" if len(chain) > 1 else "run")] if chain else []
    if between:
        n, samples = len(between), sum(each.forgotten for each in between)
        title = f"{n} update{'s' * (n > 1)} between"
        boxes.append(Box("between", "version", title, (f"{counted(samples)} forgotten",), 1, ("parent",)))
    if len(chain) > 1:
        boxes.append(version_box(chain[-1], "run", "parent"))
    return boxes


def version_box(each: Ancestor, to: str, key: str = "anchor") -> Box:
    return Box(key, "version", each.version, (KINDS[each.kind], digest(each.weights_sha256)), 1, (to,))


def run(verdicts: list[VerdictView], runs: list[Attempt]) -> Box:
    """The run that published, what was tried before it, and how many runs came to nothing."""
    *tried, verdict = verdicts
    said = []
    if tried:
        said.append("after " + ", ".join(f"{each.rung} ({each.decision})" for each in tried))
    if runs:
        others = len(runs) - 1
        said.append(f"run {runs[-1].epoch} by {runs[-1].worker}" + (f", after {others} more" if others else ""))
    return Box("run", "run", f"rung {verdict.rung}", tuple(said), None, ("verdict",))


def judged(verdict: VerdictView) -> Box:
    return Box(
        "verdict",
        "verdict",
        f"verdict: {verdict.decision}",
        (f"on {digest(verdict.weights_sha256)}",),
        None,
        ("bytes",),
    )


def published(view: VersionView) -> Box:
    said = (f"weights {digest(view.weights_sha256)}", f"{view.weights_bytes:,} bytes".replace(",", "\u202f"))
    return Box("bytes", "bytes", view.version, said)


def counted(samples: int) -> str:
    return "1 sample" if samples == 1 else f"{samples} samples"


def digest(sha256: str) -> str:
    """Enough of it to tell it from others; the tables have the whole."""
    return f"{sha256[:12]}…"
