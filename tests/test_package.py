"""The wheel, as a user gets it: everything in it that the service reads, and it works away from the checkout."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, PathDistribution, packages_distributions, requires
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.db import alembic_config

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "workers", "unlearning", "embedded", "migrations", "expunge")
TYPED = ("app", "workers", "unlearning", "embedded", "expunge")
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


# As if nothing but the named packages could be imported; a tool that is installed for tests would hide what is missing.
ALONE = """
import sys
hidden = set(sys.argv[1].split())
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from importlib import import_module
for name in sys.argv[2].split():
    import_module(name)
"""
SERVICE = "app.main app.cli app.queue kombu.transport.redis celery.apps.beat uvicorn.protocols.http.auto"
HANDS = "workers.tasks workers.problems workers.bundled celery.apps.worker"


def declared(*extras: str) -> set[str]:
    """Every distribution that an installation with these extras brings, by what the packages themselves ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(need for extra in extras for need in project["optional-dependencies"][extra])]
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(need) for need in asked]
    while waiting:
        need = waiting.pop()
        for extra in ("", *need.extras):
            if (canonicalize_name(need.name), extra) in found:
                continue
            found.add((canonicalize_name(need.name), extra))
            try:
                further = [Requirement(each) for each in requires(need.name) or []]
            except PackageNotFoundError:  # for another platform, or an older Python
                continue
            waiting += [each for each in further if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


@pytest.mark.parametrize(("extras", "modules"), [((), SERVICE), (("worker",), HANDS)], ids=["service", "worker"])
def test_what_is_imported_is_asked_for(extras: tuple[str, ...], modules: str) -> None:
    """Installed alone, without the tools of a checkout, each half finds every module it needs."""
    brought = declared(*extras) | {"expunge"}
    hidden = [
        module
        for module, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & brought
    ]
    command = [sys.executable, "-c", ALONE, " ".join(hidden), modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.splitlines()[-1]
