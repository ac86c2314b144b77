"""Generated code in the house's format, so that it is read and compared like any other."""

import subprocess
import sys
from pathlib import Path

RUFF = Path(sys.executable).with_name("ruff")


def formatted(text: str) -> str:
    """The text as `ruff` sorts its imports and lays it out, by the settings of pyproject.toml."""
    name = ["--stdin-filename", "expunge/generated.py", "-"]
    for command in (["check", "--select", "I,UP,F401", "--fix-only", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run([RUFF, *command, *name], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"ruff {command[0]} refuses generated code:\n{done.stdout}{done.stderr}")
        text = done.stdout
    return text
