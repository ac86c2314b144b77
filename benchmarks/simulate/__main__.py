"""`make simulate`: what the database grows by, measured; then every load, simulated; then the page."""

import argparse
import os
from dataclasses import asdict

from benchmarks.results import RESULTS, Row, finish
from benchmarks.simulate import page, stored
from benchmarks.simulate.costs import Costs
from benchmarks.simulate.loads import LOADS, everything


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--times", type=float, default=1.0, help="how much slower the network is than the measured one")
    options = parser.parse_args()
    costs, kept = Costs.measured().times(options.times), stored.measured()
    found = everything(costs)
    last = {(run["load"], run["waits"]): run for run in found["runs"]}
    rows = [
        Row(
            f"{load}, tickets wait {waits}: workers, against those that are busy",
            f"{run['workers']:,}",
            f"{run['busy_workers']:.2f}",
            run["workers"] / run["busy_workers"],
            None,
            True,
        )
        for (load, waits), run in last.items()
    ]
    settings = {"times": options.times, "seed": LOADS[0].seed}
    code = finish("simulate", rows, settings, found | {"costs": asdict(costs), "stored": kept})
    if options.times == 1:
        page.write()
    print(f"the figures are in {os.path.relpath(RESULTS / 'simulate.json')}, the page in docs/capacity.md")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
