"""The report on paper: what a reviewer files. The page has more figures; the JSON has everything."""

from datetime import UTC, datetime

from app.evidence import Report
from app.evidence.document import Document


def moment(when: datetime | None) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if when is not None else "–"


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
    paper.heading("MU and UE")
    rows = [
        [
            each.name.upper(),
            f"{each.estimate:+.3f} [{each.low:+.3f}, {each.high:+.3f}]",
            f"±{each.threshold:g}" if each.threshold is not None else "–",
            each.standing or "–",
            f"±{each.noise_floor:.3f}" if each.noise_floor is not None else "not measured",
            f"{each.n} {each.of}, {each.estimator}",
        ]
        for each in found
    ]
    heads = ["", "estimate and interval", "threshold", "the interval", "noise floor", "of"]
    paper.table(heads, rows, [0.07, 0.27, 0.12, 0.13, 0.14, 0.27])
    paper.prose(*(f"{each.name.upper()}: {each.assumption}" for each in found))


def attempts(paper: Document, report: Report) -> None:
    paper.heading("Attempts at a verdict")
    rows = [
        [each.rung, each.decision, moment(each.at), "; ".join(each.reasons)] for each in report.attempts_at_a_verdict
    ]
    paper.table(["rung", "decision", "at", "reasons"], rows, [0.15, 0.13, 0.22, 0.5])


def lineage(paper: Document, report: Report) -> None:
    paper.heading("Tickets that this version answers")
    rows = [
        [
            str(each.ticket),
            each.reason.replace("_", " "),
            str(each.samples),
            moment(each.received_at),
            moment(each.fulfilled_at),
        ]
        for each in report.lineage.tickets
    ]
    if rows:
        paper.table(["ticket", "reason", "samples", "received", "fulfilled"], rows, [0.34, 0.18, 0.08, 0.2, 0.2])
    else:
        paper.prose("None.")
    paper.heading("Where the weights come from")
    parents = [
        [each.version, each.kind, moment(each.published_at), str(each.forgotten), each.weights_sha256[:16] + "…"]
        for each in report.lineage.parents
    ]
    if parents:
        paper.table(
            ["version", "kind", "published", "forgot", "weights (SHA-256)"], parents, [0.28, 0.14, 0.24, 0.1, 0.24]
        )
    else:
        paper.prose("It is the first version: its weights were trained from the beginning.")
