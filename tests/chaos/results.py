"""What the runs leave: a record each, and the table over all of them. Calls with the same seed and code add to it."""

import contextlib
import hashlib
import io
import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.results import Row
from tests.chaos.plan import Kind
from tests.chaos.run import Record

ROOT = Path(__file__).parents[2]


@dataclass
class Results:
    """The records of a seed's runs so far."""

    settings: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def resumed(cls, settings: dict[str, Any], *, fresh: bool) -> "Results":
        """Those that are there, if they are of the same settings and code; none otherwise."""
        path = results.RESULTS / "chaos.json"
        if fresh or not path.exists():
            return cls(settings)
        found = json.loads(path.read_text())
        same = found["settings"] == settings and found["digests"] == digests()
        return cls(settings, found["runs"] if same else [])

    def left(self, runs: int) -> list[int]:
        """Numbers of the runs that are still to be made. A run with a violation is made again."""
        self.records = [record for record in self.records if record["violation"] is None]
        done = {record["run"] for record in self.records}
        return [number for number in range(runs) if number not in done]

    def add(self, record: Record) -> None:
        self.records.append(record.as_json())

    @property
    def violations(self) -> int:
        return sum(record["violation"] is not None for record in self.records)

    def kinds(self) -> dict[str, dict[str, float]]:
        """For each kind of fault: how many runs met it, and the seconds from healing to the last ticket's end."""
        found = {}
        for kind in Kind:
            seconds = [record["recovery"] for record in self.records if kind.value in record["kinds"]]
            if seconds:
                found[kind.value] = {
                    "runs": len(seconds),
                    "median": round(statistics.median(seconds), 2),
                    "worst": max(seconds),
                }
        return found

    def rows(self) -> list[Row]:
        made = len(self.records)
        tickets = sum(record["tickets"] for record in self.records)
        ended = sum(record["ended"] for record in self.records)
        recovery = [record["recovery"] for record in self.records] or [0.0]
        worst = f"worst {max(recovery):.1f} s"
        return [
            Row("runs with a violation", f"{self.violations} of {made}", "0", float(self.violations), 0, True),
            Row("tickets in a final state", f"{ended}", f"{tickets}", ended / max(tickets, 1), 1, False),
            Row("recovery, median", f"{statistics.median(recovery):.1f} s", "–", 1.0, None, True, worst),
        ]

    def save(self, *, quietly: bool) -> None:
        """Write the results, and print the table unless more is to come."""
        more = {
            "runs": sorted(self.records, key=lambda record: int(record["run"])),
            "kinds": self.kinds(),
            "digests": digests(),
        }
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            results.finish("chaos", self.rows(), self.settings, more)
        if not quietly:
            sys.stdout.write(told.getvalue())
            for kind, seen in self.kinds().items():
                line = (
                    f"{kind:22} {seen['runs']:4} runs, recovery {seen['median']:.1f} s, worst {seen['worst']:.1f} s\n"
                )
                sys.stdout.write(line)


def digests() -> dict[str, str]:
    """Of the code that was hurt, and of the code that did it."""
    seen = hashlib.sha256()
    for path in sorted([*(ROOT / "tests/chaos").glob("*.py"), *(ROOT / "tests/faults").rglob("*.py")]):
        if not path.name.startswith("test_"):
            seen.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return {"code": service_digest(), "harness": seen.hexdigest()}


def service_digest() -> str:
    """The service alone: a benchmark that changes leaves the runs as they were."""
    seen = hashlib.sha256()
    for folder in ("app", "workers", "unlearning", "embedded", "migrations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            seen.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return seen.hexdigest()
