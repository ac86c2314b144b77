"""Whether a bundle's report, attestations, verdicts and bill of materials say the same."""

from typing import Any

from expunge.evidence import bundle, claims, dsse
from expunge.evidence.fault import Fault
from expunge.evidence.measured import measured_sha256
from expunge.evidence.opened import Opened


def attestations(opened: Opened) -> str:
    """Each attestation is signed, about these weights, and says of verdict and policy what follows from the report."""
    version, digest = opened.manifest["version"], opened.manifest["weights_sha256"]
    for kind, predicate_type in bundle.PREDICATES.items():
        name = bundle.attestation(kind)
        stated = opened.envelope(name, dsse.IN_TOTO)
        expected = dsse.statement(f"{version}.safetensors", digest, predicate_type, stated["predicate"])
        if stated != expected:
            raise Fault(f"{name} is about something else than this version")
        opened.attested[kind] = stated["predicate"]
    (byproduct,) = opened.attested["provenance"]["runDetails"]["byproducts"]
    if byproduct["digest"]["sha256"] != measured_sha256(opened.report["verdict"]):
        raise Fault("report.json does not have the measurements that the provenance names")
    estimates(opened.report)
    recount(opened)
    agrees(opened, "test-result", claims.test_result(opened.report))
    agrees(opened, "svr", claims.summary(opened.report))
    metrics(opened)
    materials(opened)
    return f"{len(opened.attested)} attestations and the bill of materials are about these weights"


def estimates(report: dict[str, Any]) -> None:
    """The report's estimates are the verdict's, all of them, each with its threshold."""
    statistics, thresholds = report["verdict"]["statistics"], report["verdict"]["thresholds"]
    approximate = report["version"]["kind"] == claims.UPDATE
    expected = [name for name in claims.ESTIMATED if name in statistics] if approximate else []
    shown = {each["name"]: each for each in report["validation"]["estimates"]}
    for name in dict.fromkeys((*expected, *shown)):
        if name not in shown or name not in expected:
            raise Fault(f"{bundle.REPORT}: the estimates are not those of the verdict: {name}")
        parts = ("estimate", "low", "high", "n")
        if shown[name]["claimed"] != (name == "mu" or statistics[name]["n"] >= claims.FEW):
            raise Fault(f"{bundle.REPORT}: of {name} a rate is claimed of too few samples, or none of enough")
        differ = any(shown[name][part] != statistics[name][part] for part in parts)
        if differ or shown[name]["threshold"] != thresholds.get(name):
            raise Fault(f"{bundle.REPORT}: the estimate of {name} is another than the verdict's")


def recount(opened: Opened) -> None:
    """Hold each test against the figures: what passed has its whole interval within its threshold."""
    stated = opened.attested["test-result"]
    for name, went in claims.outcomes(opened.report).items():
        if name not in stated[f"{went}Tests"]:
            said = f"{bundle.attestation('test-result')} says otherwise of the test {name} than the report's figures"
            raise Fault(f"{said}: {went}")


def agrees(opened: Opened, kind: str, expected: dict[str, Any]) -> None:
    """The attestation claims what follows from the report, and nothing else."""
    where = difference(opened.attested[kind], expected)
    if where is not None:
        raise Fault(f"{bundle.attestation(kind)} says otherwise than the report: {where}")


def difference(stated: Any, expected: Any, at: str = "") -> str | None:
    """Where two values of JSON first differ; None where they are the same."""
    if isinstance(stated, dict) and isinstance(expected, dict):
        for name in sorted(stated.keys() | expected.keys()):
            path = f"{at}.{name}" if at else name
            if name not in stated or name not in expected:
                return path
            found = difference(stated[name], expected[name], path)
            if found is not None:
                return found
        return None
    return None if dsse.canonical(stated) == dsse.canonical(expected) else at or "all of it"


def metrics(opened: Opened) -> None:
    """The verdicts stand alone as they stand in the report, and the version's is one of them."""
    verdicts = opened.report["attempts_at_a_verdict"]
    if difference(opened.read(bundle.METRICS), verdicts) is not None:
        raise Fault(f"{bundle.METRICS} has other verdicts than the report")
    if opened.report["verdict"] not in verdicts:
        raise Fault(f"{bundle.REPORT}: the verdict is none of the batch's")


def materials(opened: Opened) -> None:
    """The bill of materials is about these weights, of the same making."""
    component, report = opened.read(bundle.BOM)["metadata"]["component"], opened.report
    if component["version"] != opened.manifest["version"] or component["hashes"] != [
        {"alg": "SHA-256", "content": opened.manifest["weights_sha256"]}
    ]:
        raise Fault(f"{bundle.BOM} is about other weights than the manifest")
    told = {each["name"]: each["value"] for each in component["properties"]}
    if (told["expunge:kind"], told["expunge:rung"]) != (report["version"]["kind"], report["verdict"]["rung"]):
        raise Fault(f"{bundle.BOM} tells of another making than the report")
