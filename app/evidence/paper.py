"""The report on paper: what a reviewer files. The page has more figures; the JSON has everything."""

from datetime import UTC, datetime

from app.evidence import Report
from app.evidence.document import Document, Interval


def moment(when: datetime | None) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if when is not None else "–"


def short(when: datetime | None) -> str:
    """For tables, whose heads name the zone."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if when is not None else "–"


def pdf(report: Report) -> bytes:
    version = report.version
    paper = Document(
        f"Audit of {version.version}",
        f"Expunge · audit of {version.version} · weights sha256:{version.weights_sha256[:16]}…",
    )
    paper.lead(report.summary)
    paper.pairs(
        [
            ("published", moment(version.published_at)),
            ("decision", f"{report.verdict.decision}, by the rung {report.verdict.rung}"),
            ("parent", version.parent or "none"),
            ("batch", f"{report.batch}: {report.why}"),
            ("weights (SHA-256)", version.weights_sha256),
            ("manifest (SHA-256)", report.lineage.manifest_sha256),
        ],
        code=frozenset({"weights (SHA-256)", "manifest (SHA-256)"}),
    )
    for answer in report.answers:
        begun = len(paper.flow)
        paper.heading(answer.question)
        paper.prose(*answer.answer)
        paper.together(begun)
    estimates(paper, report)
    attempts(paper, report)
    lineage(paper, report)
    paper.heading("What is not promised")
    paper.bullets([*report.not_promised, *report.validation.not_shown])
    return paper.bytes()


def estimates(paper: Document, report: Report) -> None:
    found = report.validation.estimates
    if not found:
        return
    begun = len(paper.flow)
    paper.heading("MU and UE")
    paper.intervals(
        [
            Interval(each.name.upper(), each.estimate, each.low, each.high, each.threshold, each.noise_floor)
            for each in found
        ]
    )
    rows = [
        [
            each.name.upper(),
            f"{each.estimate:+.3f} [{each.low:+.3f}, {each.high:+.3f}]",
            f"±{each.threshold:g}" if each.threshold is not None else "–",
            each.standing or "–",
            f"±{each.noise_floor:.3f}" if each.noise_floor is not None else "not measured",
            f"{each.n} {each.of}",
        ]
        for each in found
    ]
    heads = ["", "estimate and interval", "threshold", "the interval lies", "noise floor", "of"]
    paper.table(heads, rows, [0.07, 0.29, 0.13, 0.16, 0.15, 0.2])
    paper.prose("Pale: what the threshold allows. Grey: what two retrains differ by, where that was measured.")
    paper.together(begun)
    for each in found:
        paper.prose(f"{each.name.upper()}: {each.estimator} It rests on this: {each.assumption}")


def attempts(paper: Document, report: Report) -> None:
    paper.heading("Attempts at a verdict")
    rows = [
        [each.rung, each.decision, short(each.at), "; ".join(each.reasons)] for each in report.attempts_at_a_verdict
    ]
    paper.table(["rung", "decision", "at (UTC)", "reasons"], rows, [0.15, 0.13, 0.2, 0.52])


def lineage(paper: Document, report: Report) -> None:
    paper.heading("Tickets that this version answers")
    rows = [
        [
            str(each.ticket),
            each.reason.replace("_", " "),
            str(each.samples),
            short(each.received_at),
            short(each.fulfilled_at),
        ]
        for each in report.lineage.tickets
    ]
    if rows:
        paper.table(
            ["ticket", "reason", "samples", "received (UTC)", "fulfilled (UTC)"], rows, [0.38, 0.16, 0.1, 0.18, 0.18]
        )
    else:
        paper.prose("None.")
    paper.heading("Where the weights come from")
    parents = [
        [each.version, each.kind, short(each.published_at), str(each.forgotten), each.weights_sha256[:16] + "…"]
        for each in report.lineage.parents
    ]
    if parents:
        paper.table(
            ["version", "kind", "published (UTC)", "forgot", "weights (SHA-256)"],
            parents,
            [0.28, 0.14, 0.24, 0.1, 0.24],
        )
    else:
        paper.prose("It is the first version: its weights were trained from the beginning.")
