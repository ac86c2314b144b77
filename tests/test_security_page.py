"""The threat model names tests that exist, and says where there is none."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/security.md").read_text()
GUARD = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """Cells of every row, without the heads of the tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    return [
        [cell.strip() for cell in line.strip("|").split(" |")]
        for line in lines
        if not line.startswith("| who, and what")
    ]


@cache
def names_in(file: str) -> frozenset[str]:
    """Names of the tests in a file, those of its classes included."""
    tree = ast.parse((ROOT / file).read_text())
    inside = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test"))]
    functions = [node for parent in inside for node in parent.body if isinstance(node, ast.FunctionDef)]
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_guard_is_a_test_that_exists() -> None:
    named = GUARD.findall(PAGE)
    assert len(named) > 40
    assert [f"{file}::{test}" for file, test in named if test not in names_in(file)] == []


def test_every_row_has_a_guard_or_says_that_there_is_none() -> None:
    found = rows()
    assert len(found) > 25
    for cells in found:
        assert len(cells) == 4, cells[0]
        guarded, unguarded = bool(GUARD.search(cells[3])), cells[3] == "**unguarded**"
        assert guarded != unguarded, cells[0]
        assert not re.sub(GUARD, "", cells[3]).strip(", ") or unguarded, cells[0]
