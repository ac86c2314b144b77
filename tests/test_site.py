"""The documentation as a site: it builds where every warning is an error, names every page, and asks nobody for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = re.compile(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?:)?//[^"]+"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return out


def test_every_page_is_in_it(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in site.glob("*.html")}
    text = (ROOT / "mkdocs.yml").read_text()
    assert {Path(named).stem for named in re.findall(r": ([\w-]+\.md)$", text, flags=re.MULTILINE)} == pages
    assert yaml.safe_load(text)["strict"] is True


def test_it_asks_nobody_for_anything(site: Path) -> None:
    for page in site.glob("*.html"):
        found = [match[0] for match in ELSEWHERE.finditer(page.read_text()) if 'rel="canonical"' not in match[0]]
        assert found == [], page.name


def test_pictures_are_there(site: Path) -> None:
    for page in site.glob("*.html"):
        for name in re.findall(r'<img[^>]+src="([^"]+)"', page.read_text()):
            assert (site / name).is_file() or name.startswith("data:"), f"{page.name}: {name}"
