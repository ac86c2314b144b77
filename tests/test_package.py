"""The wheel, as a user gets it: everything in it that the service reads, and it works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from app.db import alembic_config

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "workers", "unlearning", "embedded", "migrations")
TYPED = ("app", "workers", "unlearning", "embedded")
pytestmark = pytest.mark.service

REPORT = """
import sys
from pathlib import Path
import app.main
from alembic.script import ScriptDirectory
from app import db, pages
scripts = ScriptDirectory.from_config(db.alembic_config())
print(Path(app.main.__file__).resolve())
print(Path(scripts.dir).resolve())
print(*scripts.get_heads())
print(*(revision.path for revision in scripts.walk_revisions()))
print(pages.templates.env.get_template("audit.html").filename)
print(pages.STATIC / "expunge.css")
print("torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout with the installed hatchling."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("expunge-*.whl"))


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def run(place: Path, folder: Path, *command: str) -> str:
    """A command in another folder, with the installed wheel ahead of the checkout."""
    surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "EXPUNGE_DATA_DIR": str(folder)}
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_its_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted <= held, sorted(wanted - held)
    assert {f"{package}/py.typed" for package in TYPED} <= held
    assert {"migrations/script.py.mako", "migrations/versions/0001_first_schema.py"} <= held
    assert {"app/templates/audit.html", "app/templates/base.html", "app/static/expunge.css"} <= held


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_says_who_it_is(place: Path) -> None:
    distribution = PathDistribution(next(place.glob("expunge-*.dist-info")))
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    assert distribution.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    points = {(point.group, point.name): point.value for point in distribution.entry_points}
    assert points["console_scripts", "expunge"] == "app.cli:main"
    assert points["expunge.problems", "digits"] == "workers.bundled:digits"
    needs = [need for need in distribution.requires or [] if "extra ==" not in need]
    assert not [need for need in needs if need.startswith("torch")]


def test_the_service_finds_its_files_and_no_torch(place: Path, tmp_path: Path) -> None:
    shown = run(place, tmp_path, sys.executable, "-c", REPORT).splitlines()
    main, scripts, heads, revisions, template, stylesheet, torch = shown
    assert [heads] == ScriptDirectory.from_config(alembic_config()).get_heads(), "as in the checkout"
    for found in (main, scripts, *revisions.split(), template, stylesheet):
        assert Path(found).exists()
        assert Path(found).is_relative_to(place), found
    assert torch == "False"


def test_the_command_line_runs(place: Path, tmp_path: Path) -> None:
    call = "import sys; from app.cli import main; sys.argv = ['expunge', 'migrate', '--help']; main()"
    assert "schema" in run(place, tmp_path, sys.executable, "-c", call)
