"""The example in examples/: found by its entry point, sound by the engine's own check, and able to learn."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from app import manifests
from unlearning.gradients import scores
from unlearning.problem import Problem, check
from unlearning.splits import split_unseen
from unlearning.training import restore, train

ROOT = Path(__file__).parent.parent
SPIRALS = ROOT / "examples" / "spirals"
LISTED = "import sys; from workers.problems import main; sys.exit(main(sys.argv[1:]))"


def module() -> ModuleType:
    """The example's module, without installing it."""
    spec = importlib.util.spec_from_file_location("spirals", SPIRALS / "spirals.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["spirals"] = made  # its dataclasses look themselves up there
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def spirals() -> Any:
    return module().problem()


def test_it_is_sound(spirals: Problem) -> None:
    check(spirals)
    split_unseen(spirals)
    assert len(spirals.train) == 3000
    assert len(set(spirals.train.subjects)) == 30
    assert not set(spirals.train.subjects) & {*spirals.holdout.subjects, *spirals.test.subjects}


def test_it_is_the_same_every_time(spirals: Problem) -> None:
    again = module().problem()
    for one, other in ((spirals.train, again.train), (spirals.holdout, again.holdout), (spirals.test, again.test)):
        assert manifests.digest_of(list(one.ids), list(one.subjects)) == manifests.digest_of(
            list(other.ids), list(other.subjects)
        )
        everything = np.arange(len(one))
        for mine, theirs in zip(one.batch(everything), other.batch(everything), strict=True):
            assert mine.equal(theirs)


@pytest.mark.service
def test_it_learns_without_some_samples(spirals: Any) -> None:
    """A few epochs without one device: better than guessing, on devices that it never saw."""
    few = replace(spirals, recipe=replace(spirals.recipe, epochs=4))
    tuning, audit = split_unseen(few)
    without = np.setdiff1d(np.arange(len(few.train)), np.arange(700, 800))
    made = train(few, without, tuning)
    assert made.history[-1].train_loss < made.history[0].train_loss
    assert scores(restore(few, made.state), few, audit.test).correct_N.mean() > 0.5


@pytest.mark.service
def test_its_entry_point_is_found(tmp_path: Path) -> None:
    """Installed into a folder beside Expunge, as the guide says, and asked for its manifest."""
    place = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*install, "--target", str(place), str(SPIRALS)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [
        path for path in place.iterdir() if path.name not in {"spirals.py", "__pycache__"} and path.suffix == ".py"
    ]
    surroundings = {"PYTHONPATH": str(place), "EXPUNGE_DATA_DIR": str(tmp_path)}
    for arguments, wanted in ((["list"], "spirals\n"), (["manifest", "spirals"], "device-00/reading-000,device-00\n")):
        asked = [sys.executable, "-c", LISTED, *arguments]
        done = subprocess.run(asked, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout.replace("\r\n", "\n")
    assert len(done.stdout.splitlines()) == 3001
