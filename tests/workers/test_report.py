"""What the engine really records, as the report reads it: its names and notes are what `app.evidence` looks for."""

import pytest

from app import evidence, pages, versions
from app.db import transaction
from app.evidence.findings import ATTACKS
from app.tables import VersionKind
from tests.workers.conftest import Line
from unlearning.attack_statistics import ATTACKS as ENGINE_ATTACKS


def report(line: Line) -> evidence.Report:
    with transaction() as session:
        return evidence.report(session, versions.resolve(session, f"{line.name}@current"))


@pytest.mark.parametrize("count", [4, 60])
def test_an_update_as_it_is_recorded_has_every_part(lenient: Line, count: int) -> None:
    lenient.work()
    lenient.submit(range(count))
    lenient.work()
    made = report(lenient)
    assert made.version.kind is VersionKind.UNLEARNED, made.verdict.reasons
    found = made.validation
    mu, ue = found.estimates
    assert "is in the interval" in mu.assumption
    assert (ue.n, ue.claimed) == (count, count >= 50)
    assert (mu.reason is not None, ue.reason is not None) == (True, count >= 50), made.verdict.reasons
    assert found.power is not None
    assert found.power.informative is not None
    assert [attack.attack for attack in found.attacks] == [attack for attack in ATTACKS if attack != "reference"]
    assert all(attack.auc.before and attack.auc.after for attack in found.attacks)
    assert {figure.name for figure in found.progress} >= {
        "exposure_before",
        "exposure",
        "exposure_change",
        "residual",
        "overshoot",
        "ue_before",
        "forgetting",
    }
    assert {"nll", "ece", "churn", "macro_accuracy", "cumulative_mu"} <= {figure.name for figure in found.utility}
    assert found.one_by_one is not None
    listed = count if count < 50 else 0
    ps = (found.one_by_one.p_members_before, found.one_by_one.p_members, found.one_by_one.p_strangers)
    assert [len(p) for p in ps] == [listed] * 3
    assert all(p == sorted(p) for p in ps)
    html = pages.templates.env.get_template("audit.html").render(report=made)
    assert "train-0" not in html
    for answer in made.answers:
        assert answer.question in html


def test_attacks_are_the_engines() -> None:
    assert set(ATTACKS) == set(ENGINE_ATTACKS)
