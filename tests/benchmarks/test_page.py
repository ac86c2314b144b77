import json

from benchmarks.page import PAGE, SECTIONS, page
from benchmarks.paper.cells import ROOT
from benchmarks.results import RESULTS, Row


def test_the_page_says_what_was_measured_and_nothing_else() -> None:
    """After a benchmark has run: `python -m benchmarks.page`."""
    assert PAGE.read_text() == page()


def test_every_section_that_has_results_is_shown() -> None:
    text = page()
    for name, (command, _) in SECTIONS.items():
        assert (f"## {name}" in text) == (RESULTS / f"{name}.json").exists()
        assert command.startswith("make ")


def test_an_aim_is_met_on_its_own_side() -> None:
    assert Row("x", "1", "1", 0.9, 0.8, at_most=False).met
    assert not Row("x", "1", "1", 0.9, 0.8, at_most=True).met
    assert Row("x", "1", "1", 5.0, None, at_most=True).met


def test_the_readme_says_how_right_the_verdict_was() -> None:
    found = {row["name"]: row["figure"] for row in json.loads((RESULTS / "verdict.json").read_text())["rows"]}
    readme = (ROOT / "README.md").read_text()
    unseen, bank = (
        {name: found[f"all settings, {source}: {name}"] for name in NAMES} for source in ("holdout", "bank")
    )
    wrong, sound, everywhere, mu = NAMES
    of = bank[wrong].split(" of ")
    assert (
        f"| published, of {of[1]} updates that should not be | {of[0]} | {unseen[wrong].split(' of ')[0]} |" in readme
    )
    for line, name in (
        ("where no assumption was found broken", sound),
        ("the same everywhere", everywhere),
        ("true MU", mu),
    ):
        assert any(line in each and f"| {bank[name]} | {unseen[name]} |" in each for each in readme.splitlines()), name


WITHIN = "of a retrain within its interval of 95 %"
NAMES = (
    "published, of updates that should not be",
    f"UE {WITHIN}, where no assumption was found broken",
    f"UE {WITHIN}, everywhere",
    f"MU {WITHIN}",
)
