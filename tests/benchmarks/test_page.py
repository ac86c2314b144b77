from benchmarks.page import PAGE, SECTIONS, page
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
