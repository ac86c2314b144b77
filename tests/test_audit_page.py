"""The audit page: every kind of version, every number, no script, no inline style, nothing unescaped."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
from starlette.requests import Request
from typing_extensions import override

from app import evidence, pages, policy
from app.evidence import Report
from app.evidence.copies import Copy
from app.evidence.drawn import Drawn
from app.evidence.origin import Ancestor, Attempt, Budget, Lineage, RecordsKept, TicketLine
from app.evidence.validation import BankUsed, Calibration, Retrains, Simulated, Validation, as_judged
from app.evidence.words import answers
from app.policy import PolicyBody
from app.schemas import VerdictView, VersionView
from app.tables import Decision, Reason, RiskTier, VersionKind

START = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
BATCH = UUID("5f0c6c1e-7d3b-4a55-9b1e-0d6a1f6f8a01")
HOSTILE = '"><script>alert(\'x\')</script><b style="color:red">&amp;'
FAIR = "assumes D_f is a fair draw within its classes"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def figure(name: str, estimate: float, low: float, high: float, n: int, estimator: str = "holdout") -> dict[str, Any]:
    fields = {"name": name, "estimate": estimate, "low": low, "high": high, "level": 0.9, "n": n}
    return fields | {"estimator": estimator, "interval": "Newcombe hybrid score", "note": f"{name}; {FAIR}"}


def figures(ue: float = 0.021) -> dict[str, Any]:
    """As the database gives them back: in no order that means anything."""
    made = [
        figure("ue", ue, ue - 0.061, ue + 0.058, 100),
        figure("mu", -0.0043, -0.0121, 0.0038, 1201, "paired with the parent"),
        figure("recall", 0.7731, 0.6902, 0.8401, 100, "observed"),
        figure("accuracy", 0.9652, 0.9551, 0.9729, 1201, "observed"),
        figure("exposure", 0.0182, -0.0354, 0.0719, 100),
        figure("residual", -0.0511, -0.0917, -0.0105, 100),
        figure("attack_fpr", 0.5512, 0.4988, 0.6026, 301, "share of unseen samples called member"),
        figure("attack_tpr", 0.9405, 0.9118, 0.9611, 402, "share of retained samples called member"),
        figure("worst_class", -0.0417, -0.1193, 0.0359, 121, "paired with the parent"),
        figure("holdout_shift", -0.0266, -0.0513, -0.0019, 301, "paired with the parent"),
        figure("accuracy_before", 0.9694, 0.9599, 0.9767, 1201, "observed"),
        figure("exposure_before", 0.1387, 0.0871, 0.1903, 100),
        figure("attack_threshold", 0.03471, 0.03471, 0.03471, 803, "fit") | {"interval": "none"},
    ]
    return {statistic["name"]: statistic for statistic in made}


def full() -> dict[str, Any]:
    """Every statistic of this release, of a verdict that leant on a reference bank."""
    made = [
        figure("mu", -0.0043, -0.0151, 0.0068, 1201, "paired with the parent")
        | {"interval": "Bonett-Price, paired, and the noise of two trainings, added in squares"},
        figure("ue", 0.021, -0.061, 0.103, 100, "bank"),
        figure("ue_bank", 0.021, -0.061, 0.103, 100, "bank"),
        figure("ue_holdout", 0.0345, -0.0721, 0.1411, 100),
        figure("ue_before", 0.2112, 0.1281, 0.2943, 100, "bank"),
        figure("forgetting", -0.1902, -0.2611, -0.1193, 100, "paired with the parent"),
        figure("exposure_change", -0.1205, -0.1713, -0.0697, 100, "bank"),
        figure("overshoot", 0.0876, 0.0311, 0.1441, 100, "bank"),
        figure("members_before", 0.07, 0.0371, 0.1283, 100, "bank"),
        figure("members", 0.0, 0.0, 0.0263, 100, "bank"),
        figure("strangers", 0.0, 0.0, 0.0263, 100, "bank"),
        figure("fair_draw", -0.0213, -0.0712, 0.0286, 100, "class-matched AUC of hardness, minus one half"),
        figure("support", 0.97, 0.9271, 0.9881, 100, "bank"),
        figure("kin", 0.0912, 0.0531, 0.1521, 100, "bank"),
        figure("reference_shift", 0.0121, -0.0212, 0.0454, 8, "bank"),
        figure("cumulative_mu", -0.0071, -0.0163, 0.0021, 1201, "paired with the last training"),
        figure("neighbours", 0.0031, -0.0112, 0.0174, 100),
        figure("nll", 0.0124, -0.0061, 0.0309, 1201, "paired with the parent"),
        figure("ece_before", 0.0211, 0.0132, 0.0291, 1201, "binned"),
        figure("ece", 0.0243, 0.0161, 0.0325, 1201, "binned"),
        figure("churn", 0.0316, 0.0243, 0.0411, 1201, "paired with the parent"),
        figure("macro_accuracy", -0.0039, -0.0127, 0.0049, 1201, "paired with the parent"),
    ]
    powers = {
        "loss": (0.6387, 0.5182),
        "network": (0.6211, 0.5121),
        "distance": (0.5813, 0.5092),
        "reference": (0.7121, 0.5311),
    }
    for attack, (before, after) in powers.items():
        for suffix, auc in (("_before", before), ("", after)):
            made.append(figure(f"auc_{attack}{suffix}", auc, auc - 0.0517, auc + 0.0511, 100))
            made.append(figure(f"recall_{attack}_fpr5{suffix}", auc - 0.4413, auc - 0.4919, auc - 0.3711, 100))
            made.append(figure(f"recall_{attack}_fpr1{suffix}", auc - 0.4917, auc - 0.5011, auc - 0.4313, 100))
    made += [
        figure(f"paper_{name}", 0.7512, 0.6718, 0.8169, 100)
        for name in ("recall_before", "fpr_before", "recall", "fpr")
    ]
    return figures() | {statistic["name"]: statistic for statistic in made}


def small(n: int = 3) -> dict[str, Any]:
    """Statistics of a set that is too small for a rate."""
    found = full()
    for name in ("ue", "ue_before", "forgetting", "members", "members_before", "strangers"):
        found[name] = found[name] | {"n": n}
    for name, listed in (("members_before", "0.002, 0.011, 0.213"), ("members", "0.184, 0.411, 0.902")):
        found[name] |= {"note": f"share of D_f that stands out; p, ascending: {listed}"}
    return found


BANK: dict[str, Any] = {
    "sha256": sha("bank"),
    "references": 8,
    "samples": 1098,
    "accuracy_sd": 0.0041,
    "noise_floor": {"level": 0.95, "mu": 0.0137, "ue": 0.0611},
    "calibration": [
        {"size": 50, "tickets": 160, "covered": 154, "nominal": 0.95, "stretch": 1.07},
        {"size": 100, "tickets": 160, "covered": 151, "nominal": 0.95, "stretch": 1.12},
    ],
    "bytes": 19_840,
}


def trial(eta: float, exposure: float | None) -> dict[str, Any]:
    return {"eta": eta, "exposure": exposure, "accuracy": 0.9641, "within_budget": exposure is not None}


METHOD: dict[str, Any] = {
    "method": "iau",
    "settings": {"variant": "ia+gc", "weights": "means", "step": "sgd", "eta": None, "eta_max": 10.0},
    "eta": 0.284127341,
    "within_budget": True,
    "search": [trial(0.25, 0.0614), trial(0.5, None), trial(0.284127341, 0.0119)],
    "update_norm": 0.7713,
    "parent_norm": 21.402,
    "forget_count": 100,
    "retain_count": 1098,
    "forget_sha256": sha("forget"),
}
ENVIRONMENT: dict[str, Any] = {
    "expunge": "0.1.0",
    "torch": "2.13.0",
    "device": "cpu",
    "threads": 2,
    "seed": 7,
    "recipe": {"optimizer": "adam", "learning_rate": 0.001, "epochs": 40, "batch_size": 64, "patience": None},
    "split": "expunge/tune-audit/1",
}


def verdict(
    decision: Decision = Decision.PUBLISH, rung: str = "iau", minutes: float = 3, **changes: Any
) -> VerdictView:
    fields: dict[str, Any] = {
        "rung": rung,
        "decision": decision,
        "reasons": ["MU [-0.012, +0.004] against ±0.03: the whole interval is within", "worst class loses 0.042"],
        "method": METHOD,
        "statistics": figures(),
        "thresholds": PolicyBody().thresholds.model_dump(),
        "seconds": {"update": 0.412, "validate": 0.133, "gradients_of_the_rest": 0.021},
        "weights_sha256": sha(f"{rung} {decision} {minutes}"),
        "truth": None,
        "at": at(minutes),
    }
    return VerdictView(**fields | changes)


def version(kind: VersionKind, number: int, verdict: VerdictView, **changes: Any) -> VersionView:
    name = f"lenet-v{number}"
    fields: dict[str, Any] = {
        "version": name,
        "model": "lenet",
        "kind": kind,
        "parent": f"lenet-v{number - 1}" if number > 1 else None,
        "weights_sha256": verdict.weights_sha256,
        "weights_bytes": 247_224,
        "published_at": at(4),
        "superseded_at": None,
        "weights_purged_at": None,
        "records_bytes": None,
        "current": True,
        "audit": f"/models/{name}/audit",
        "weights": f"/models/{name}/weights",
    }
    return VersionView(**fields | changes)


def ticket(number: int, **changes: Any) -> TicketLine:
    fields: dict[str, Any] = {
        "ticket": UUID(int=0x7C9E6679_7425_40DE_944B_E07FC1F90AE0 + number),
        "reason": Reason.ERASURE_REQUEST,
        "risk_tier": RiskTier.STANDARD,
        "samples": 60 + number,
        "received_at": at(number - 30),
        "data_removed_at": at(number - 30),
        "fulfilled_at": at(4),
        "data_releasable_at": None,
    }
    return TicketLine(**fields | changes)


def ancestor(number: int, kind: VersionKind) -> Ancestor:
    name = f"lenet-v{number}"
    return Ancestor(
        version=name,
        kind=kind,
        weights_sha256=sha(name),
        published_at=at(number * 10 - 100),
        forgotten=0 if number == 1 else 36,
        audit=f"/models/{name}/audit",
    )


def lineage(tickets: list[TicketLine], parents: list[Ancestor], **changes: Any) -> Lineage:
    fields: dict[str, Any] = {
        "dataset": "digits",
        "problem": "digits",
        "samples_in_manifest": 1198,
        "manifest_sha256": sha("manifest"),
        "samples_excluded": 136,
        "excluded_ordinals_sha256": sha("excluded"),
        "forgotten_by_this_version": 123,
        "tickets": tickets,
        "parents": parents,
    }
    return Lineage(**fields | changes)


def event(seq: int, kind: str, **data: Any) -> dict[str, Any]:
    body = {"seq": seq, "at": at(seq - 40).isoformat(), "kind": kind, "actor": "expunge", "ticket": None}
    return body | {"batch": str(BATCH), "model": 1, "data": data}


TIMELINE = [
    event(41, "batch.closed", batch_kind="unlearn", trigger="flush", tickets=[str(ticket(1).ticket)], policy=3),
    event(42, "run.claimed", epoch=1, attempt=1),
    event(43, "verdict.recorded", verdict=17, decision="publish", weights=sha("v3"), reasons=["one", "two"]),
    event(44, "version.published", version="lenet-v3", tickets=[]),
]


def copies() -> list[Copy]:
    return [
        Copy(what="weights of lenet-v2", state="there", at=at(43_204), says="They learnt from the samples."),
        Copy(what="weights of lenet-v1", state="gone", at=at(-60), says="They were purged."),
        Copy(what="back-ups of this service", state="unknown", at=None, says="Outside this service's knowledge."),
    ]


def calibration(judged: VerdictView) -> Calibration:
    """As the service puts it together from the verdict and the tables."""
    facts = judged.method.get("bank")
    bank = None
    if facts is not None:
        floor = facts["noise_floor"]
        bank = BankUsed(
            sha256=facts["sha256"],
            references=facts["references"],
            samples=facts["samples"],
            ready_at=at(-90),
            noise_floor_mu=floor["mu"],
            noise_floor_ue=floor["ue"],
            noise_floor_level=floor["level"],
            simulated=[Simulated.model_validate(row) for row in facts["calibration"]],
        )
    retrains = [Retrains(name=name, covered=11, count=12, nominal=0.94) for name in ("mu", "ue")]
    return Calibration(bank=bank, retrains=retrains, stopped=None)


def explained(made: dict[str, Any]) -> dict[str, Any]:
    """The sections that follow from the others."""
    view, judged, rules = made["version"], made["verdict"], made["policy"]
    body = PolicyBody.model_validate(rules) if set(rules) == set(PolicyBody.model_fields) else PolicyBody()
    parts = as_judged(view.kind, made["lineage"].forgotten_by_this_version, body, judged, made["attempts_at_a_verdict"])
    found = Validation(
        **parts.model_dump(),
        expected_false=made["drift"].expectation,
        calibration=calibration(judged),
        copies=copies() if made["lineage"].parents else [],
    )
    said = answers(view, made["lineage"], judged, made["why"], made["drift"], found)
    return {"validation": found, "answers": said}


def report(view: VersionView, judged: VerdictView, **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "version": view,
        "summary": "lenet-v3 is an approximate update for 123 samples that passed its policy's tests: estimated MU -0.004 "
        "[-0.012, +0.004] within ±0.03, estimated UE +0.021 [-0.040, +0.079] within ±0.15.",
        "lineage": lineage(
            [ticket(1), ticket(2)], [ancestor(2, VersionKind.UNLEARNED), ancestor(1, VersionKind.TRAINED)]
        ),
        "batch": BATCH,
        "why": "closed by flush",
        "policy": PolicyBody().model_dump(mode="json"),
        "verdict": judged,
        "attempts_at_a_verdict": [judged],
        "runs": [
            Attempt(epoch=1, worker="node-a:311", started_at=at(0), finished_at=None, outcome=None, detail=None),
            Attempt(
                epoch=2,
                worker="node-b:87",
                started_at=at(1),
                finished_at=at(4),
                outcome="published",
                detail="lenet-v3",
            ),
        ],
        "drift": Budget(
            live_samples=1198,
            forgotten=159,
            updates=2,
            days=3.25,
            false_publishes=0.1,
            limits=PolicyBody().drift.model_dump(mode="json"),
        ),
        "environment": ENVIRONMENT,
        "not_promised": list(evidence.LIMITS_OF_AN_UPDATE),
        "timeline": TIMELINE,
    }
    made = fields | changes
    return Report(**explained(made) | made)


def unlearned() -> Report:
    """An approximate update, and what a later retrain showed."""
    truth = {"mu": -0.0061, "estimated_mu": -0.0043, "estimated_ue": 0.021, "retrained_accuracy": 0.9713}
    judged = verdict(truth=truth | {"ue": 0.0348, "retrained_recall": 0.7383})
    return report(version(VersionKind.UNLEARNED, 3, judged), judged)


def banked() -> Report:
    """An approximate update of this release: every statistic, a reference bank behind it, its second attempt."""
    thresholds = PolicyBody().thresholds.model_dump()
    first = verdict(
        Decision.INCONCLUSIVE,
        minutes=2,
        statistics=full(),
        reasons=["UE [-0.061, +0.183] against ±0.15: the interval crosses the threshold"],
        thresholds=thresholds | {"attempt": 1, "attempt_error": 0.03},
    )
    judged = verdict(
        rung="iau-calibrated",
        statistics=full(),
        method=METHOD | {"method": "iau-calibrated", "bank": BANK},
        reasons=[
            "MU [-0.015, +0.007] against ±0.03: the whole interval is within",
            "UE [-0.061, +0.103] against ±0.15: the whole interval is within",
        ],
        thresholds=thresholds | {"attempt": 2, "attempt_error": 0.02},
    )
    return report(version(VersionKind.UNLEARNED, 3, judged), judged, attempts_at_a_verdict=[first, judged])


def of_few() -> Report:
    """An approximate update for three samples: no rate is claimed."""
    judged = verdict(statistics=small(), method=METHOD | {"bank": BANK})
    return report(
        version(VersionKind.UNLEARNED, 3, judged),
        judged,
        lineage=lineage([ticket(1, samples=3)], [ancestor(1, VersionKind.TRAINED)], forgotten_by_this_version=3),
    )


def trained() -> Report:
    """A first version: one statistic, no ticket, no parent."""
    judged = verdict(
        rung="retrain",
        reasons=["first training: test accuracy 0.969"],
        method={"method": "retrain", "epochs": 40, "samples": 1198},
        statistics={"accuracy": figure("accuracy", 0.9694, 0.9599, 0.9767, 1201)},
        seconds={"train": 9.81, "validate": 0.05},
    )
    view = version(VersionKind.TRAINED, 1, judged, current=False, superseded_at=at(50), weights_purged_at=at(90))
    return report(
        view,
        judged,
        summary="lenet-v1 is the model's first version, trained on all 48000 samples of its manifest.",
        lineage=lineage([], [], samples_excluded=0, forgotten_by_this_version=0),
        why="the model was registered",
        runs=[],
        drift=Budget(
            live_samples=1198,
            forgotten=0,
            updates=0,
            days=0.0,
            false_publishes=0.0,
            limits=PolicyBody().drift.model_dump(),
        ),
        not_promised=list(evidence.LIMITS_OF_A_RETRAIN),
        timeline=[],
    )


def retrained() -> Report:
    """A retrain that an approximate update led to: the failed attempt shows with all its figures."""
    failed = verdict(
        Decision.ESCALATE,
        minutes=2,
        statistics=figures(ue=0.312),
        reasons=["UE [+0.251, +0.370] against ±0.15: wholly above, members still stand out"],
        truth={
            "mu": -0.0022,
            "estimated_mu": -0.0043,
            "estimated_ue": 0.312,
            "ue": None,
            "why_no_ue": "gone (OSError)",
        },
    )
    accuracies = {name: figures()[name] for name in ("accuracy", "accuracy_before")}
    judged = verdict(rung="retrain", minutes=9, statistics=accuracies, method={"method": "retrain", "epochs": 40})
    return report(
        version(VersionKind.RETRAINED, 4, judged),
        judged,
        summary="lenet-v4 was retrained from its initial weights on 47864 samples of the manifest's 48000.",
        attempts_at_a_verdict=[failed, judged],
        not_promised=list(evidence.LIMITS_OF_A_RETRAIN),
    )


def recorded(*, kept: bool = True) -> Report:
    """An approximate update of a model whose training left records."""
    records = RecordsKept(
        kept=kept,
        sha256=sha("records"),
        bytes=815_112_640,
        of="lenet-v1",
        quoted_bytes=817_204_224,
        parts=["initial", "membership", "journal"],
        epochs=30,
        steps=1890,
        journal_steps=1801,
        lost_steps=89,
        undone_steps=0,
        purged_samples=3,
    )
    return report(version(VersionKind.UNLEARNED, 3, verdict()), verdict(), records=records)


def spread(quantity: str, edges: list[float], n_f: int, n_h: int, seed: int | None = None) -> dict[str, Any]:
    """One quantity in bins, every count another."""
    bins = len(edges) + 1

    def binned(total: int, shift: int) -> dict[str, Any]:
        counts = [(k * 7 + shift) % 11 for k in range(bins)]
        shares = [round(count / sum(counts), 6) for count in counts]
        return {"counts": counts, "shares": shares, "mean": 0.1173 + shift / 100}

    parts = {name: binned(n_f, k) for k, name in enumerate(("forget_before", "forget_after"))}
    parts |= {name: binned(n_h, 4 + k) for k, name in enumerate(("unseen_before", "unseen_after"))}
    return {"quantity": quantity, "edges": edges, "n_f": n_f, "n_h": n_h, "seed": seed} | parts


def curves(attack: str, n_f: int) -> dict[str, Any]:
    rates = [0.0, 0.01, 0.05, 0.25, 0.5, 1.0]
    made = {"before": [0.02, 0.113, 0.257, 0.571, 0.803, 1.0], "after": [0.0, 0.021, 0.067, 0.268, 0.521, 1.0]}
    return {"attack": attack, "rates": rates, **made, "auc_before": 0.639, "auc_after": 0.518, "n_f": n_f, "n_h": 301}


def drawn(**changes: Any) -> Drawn:
    """As the worker draws it for an image model."""
    cells = ["00123456", "00000000", "98765432"] * 2 + ["00000000"] * 2
    shown = [{"label": label, "before": cells, "after": cells[::-1], "distance": 0.0517 + label} for label in (0, 3)]
    fields: dict[str, Any] = {
        "n_f": 123,
        "coarse": False,
        "withheld": None,
        "source": "holdout",
        "confidence": spread("probability", [0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.99999], 123, 301),
        "roc": [curves("loss", 123), curves("network", 87)],
        "classes": {
            "labels": [0, 1, 7],
            "n": [31, 28, 19],
            "before": [30, 26, 18],
            "after": [29, 27, 17],
            "left_out": 0,
        },
        "norms": spread("gradient norm", [1e-8, 3.162e-5, 0.1, 31.62], 64, 64, seed=5),
        "why_no_norms": None,
        "maps": {
            "layer": "conv2",
            "n": 64,
            "seed": 5,
            "distance": 0.0611,
            "empty_before": 0.0156,
            "empty_after": 0.0312,
            "shown": shown,
        },
        "why_no_maps": None,
    }
    return Drawn.model_validate(fields | changes)


def figured() -> Report:
    """An approximate update with everything that is drawn of it."""
    judged = verdict()
    return report(version(VersionKind.UNLEARNED, 3, judged), judged, figures=drawn())


def figured_training() -> Report:
    """A retrain, of which the classes are drawn alone."""
    made = retrained()
    made.figures = Drawn.model_validate({"classes": drawn().model_dump()["classes"]})
    return made


KINDS = {
    "figured": figured,
    "figured_training": figured_training,
    "unlearned": unlearned,
    "banked": banked,
    "of_few": of_few,
    "trained": trained,
    "retrained": retrained,
    "recorded": recorded,
}


def render(made: Report) -> str:
    return pages.templates.env.get_template("audit.html").render(report=made)


class Page(HTMLParser):
    """What a browser would make of the page."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(html)
        assert self.open == [], "every element is closed"

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> names an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]  # there is one here
            self.open.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> Report:
    return KINDS[request.param]()


def test_page_keeps_its_content_policy(made: Report) -> None:
    page = Page(render(made))
    for tag, attributes in page.tags:
        assert tag not in {"script", "style", "iframe", "object", "form", "img"}
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href"):
            assert re.match(r"(\.\./\.\./|#)", attributes.get(name) or "#"), "nothing but our own addresses"
    assert [link["href"] for link in page.all("link")] == ["../../static/expunge.css", "../../static/figures.css"]


def test_render_sends_the_policy() -> None:
    request = Request({"type": "http", "method": "GET", "path": "/models/lenet-v3/audit", "headers": []})
    response = pages.render(request, "audit.html", {"report": unlearned()}, {"Vary": "Accept"})
    assert response.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert b"lenet-v3" in bytes(response.body)


def test_page_can_be_read_aloud(made: Report) -> None:
    page = Page(render(made))
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("main", "h1", "header", "footer")] == [1, 1, 1, 1]
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(identities)) == len(identities)
    for attributes in page.all("section"):
        assert attributes["aria-labelledby"] in identities
    for attributes in page.all("a"):
        assert (attributes["href"] or "").removeprefix("#") in identities or not (attributes["href"] or "").startswith(
            "#"
        )
    assert all("scope" in attributes for attributes in page.all("th"))
    assert all(a.get("role") == "img" and a["aria-label"] for a in page.all("svg"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_on_the_page(kind: str) -> None:
    made = KINDS[kind]()
    text = Page(render(made)).text
    for number in numbers(made.model_dump(mode="json")):
        assert any(form in text for form in forms(number)), number
    for attempt in made.attempts_at_a_verdict:
        for name, statistic in attempt.statistics.items():
            for part in ("estimate", "low", "high"):
                value = statistic[part]
                assert {f"{value:+.3f}", f"{value:.3f}", f"{value:.4g}"} & set(re.split(r"[\s\[\],]+", text)), name
            assert statistic["note"] in text
            assert statistic["estimator"] in text
    for sentence in [made.summary, *made.not_promised, *made.verdict.reasons]:
        assert sentence in text


def numbers(value: Any) -> list[float]:
    """All numbers in a JSON value, however deep; a level of confidence is shown in percent."""
    if isinstance(value, dict):
        return [n for key, v in value.items() if key != "level" for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def forms(number: float) -> list[str]:
    return [str(number), f"{number:+.3f}", f"{number:.3f}", f"{number:.6g}", f"{number:.4g}", f"{number:.2f} s"]


def test_digests_and_times_are_whole(made: Report) -> None:
    text = Page(render(made)).text
    lines = made.lineage
    for digest in (lines.manifest_sha256, lines.excluded_ordinals_sha256, made.version.weights_sha256, str(made.batch)):
        assert digest in text
    for line in lines.tickets:
        assert str(line.ticket) in text
        assert pages.moment(line.received_at) in text
    for parent in lines.parents:
        assert {"href": f"../../models/{parent.version}/audit"} in Page(render(made)).all("a")


def test_truth_stands_beside_its_estimate() -> None:
    text = Page(render(unlearned())).text
    assert "UE +0.021 [-0.040, +0.079] +0.035 +0.014 yes" in text
    assert "MU -0.004 [-0.012, +0.004] -0.006 -0.002 yes" in text
    assert "Truth against estimate" not in Page(render(trained())).text


def test_what_could_not_be_measured_says_why() -> None:
    assert "gone (OSError)" in Page(render(retrained())).text


def test_a_published_version_shows_the_attempts_that_failed() -> None:
    text = Page(render(retrained())).text
    assert "1. iau: escalate" in text
    assert "2. retrain: publish" in text
    assert "wholly above, members still stand out" in text


def test_an_accepted_exception_is_named() -> None:
    """The policy let something pass that the plots show as not met."""
    undetectable = {name: figure(name, 0.01, -0.04, 0.06, 100) for name in ("exposure_before", "ue_before")}
    hidden = figures() | undetectable
    judged = verdict(statistics=hidden)
    view = version(VersionKind.UNLEARNED, 3, judged)
    sentence = "did not stand out before the update, and the policy accepts that"
    for accepts in (True, False):
        rules = PolicyBody(accept_undetectable=accepts).model_dump(mode="json")
        assert (sentence in Page(render(report(view, judged, policy=rules))).text) == accepts


def test_bytes_that_were_not_judged_stand_out() -> None:
    made = unlearned()
    made.version.weights_sha256 = sha("other")
    assert "NOT the published bytes" in Page(render(made)).text


def test_records_have_their_section_where_there_are_some() -> None:
    page, gone, without = render(recorded()), render(recorded(kept=False)), render(unlearned())
    for shown in (page, gone):
        assert 'href="#records"' in shown
        assert sha("records") in shown
        assert "1801" in shown
    assert "kept until it was superseded" in gone
    assert "kept until it was superseded" not in page
    assert 'id="records"' not in without
    assert 'href="#records"' not in without


def test_hostile_text_is_text() -> None:
    judged = verdict(
        reasons=[HOSTILE],
        method={HOSTILE: HOSTILE, "list": [HOSTILE], "rows": [{HOSTILE: HOSTILE}]},
        statistics=figures() | {HOSTILE: figure(HOSTILE, 0.1, 0.0, 0.2, 5, HOSTILE)},
        seconds={HOSTILE: 1.0},
    )
    made = report(
        version(VersionKind.UNLEARNED, 3, judged, model=HOSTILE, parent=HOSTILE),
        judged,
        summary=HOSTILE,
        why=HOSTILE,
        lineage=lineage([ticket(1)], [], dataset=HOSTILE, problem=HOSTILE),
        environment={HOSTILE: [HOSTILE]},
        not_promised=[HOSTILE],
        timeline=[event(41, HOSTILE, why=HOSTILE) | {"actor": HOSTILE}],
        policy={HOSTILE: {HOSTILE: HOSTILE}},
        runs=[Attempt(epoch=1, worker=HOSTILE, started_at=at(0), finished_at=None, outcome=HOSTILE, detail=HOSTILE)],
    )
    page = Page(render(made))
    assert not page.all("script")
    assert not page.all("b")
    assert not [a for _, a in page.tags if "style" in a]
    assert page.text.count("alert('x')") >= 20


@pytest.mark.parametrize(
    "changes",
    [
        {"statistics": {}, "seconds": {}, "method": {}, "reasons": []},
        {"statistics": {"mu": {"estimate": 0.0, "low": 0.0, "high": 0.0, "n": 1, "estimator": "none"}}},
        {"thresholds": {}},
        {"truth": {"mu": 0.01, "ue": None}},
    ],
)
def test_what_is_missing_is_no_error(changes: dict[str, Any]) -> None:
    judged = verdict(**changes)
    empty = Budget(live_samples=0, forgotten=0, updates=0, days=0.0, false_publishes=0.0, limits={})
    view = version(VersionKind.UNLEARNED, 3, judged)
    Page(
        render(report(view, judged, drift=empty, policy={}, environment={}, not_promised=[], attempts_at_a_verdict=[]))
    )


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [
        (-0.01, 0.02, "ok"),
        (-0.03, 0.03, "ok"),
        (0.02, 0.05, "crosses"),
        (0.04, 0.06, "beyond"),
        (-0.05, 0.0, "crosses"),
        (-0.06, -0.04, "beyond"),
    ],
)
def test_the_page_judges_mu_as_the_policy_does(low: float, high: float, state: str) -> None:
    found = policy.within("MU", {"low": low, "high": high}, 0.03, "", "")
    assert {"ok": "publish", "crosses": "inconclusive", "beyond": "escalate"}[state] == found.decision
    judged = verdict(statistics={"mu": figure("mu", (low + high) / 2, low, high, 100)})
    page = Page(render(report(version(VersionKind.UNLEARNED, 3, judged), judged)))
    plots = [a["class"] for a in page.all("svg") if a["class"] != "plot overview"]
    assert plots[0] == f"plot {state}"
    assert [a["class"] for a in page.all("g")] == [state]


def test_plots_stay_in_their_frame(made: Report) -> None:
    width = height = 0.0
    for tag, attributes in Page(render(made)).tags:
        if tag == "svg":
            width, height = (float(side) for side in (attributes["viewbox"] or "").split()[2:])
            assert (attributes["width"], attributes["height"]) == (f"{width:g}", f"{height:g}")
        for name, most in {
            "x": width,
            "x1": width,
            "x2": width,
            "cx": width,
            "y": height,
            "y1": height,
            "cy": height,
        }.items():
            assert 0 <= float(attributes.get(name) or 0) <= most, (tag, attributes)


@pytest.mark.parametrize("name", ["expunge.css", "figures.css"])
def test_stylesheet_loads_nothing_from_elsewhere(name: str) -> None:
    css = (pages.STATIC / name).read_text()
    assert "url(" not in css
    assert "@import" not in css
    assert "prefers-color-scheme: dark" in css
    assert "@media print" in css


def section(html: str, identity: str) -> str:
    """One section of the page, as it is written."""
    found = re.search(rf'<section id="{identity}".*?</section>', html, flags=re.DOTALL)
    return found[0] if found else ""


def test_every_chart_says_what_it_shows_and_has_its_numbers_in_a_table() -> None:
    html = render(figured())
    charts = re.findall(r'<svg class="chart (\w+)".*?</svg>', html, flags=re.DOTALL)
    assert charts == ["distribution"] * 2 + ["roc"] * 2 + ["distribution"] * 2 + ["map"] * 4 + ["classes", "flow"]
    for chart in re.findall(r'<svg class="chart .*?</svg>', html, flags=re.DOTALL):
        assert re.search(r"<title>[^<]+</title>\s*<desc>[^<]+</desc>", chart)
    drawn_in = section(html, "figures")
    assert len(re.findall("<details>", drawn_in)) == 5
    assert "seed 5" in drawn_in
    assert "301 unseen samples" in drawn_in
    assert "area 0.639" in drawn_in


def test_a_verdict_of_an_earlier_release_says_that_it_has_no_figures() -> None:
    html = render(unlearned())
    assert "recorded by an earlier release" in section(html, "figures")
    assert 'class="chart distribution"' not in html
    assert section(render(trained()), "figures") == "", "nothing was forgotten"


def test_too_few_samples_have_no_figures_and_the_page_says_why() -> None:
    made = figured()
    why = "3 samples of the forget set can be compared: below 10 no distribution and no curve is drawn"
    made.figures = drawn(withheld=why, confidence=None, roc=[], norms=None, why_no_norms=why, n_f=3, coarse=True)
    shown = section(render(made), "figures")
    assert shown.count(why) == 1
    assert "distribution" not in re.findall(r'<svg class="chart (\w+)"', shown)
    made.figures = drawn(coarse=True, n_f=23)
    assert "With 23 forgotten samples bins and curves are coarse" in section(render(made), "figures")


def test_what_could_not_be_looked_at_says_why() -> None:
    made = figured()
    made.figures = drawn(norms=None, why_no_norms="read is LSTM", maps=None, why_no_maps="MLP has no Conv2d layer")
    text = section(render(made), "figures")
    assert "Gradient norms: read is LSTM." in text
    assert "Activation maps: MLP has no Conv2d layer." in text


def test_a_training_shows_its_classes_without_a_comparison_where_there_is_none() -> None:
    made = trained()
    assert section(render(made), "utility") == ""
    classes = drawn().model_dump()["classes"] | {"before": None}
    made.figures = Drawn.model_validate({"classes": classes})
    shown = section(render(made), "utility")
    assert 'class="dot after"' in shown
    assert 'class="dot before"' not in shown


def test_downloads_lead_to_what_there_is() -> None:
    view, judged = version(VersionKind.UNLEARNED, 3, verdict()), verdict()
    html = section(render(report(view, judged)), "downloads")
    assert 'href="../../models/lenet-v3/audit?format=json"' in html
    assert 'href="../../models/lenet-v3/weights"' in html
    assert 'href="../../models/lenet-v3/compare?with=lenet-v2"' in html
    for gone in ("weights_purged_at", "weights_withdrawn_at"):
        view = version(VersionKind.UNLEARNED, 3, judged, **{gone: at(60)})
        assert "/weights" not in section(render(report(view, judged)), "downloads")


def test_the_lineage_is_drawn_from_tickets_to_bytes() -> None:
    html = section(render(figured()), "lineage")
    (drawing,) = re.findall(r'<svg class="chart flow".*?</svg>', html, flags=re.DOTALL)
    told = re.findall(r"<text[^>]*>([^<]+)</text>", drawing)
    for part in ("2 tickets", "123 samples", "lenet-v1", "lenet-v2", "rung iau", "verdict: publish", "lenet-v3"):
        assert part in told, part
    assert f"weights {figured().version.weights_sha256[:12]}…" in told
    assert drawing.count('class="arrowhead"') == 7
    first = section(render(trained()), "lineage")
    assert "data set digits" in first
    assert "ticket" not in re.findall(r'class="box (\w+)"', first)
