"""The version as a CycloneDX 1.6 machine-learning bill of materials: what it is, from what, and how it did."""

import uuid
from importlib.metadata import version as installed
from typing import Any

from app.evidence import Report
from app.evidence.figures import Figure
from app.tables import VersionKind

SLICES = {"mu": "test", "accuracy": "test", "ue": "forget set", "recall": "forget set"}
"""The part of the data that each figure is of."""
TASK = "classification"


def bom(report: Report) -> dict[str, Any]:
    """The whole document. The same report gives the same bytes under one release, which is named as the tool."""
    version, lineage = report.version, report.lineage
    data = f"dataset:{lineage.manifest_sha256}"
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:expunge:bom:{version.version}:{version.weights_sha256}")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": version.published_at.isoformat(),
            "tools": {"components": [{"type": "application", "name": "expunge", "version": installed("expunge")}]},
            "component": model(report, data),
        },
        "components": [
            {
                "type": "data",
                "bom-ref": data,
                "name": lineage.dataset,
                "data": [{"type": "dataset", "name": lineage.dataset, "bom-ref": f"{data}#rows"}],
                "hashes": [{"alg": "SHA-256", "content": lineage.manifest_sha256}],
            }
        ],
        "dependencies": [{"ref": ref(report), "dependsOn": [data]}, {"ref": data}],
    }


def ref(report: Report) -> str:
    return f"model:{report.version.weights_sha256}"


def model(report: Report, data: str) -> dict[str, Any]:
    version = report.version
    made: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": ref(report),
        "name": version.model,
        "version": version.version,
        "description": report.summary,
        "hashes": [{"alg": "SHA-256", "content": version.weights_sha256}],
        "modelCard": card(report, data),
        "properties": [
            {"name": "expunge:kind", "value": version.kind},
            {"name": "expunge:batch", "value": str(report.batch)},
            {"name": "expunge:rung", "value": report.verdict.rung},
            {"name": "expunge:tickets", "value": str(len(report.lineage.tickets))},
        ],
    }
    if report.lineage.parents:
        made["pedigree"] = {
            "ancestors": [
                {
                    "type": "machine-learning-model",
                    "bom-ref": f"ancestor:{place}:{parent.weights_sha256}",
                    "name": version.model,
                    "version": parent.version,
                    "hashes": [{"alg": "SHA-256", "content": parent.weights_sha256}],
                }
                for place, parent in enumerate(report.lineage.parents)
            ]
        }
    return made


def card(report: Report, data: str) -> dict[str, Any]:
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": TASK,
            "architectureFamily": report.lineage.problem,
            "datasets": [{"ref": data}],
        },
        "quantitativeAnalysis": {"performanceMetrics": [metric(each) for each in measured(report)]},
        "considerations": {"technicalLimitations": report.not_promised},
    }


def measured(report: Report) -> list[Figure]:
    """MU and UE, and the accuracy beside them."""
    shown = [
        Figure(name=each.name, estimate=each.estimate, low=each.low, high=each.high, n=each.n)
        for each in report.validation.estimates
    ]
    accuracy = [figure for figure in report.validation.utility if figure.name == "accuracy"]
    return [*shown, *(accuracy if report.version.kind is VersionKind.UNLEARNED else [])]


def metric(found: Figure) -> dict[str, Any]:
    return {
        "type": found.name,
        "value": f"{found.estimate:g}",
        "slice": SLICES.get(found.name, "test"),
        "confidenceInterval": {"lowerBound": f"{found.low:g}", "upperBound": f"{found.high:g}"},
    }
