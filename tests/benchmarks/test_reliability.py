import re

from benchmarks.reliability import KINDS, PAGE, TOP, page, seen
from tests.chaos.checker import CHECKS
from tests.chaos.plan import Kind


def test_the_page_says_what_was_seen_and_nothing_else() -> None:
    """After `make chaos`: `python -m benchmarks.reliability`."""
    assert PAGE.read_text() == page()


def test_every_kind_of_fault_has_its_words() -> None:
    assert KINDS.keys() == {kind.value for kind in Kind}


def test_there_is_a_check_for_each_promise() -> None:
    assert len(re.findall(r"^\d\. ", TOP, flags=re.MULTILINE)) == 7
    assert len(CHECKS) >= 8


def test_a_violation_is_not_hidden() -> None:
    run = {"run": 3, "tickets": 4, "kinds": ["kill-api"], "recovery": 1.0, "seconds": 5.0}
    record = {
        "runs": [run | {"violation": None}, run | {"run": 4, "violation": "a ticket answered 202 is never lost: gone"}],
        "kinds": {"kill-api": {"runs": 2, "median": 1.0, "worst": 2.5}},
        "settings": {"seed": 9},
        "machine": {"cpu": "a CPU", "cores": 2, "load": 0.4},
        "digests": {"code": "0" * 64, "harness": "1" * 64},
    }
    said = seen(record)
    assert "2 runs with 8 tickets, **1 violations**" in said
    assert "| `kill -9` of the API | 2 | 1.0 s | 2.5 s |" in said
    assert "Run 4: a ticket answered 202 is never lost: gone" in said
