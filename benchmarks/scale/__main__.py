"""`python -m benchmarks.scale [--part reads|manifests|batching]`: how cost grows, in one run on one private server."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app import keys, manifests, versions
from app.auth import Scope
from app.config import settings
from app.db import engine, transaction
from app.policy import PolicyBody
from app.tables import Version
from benchmarks import cycle, intake
from benchmarks.results import Row, finish
from benchmarks.scale import batching, plans
from benchmarks.scale.history import OWNER
from benchmarks.scale.manifests import Manifest, independent, questions
from benchmarks.scale.reads import Place, grow

AUDITED = "cycle-v2"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["all", *PARTS], default="all")
    parser.add_argument("--tickets", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--samples", type=int, default=20_000_000)
    parser.add_argument("--small", type=int, default=10_000, help="samples of the manifest to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ladder", nargs="+", default=["iau-calibrated", "retrain"], help="of the batches")
    options = parser.parse_args()
    code = 0
    for name, part in PARTS.items():
        if options.part in ("all", name):
            print(f"== {name}")
            with intake.servers():
                rows, more = part(options)
                engine().dispose()
            code |= finish(f"scale-{name}", rows, {k: v for k, v in vars(options).items() if k != "part"}, more)
    return code


def measure_reads(options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Reads over HTTP while the history grows, and the plans at its end."""
    place = published_twice()
    rows, series = grow(place, options.tickets)
    ways, scans = plans.shown(place, options.tickets[-1])
    for name, each in ways.items():
        print(f"  {name}: " + "; ".join(each))
    whole = Row(
        "reads that scan a growing table whole", str(len(scans)), "0", float(len(scans)), 0, True, "; ".join(scans)
    )
    return [*rows, whole], {"sizes": options.tickets, "milliseconds": series, "plans": ways}


def published_twice() -> Place:
    """The digits, trained and updated once by the real pipeline, and two keys."""
    with cycle.always_publish():
        bench = cycle.Bench("digits")
        bench.judge_by({"ladder": ["iau-calibrated", "retrain"]})
        bench.cycle(1)
    with transaction() as session:
        version = versions.resolve(session, AUDITED)
        first = session.get_one(Version, version.parent_id)
        return Place(
            url=settings().url,
            address=plain(settings().database),
            admin=keys.create(session, "bench", [Scope.ADMIN], None, "bench").secret,
            owner=keys.create(session, OWNER, [Scope.DELETIONS_READ], None, "bench").secret,
            dataset=version.model.dataset_id,
            model=version.model_id,
            version=first.id,
            audited=AUDITED,
        )


def measure_manifests(options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Loading many millions of rows, and what is asked of them."""
    address = settings().database
    with tempfile.TemporaryDirectory(prefix="ex-") as folder:
        path = Path(folder) / "manifest.csv"
        intake.write_csv(path, options.samples)
        ours, memory = intake.in_its_own_process("large", path, address)
        bare, _ = intake.in_its_own_process("bare", path, address)
        _, memory_small = intake.in_its_own_process("small", intake.head(path, options.small), address)
    rows = [
        Row(f"register {options.samples:,} samples", f"{ours:.1f} s", f"{bare:.1f} s", ours / bare, 1.5, True),
        Row(
            f"its peak memory against {options.small:,} samples",
            f"{memory / 2**20:.0f} MB",
            f"{memory_small / 2**20:.0f} MB",
            memory / memory_small,
            1.5,
            True,
        ),
    ]
    with transaction() as session:
        large, small = manifests.find(session, "large"), manifests.find(session, "small")
        for name in ("large", "small"):
            versions.register(session, f"on-{name}", name, "none", PolicyBody(), "bench")
    asked = Manifest(plain(address), "large", large.id, options.samples)
    few = Manifest(plain(address), "small", small.id, options.small)
    rows.append(independent(few, asked, options.rounds))
    return rows + questions(asked, options.rounds), {}


def measure_batches(options: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    costs = batching.measure(options.ladder, options.rounds)
    held = batching.held(costs)
    print("  tickets a day that one worker holds for one model: " + ", ".join(f"{n:,} at {d}" for d, n in held.items()))
    return batching.rows(costs), {"seconds": {c.tickets: c.work for c in costs}, "tickets_a_day": held}


def plain(address: str) -> str:
    return address.replace("postgresql+psycopg", "postgresql")


PARTS: dict[str, Callable[[argparse.Namespace], tuple[list[Row], dict[str, Any]]]] = {
    "reads": measure_reads,
    "manifests": measure_manifests,
    "batching": measure_batches,
}

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
