"""The generated half of the client is what `make client` would write now."""

import pytest

from tools.client import models, sync

AGAIN = "run `make client` and commit what it writes"


def test_the_models_are_those_of_the_api() -> None:
    assert (sync.ROOT / "expunge" / "models.py").read_text(encoding="utf-8") == models.source(), AGAIN


def test_the_blocking_half_is_the_awaited_one() -> None:
    made = sync.sources()
    assert {path.name for path in sync.TARGET.glob("*.py")} == {path.name for path in made}, AGAIN
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: {AGAIN}"


def test_what_has_no_rule_is_refused() -> None:
    """Rather than written as code that waits for nothing."""
    with pytest.raises(SystemExit, match="no rule for 'anyio'"):
        sync.blocking(
            '"""A module."""\n\nimport anyio\n\nasync def f() -> None:\n    await anyio.lowlevel.checkpoint()\n'
        )


def test_the_limits_of_the_service_are_its_own() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"pattern": {"type": "string", "pattern": "a"}},
    }
    kept = {"type": "object", "properties": {"pattern": {"type": "string"}}}
    assert models.relaxed(schema) == kept
    assert models.reached({"A": {"$ref": "#/x/B"}, "B": {"items": [{"$ref": "#/x/A"}]}, "C": {}}, "A") == {"A", "B"}
