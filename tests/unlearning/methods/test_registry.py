"""Methods by name: ours, and those of packages that are installed beside us."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unlearning.methods import registry
from unlearning.methods.protocol import Need
from unlearning.methods.registry import Unavailable

MODULE = """
from dataclasses import dataclass
from typing import ClassVar

from unlearning.methods.nothing import Nothing
from unlearning.methods.protocol import Need


@dataclass(frozen=True)
class Halve(Nothing):
    name: ClassVar[str] = "halve"
    source: ClassVar[str] = "a test"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLASS_ONLY})
    factor: float = 0.5


class Nameless:
    name = "nameless"


halves = 3
"""

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with these entry points where importlib.metadata finds it."""
    (tmp_path / "expunge_test_methods.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "expunge_test_methods", raising=False)

    def put(package: str, entries: str) -> None:
        folder = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[expunge.methods]\n{entries}\n")

    return put


def test_ours_are_there_by_their_own_names() -> None:
    assert {"retrain", "usgd", "bad-teaching", "amnesiac", "fisher", "iau", "nothing"} <= set(registry.names())
    for name, factory in registry.BUILT_IN.items():
        assert factory().name == name
        assert registry.make(name) == factory()
    assert registry.make("scrub", epochs=2, rewind=True) == registry.BUILT_IN["scrub"](epochs=2, rewind=True)


def test_an_installed_method_is_found_and_takes_its_settings(install: Install) -> None:
    install("their-methods", "halve = expunge_test_methods:Halve")
    assert registry.names() == [*registry.BUILT_IN, "halve"]
    method = registry.make("halve", factor=0.25)
    assert (method.name, method.needs) == ("halve", frozenset({Need.CLASS_ONLY}))
    assert getattr(method, "factor") == 0.25  # noqa: B009 - a setting of theirs, which the protocol does not know


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(Unavailable, match=r"no method 'exorcise'.*installed: nothing, iau"):
        registry.make("exorcise")
    with pytest.raises(ValueError, match=r"'ssd' does not take these settings.*strength"):
        registry.make("ssd", strength=1)
    with pytest.raises(ValueError, match="alpha is -1"):
        registry.make("ssd", alpha=-1)


def test_a_name_is_given_once(install: Install) -> None:
    install("their-methods", "halve = expunge_test_methods:Halve")
    install("more-methods", "halve = expunge_test_methods:halves")
    with pytest.raises(Unavailable, match="package their-methods and package more-methods both name a method 'halve'"):
        registry.names()


def test_a_built_in_name_is_taken(install: Install) -> None:
    install("their-methods", "retrain = expunge_test_methods:Halve")
    with pytest.raises(Unavailable, match="package their-methods names a method 'retrain', which is built in"):
        registry.make("retrain")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("halve = expunge_test_methods:Missing", "'halve' of package their-methods cannot be loaded.*Missing"),
        ("halve = no_such_module_here:Halve", "'halve' of package their-methods cannot be loaded.*no_such_module_here"),
        ("halve = expunge_test_methods:halves", "'halve' of package their-methods is int, not a class"),
        ("nameless = expunge_test_methods:Nameless", "'nameless' is installed but has no source, needs, cost, unlearn"),
        ("other = expunge_test_methods:Halve", "'other' leads to a method that calls itself 'halve'"),
    ],
)
def test_a_fault_in_a_package_is_named(install: Install, entry: str, message: str) -> None:
    install("their-methods", entry)
    assert registry.make("ssd").name == "ssd"  # the others stay usable
    with pytest.raises(Unavailable, match=message):
        registry.make(entry.split(" ")[0])
