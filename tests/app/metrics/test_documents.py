"""What is written about the metrics, the alert rules and the dashboard, held against what the service exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import iter_route_contexts

from app.main import app
from app.presence import Condition
from app.tables import BatchState, Decision, ObligationState, ReferenceState, Role
from tests.app.metrics import promql
from tests.app.metrics.exported import Scrape, everything, scrape

ROOT = Path(__file__).parents[3]
SUFFIXES = re.compile(r"_(bucket|count|sum|gcount|gsum)$")


@pytest.fixture
def exported(database: str) -> Scrape:
    """Of a service to which everything has happened, requests included."""
    from fastapi.testclient import TestClient

    TestClient(app).get("/livez")
    everything()
    return scrape()


def by_name(exported: Scrape) -> dict[str, set[str]]:
    """Labels of each metric, a histogram's as one."""
    found: dict[str, set[str]] = {}
    for name, labels in exported.labels.items():
        histogram = f"{SUFFIXES.sub('', name)}_bucket" in exported.labels
        found.setdefault(SUFFIXES.sub("", name) if histogram else name, set()).update(labels)
    return found


def test_the_page_lists_what_there_is(exported: Scrape) -> None:
    table = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    listed = {}
    for name, labels in re.findall(r"^\| `(expunge_\w+)` \| ([^|]*)\|", table, flags=re.MULTILINE):
        assert name not in listed
        listed[name] = set(re.findall(r"`(\w+)`", labels))
    assert listed == by_name(exported)


RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "expunge.json"
WORDS: dict[tuple[str, str], set[str]] = {
    ("expunge_batches", "state"): set(BatchState),
    ("expunge_obligations", "state"): set(ObligationState),
    ("expunge_bank_references", "state"): set(ReferenceState),
    ("expunge_workers", "role"): set(Role),
    ("expunge_workers", "condition"): set(Condition),
    ("expunge_heard_timestamp_seconds", "role"): set(Role),
    ("expunge_verdicts_total", "decision"): set(Decision),
    ("expunge_verdicts_total", "rung"): {"retrain"},
    ("expunge_http_requests_total", "status"): {"2xx", "3xx", "4xx", "5xx"},
    ("expunge_http_requests_total", "method"): {"GET", "POST", "PUT", "DELETE"},
    ("expunge_http_requests_total", "route"): {str(route.path) for route in iter_route_contexts(app.routes)},
    ("expunge_events_total", "kind"): {"ticket.accepted", "ticket.fulfilled", "ticket.cancelled"},
    ("up", "job"): {"expunge"},
}
"""The words that an expression may ask for. A label that is missing here may only be asked for by the dashboard's own choice."""


def alerts() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(RULES.read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str, set[str]]]:
    """Where it stands, the expression, and the labels that the text beside it names."""
    for rule in alerts():
        yield rule["alert"], rule["expr"], set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"], set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert found is not None
            yield variable["name"], found[1], {found[2]}


def check(expression: str, named: set[str], exported: dict[str, set[str]]) -> None:
    """Every metric, label and word of it exists, its sides can meet, and the text beside it names labels that it has."""
    node = promql.parse(expression)
    answer = promql.labels(node, exported)
    assert answer is not None
    assert named <= answer, f"the answer has no {named - answer}"
    for selector in promql.selectors(node):
        for matcher in selector.matchers.matchers:
            if matcher.value != ".*":
                known = WORDS[selector.name, matcher.name]
                assert set(matcher.value.split("|")) <= known, f"{matcher.name} is never {matcher.value}"


def test_every_expression_asks_for_what_there_is(exported: Scrape) -> None:
    found = list(expressions())
    assert len(found) > 60
    for where, expression, named in found:
        try:
            check(expression, named, exported.labels)
        except (AssertionError, KeyError, ValueError) as error:
            raise AssertionError(f"{where}: {expression}: {error}") from error


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("max by (model) (expunge_obligation_overdue) > 0", set()),
        ("max by (modell) (expunge_obligations_overdue) > 0", set()),
        ('expunge_batches{stat="quarantined"} > 0', set()),
        ('expunge_batches{state="quarantene"} > 0', set()),
        ('expunge_workers{role="worker", condition=~"idle|bussy"} > 0', set()),
        ("max by (model) (expunge_obligations_overdue) > 0", {"state"}),
        ("sum by (model) (expunge_obligations) / expunge_models", set()),
        ("expunge_obligations unless on (rung) expunge_batches", set()),
        ("histogram_quantile(0.9, sum by (step) (rate(expunge_step_seconds_bucket[5m])))", set()),
        ("rate(expunge_step_seconds[5m])", set()),
        ("sum by (model) (expunge_obligations", set()),
    ],
)
def test_what_is_misspelt_is_found(exported: Scrape, wrong: str, named: set[str]) -> None:
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(wrong, named, exported.labels)


def test_every_rule_has_its_runbook() -> None:
    text = (ROOT / "docs" / "operations.md").read_text().partition("## Dashboard and alerts")[2].partition("\n## ")[0]
    sections = {
        title.lower().replace(" ", "-"): body
        for title, body in re.findall(r"^### (.+)\n+([^#]+)", text, flags=re.MULTILINE)
    }
    named = {}
    for rule in alerts():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operations.md"
        assert f"*{rule['alert']}.*" in sections[anchor], "the section names its rule"
        named[anchor] = rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
    assert named.keys() == sections.keys(), "a section without a rule"
    assert len({rule["alert"] for rule in alerts()}) == len(alerts())


def test_every_metric_is_looked_at(exported: Scrape) -> None:
    """On the dashboard or by a rule, or there would be no need to export it."""
    asked = {s.name for _, expression, _ in expressions() for s in promql.selectors(promql.parse(expression))}
    shown = {SUFFIXES.sub("", name) for name in asked} | asked
    assert set(by_name(exported)) <= shown


def test_the_example_configuration_loads_the_rules() -> None:
    loaded = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert loaded["rule_files"] == [RULES.name]
    (job,) = loaded["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("expunge", "/metrics")
    assert job["static_configs"] == [{"targets": ["api:8420"]}]
    assert "credentials" not in job["authorization"], "the key stands in a file of its own"


def test_the_dashboard_is_whole() -> None:
    loaded = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in loaded["panels"]}) == len(loaded["panels"])
    taken = set()
    for panel in loaded["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another"
        assert at["x"] + at["w"] <= 24
        taken |= cells
