"""What a ticket's owner gets in hand: a receipt when it is accepted, a statement when it has ended.

Both are signed JSON; the PDF says the same in print, with the digest and the signature of the JSON. They claim what was done
and measured, and list what is not claimed: an approximate update has not been shown to leave no trace.
"""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import signing, versions, views
from app.errors import Conflict
from app.evidence import LIMITS_OF_A_RETRAIN, LIMITS_OF_AN_UPDATE
from app.evidence.document import Document
from app.evidence.figures import figures
from app.evidence.log import entry
from app.evidence.paper import moment
from app.tables import EXACT, Model, Obligation, ObligationState, Ticket, TicketState
from expunge.evidence import dsse

FORMAT = 1
RECEIPT = "application/vnd.expunge.receipt+json"
STATEMENT = "application/vnd.expunge.statement+json"
SCHEME = (
    "Merkle tree (RFC 9162) over the sorted SHA-256(nonce || kind || 0x00 || id) of all ids that the ticket named, where kind is"
    " 'sample' or 'subject' and nonce is HMAC-SHA-256(salt, kind || 0x00 || id)"
)
NOT_CLAIMED_YET = (
    "That any model has forgotten the samples: until a version without them is published, models that learnt from them serve.",
    "That copies outside this service are gone.",
)
STILL = {
    ObligationState.PENDING: "waits for its batch",
    ObligationState.BATCHED: "is being worked on",
    ObligationState.QUARANTINED: "waits for an operator",
}


def receipt(session: Session, ticket: Ticket) -> dict[str, Any]:
    """What was asked and when, as it was accepted, and how the ticket stands by now."""
    accepted = entry(session, ticket.id, "ticket.accepted")
    assert accepted is not None, "a ticket and its event are one commit"
    told = json.loads(accepted["body"])["data"]
    names = {
        row.id: row.name for row in session.execute(select(Model.id, Model.name).where(Model.id.in_(told["models"])))
    }
    return asked(ticket, told) | {
        "kind": "receipt",
        "models": [names[model] for model in told["models"]],
        "says": says_receipt(ticket, told),
        "not_claimed": list(NOT_CLAIMED_YET),
        "log": [accepted],
    }


def asked(ticket: Ticket, told: dict[str, Any]) -> dict[str, Any]:
    """What both papers say of the request itself."""
    return {
        "format": FORMAT,
        "issued_at": datetime.now(UTC).isoformat(),
        "state": ticket.state,
        "ticket": str(ticket.id),
        "client": ticket.client,
        "external_id": ticket.external_id,
        "dataset": ticket.dataset.name,
        "manifest_sha256": ticket.dataset.manifest_digest,
        "reason": ticket.reason,
        "risk_tier": ticket.risk_tier,
        "received_at": ticket.created_at.isoformat(),
        "deadline_at": ticket.deadline_at.isoformat() if ticket.deadline_at else None,
        "counts": {
            "accepted": ticket.accepted,
            "unknown": ticket.unknown,
            "already_forgotten": ticket.already_forgotten,
            "pending_elsewhere": ticket.pending_elsewhere,
        },
        "commitment": {
            "scheme": SCHEME,
            "root": told.get("commitment"),
            "salt": ticket.salt.hex() if ticket.salt is not None else None,
        },
    }


def says_receipt(ticket: Ticket, told: dict[str, Any]) -> list[str]:
    count = ticket.accepted + ticket.already_forgotten + ticket.pending_elsewhere
    models = len(told["models"])
    owing = f"{models} models owed" if models != 1 else "1 model owed"
    said = [
        f"The request to forget {count} samples of {ticket.dataset.name} was accepted at {moment(ticket.created_at)}.",
        "No training that begins after that reads them, for as long as the ticket stands.",
        f"{owing} a version without them then." if models else "No model of this service held them then.",
    ]
    if ticket.state is TicketState.CANCELLED:
        said.append(f"The ticket was taken back at {moment(ticket.closed_at)}: its samples may be trained on again.")
    if ticket.unknown:
        said.append(f"{ticket.unknown} of the ids stand in no manifest of that dataset and were counted, not kept.")
    return said


def statement(session: Session, ticket: Ticket) -> dict[str, Any]:
    """What was done to which models. Raises `Conflict` while the ticket has not ended."""
    if ticket.state not in (TicketState.FULFILLED, TicketState.CANCELLED):
        waits = ", ".join(
            f"{owed.model.name} {STILL[owed.state]}" for owed in ticket.obligations if owed.state in STILL
        )
        raise Conflict(f"The ticket is {ticket.state}: {waits}. Its statement can be had when it has ended.")
    accepted = entry(session, ticket.id, "ticket.accepted")
    ended = entry(session, ticket.id, f"ticket.{ticket.state}")
    assert accepted is not None
    assert ended is not None, "a ticket's end and its event are one commit"
    done = [model_line(owed) for owed in ticket.obligations]
    return asked(ticket, json.loads(accepted["body"])["data"]) | {
        "kind": "statement",
        "ended_at": ticket.closed_at.isoformat() if ticket.closed_at else None,
        "models": done,
        "facts": {
            "removed_from_training_at": ticket.data_removed_at.isoformat() if ticket.data_removed_at else None,
            "raw_data_releasable_at": ticket.data_releasable_at.isoformat() if ticket.data_releasable_at else None,
        },
        "says": says_statement(ticket, done),
        "not_claimed": not_claimed(ticket),
        "log": [accepted, ended],
    }


def model_line(owed: Obligation) -> dict[str, Any]:
    """What one model did about it."""
    version = owed.version
    line: dict[str, Any] = {"model": owed.model.name, "samples": owed.samples, "state": owed.state, "version": None}
    if version is None:
        return line
    verdict = views.verdict(version.verdict)
    return line | {
        "version": versions.name_of(version),
        "kind": version.kind,
        "exact": version.kind in EXACT,
        "published_at": version.published_at.isoformat(),
        "weights_sha256": version.weights_digest,
        "rung": verdict.rung,
        "measured": {
            found.name: {"estimate": found.estimate, "low": found.low, "high": found.high}
            for found in figures(verdict, "mu", "ue")
        },
        "thresholds": {name: verdict.thresholds[name] for name in ("mu", "ue") if name in verdict.thresholds},
        "audit": f"/models/{versions.name_of(version)}/audit",
    }


def says_statement(ticket: Ticket, done: list[dict[str, Any]]) -> list[str]:
    if ticket.state is TicketState.CANCELLED:
        return [f"The ticket was taken back at {moment(ticket.closed_at)}; nothing was unlearned for it."]
    said = [f"No training has read the samples since {moment(ticket.data_removed_at)}."]
    for line in done:
        if line["version"] is None:
            continue
        how = (
            "which was trained without the samples"
            if line["exact"]
            else "an approximate update that passed its policy's tests"
        )
        said.append(f"{line['model']}: {line['version']} was published at {spoken(line['published_at'])}, {how}.")
    if not done:
        said.append("No model of this service held the samples when the ticket came.")
    if ticket.data_releasable_at is not None:
        said.append(
            f"Nothing here needs the raw samples since {moment(ticket.data_releasable_at)}; their owner may destroy them."
        )
    return said


def not_claimed(ticket: Ticket) -> list[str]:
    if ticket.state is TicketState.CANCELLED:
        return ["That anything was forgotten."]
    kinds = {owed.version.kind in EXACT for owed in ticket.obligations if owed.version is not None}
    limits = [*(LIMITS_OF_AN_UPDATE if False in kinds else ()), *(LIMITS_OF_A_RETRAIN if True in kinds else ())]
    return limits or list(LIMITS_OF_A_RETRAIN[:1])


def signed(kind: str, paper: dict[str, Any]) -> dict[str, Any]:
    pair = signing.keys()
    return dsse.envelope(kind, dsse.canonical(paper), pair.public.fingerprint, pair.sign)


def pdf(paper: dict[str, Any], envelope: dict[str, Any]) -> bytes:
    """The paper in print, with what ties it to the signed JSON."""
    what = "Receipt" if paper["kind"] == "receipt" else "Statement"
    made = Document(f"{what} for a deletion request", f"Expunge · {what.lower()} for ticket {paper['ticket']}")
    made.prose(*paper["says"])
    made.pairs(
        [
            ("ticket", paper["ticket"]),
            ("your reference", paper["external_id"] or "–"),
            ("state", f"{paper['state']}, at {spoken(paper['issued_at'])}, when this was issued"),
            ("client", paper["client"]),
            ("dataset", paper["dataset"]),
            ("reason", paper["reason"].replace("_", " ")),
            ("received", spoken(paper["received_at"])),
            ("deadline", spoken(paper["deadline_at"])),
            ("counts", ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in paper["counts"].items())),
        ]
    )
    if paper["kind"] == "statement" and paper["models"]:
        made.heading("What was done")
        rows = [
            [line["model"], line["version"] or line["state"], how(line), str(line["samples"]), intervals(line)]
            for line in paper["models"]
        ]
        made.table(
            ["model", "version", "how", "samples", "measured, and held against"], rows, [0.2, 0.2, 0.18, 0.1, 0.32]
        )
    made.heading("What is not claimed")
    made.bullets(paper["not_claimed"])
    begun = len(made.flow)
    made.heading("How to check this")
    made.prose(
        "The signed record is the JSON of the same address; this page prints it. The log's events named below, and the paths"
        " that lead from them to a signed checkpoint, are in the JSON."
    )
    payload = base64.b64decode(envelope["payload"])
    made.pairs(
        [
            ("SHA-256 of the record", hashlib.sha256(payload).hexdigest()),
            ("signature (Ed25519)", envelope["signatures"][0]["sig"]),
            ("key (SHA-256)", envelope["signatures"][0]["keyid"]),
            ("events of the log", ", ".join(str(each["seq"]) for each in paper["log"])),
            ("commitment to the ids", paper["commitment"]["root"] or "none: the ticket is of an earlier release"),
        ],
        code=frozenset({"SHA-256 of the record", "signature (Ed25519)", "key (SHA-256)", "commitment to the ids"}),
    )
    made.together(begun)
    return made.bytes()


def spoken(written: str | None) -> str:
    """A time out of a paper's JSON, for people."""
    return moment(datetime.fromisoformat(written) if written else None)


def how(line: dict[str, Any]) -> str:
    return "–" if line["version"] is None else "exact" if line["exact"] else f"approximate ({line['rung']})"


def intervals(line: dict[str, Any]) -> str:
    shown = [
        f"{name.upper()} [{found['low']:+.3f}, {found['high']:+.3f}] against ±{line['thresholds'][name]:g}"
        for name, found in line.get("measured", {}).items()
        if name in line["thresholds"]
    ]
    return "; ".join(shown) or "–"
