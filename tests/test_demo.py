"""`expunge demo`, as `make demo` runs it: it ends by itself, shows both outcomes' paths, and leaves nothing behind."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from app.cli import demo
from app.policy import PolicyBody
from expunge.evidence.verify import CHECKS

pytestmark = pytest.mark.service


def test_the_demo_tells_the_whole_story_and_cleans_up() -> None:
    with tempfile.TemporaryDirectory(prefix="ex-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EXPUNGE_")}
        environment |= {"TMPDIR": folder, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        argv = [sys.executable, "-m", "app.cli", "demo"]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=280, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(Path(folder).glob("expunge-*")) == []
        mark = folder.encode()
        assert not [entry for entry in Path("/proc").glob("[0-9]*") if mark in environment_of(entry)]
    story = done.stdout
    assert len(re.findall(r"202, \d+ samples tombstoned", story)) == 3
    assert len(re.findall(r"fulfilled by lenet-v\d", story)) == 3
    saved, stepped, retrained = (rows(story, name) for name in ("by sample ids", "by subject", "tightened"))
    ladder = PolicyBody().ladder
    assert [row[0] for row in saved] == ladder[:2]
    assert {"publish", "lenet-v2"} <= set(saved[-1])
    assert {"publish", "lenet-v3"} <= set(stepped[-1])
    assert [row[0] for row in retrained] == ladder
    assert {"publish", "lenet-v4"} <= set(retrained[-1])
    for row in saved[:-1] + stepped[:-1] + retrained[:-1]:
        assert {"escalate", "inconclusive"} & set(row)
    assert re.search(r"measured against the retrain, MU [+-]0\.\d{3} \(estimated", story)
    assert re.search(r"evidence of lenet-v2: expunge verify \S+ --key [0-9a-f]{64}", story)
    assert story.count("  holds  ") == len(CHECKS)
    assert "stopped; nothing is left behind" in story


def rows(story: str, name: str) -> list[list[str]]:
    """The table's lines of one ticket, in words, from the method on."""
    lines = [line.strip() for line in story.splitlines() if line.strip().startswith(name) and "measured" not in line]
    return [line.removeprefix(name).split()[1:] for line in lines]


def environment_of(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""  # it has just ended


def test_a_failed_demo_names_the_folder_it_keeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    printed: list[str] = []
    monkeypatch.setattr(demo.console, "print", lambda text, **_: printed.append(text))
    with pytest.raises(RuntimeError, match="on purpose"), demo.private_folder():
        raise RuntimeError("on purpose")
    assert printed == [f"The demo's data and logs are kept in {tmp_path}"]
    assert tmp_path.is_dir()
