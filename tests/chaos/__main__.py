"""`python -m tests.chaos --runs 500 --seed 7`: so many runs, or what is left of them, each checked; the results as a table.

A violation ends everything and names the run; `--only K` replays run K of the seed on a stack of its own.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.ground import Ground
from tests.chaos.plan import Kind, plan
from tests.chaos.results import Results
from tests.chaos.run import Record, Run
from tests.chaos.stack import running
from tests.servers import short_folder


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    kinds = tuple(Kind(name) for name in options.kinds.split(",")) if options.kinds else tuple(Kind)
    settings = {
        "seed": options.seed,
        "tickets": options.tickets,
        "seconds": options.seconds,
        "kinds": [kind.value for kind in kinds],
    }
    results = Results.resumed(settings, fresh=options.fresh) if options.only is None else Results(settings)
    wanted = [options.only] if options.only is not None else results.left(options.runs)
    begun = time.monotonic()
    while wanted:
        with ground() as here:
            for number in wanted[: options.stack_runs]:
                made = Run(here, plan(options.seed, number, options.tickets, options.seconds, kinds)).carry_out()
                results.add(made)
                sys.stdout.write(told(made) + "\n")
                sys.stdout.flush()
                wanted.remove(number)
                if made.violation is not None:
                    sys.stderr.write(f"replay it: make chaos SEED={options.seed} ONLY={number}\n")
                    wanted = []
                    break
                if options.minutes is not None and time.monotonic() - begun > 60 * options.minutes:
                    wanted = []
                    break
        if options.only is None:
            results.save(quietly=bool(wanted))
    return int(any(record["violation"] is not None for record in results.records))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    made.add_argument(
        "--runs", type=int, default=20, help="runs in all, those of earlier calls with the same seed included"
    )
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--only", type=int, help="replay this run alone; nothing is written")
    made.add_argument("--minutes", type=float, help="begin no further run after so many minutes")
    made.add_argument("--tickets", type=int, default=4, help="tickets a run")
    made.add_argument("--seconds", type=float, default=3.0, help="over which a run's requests and faults are spread")
    made.add_argument("--kinds", default="", help="kinds of faults, with commas between them: " + ", ".join(Kind))
    made.add_argument("--stack-runs", type=int, default=25, help="runs on one stack before it is renewed")
    made.add_argument("--fresh", action="store_true", help="forget the results of earlier calls")
    return made


@contextmanager
def ground() -> Iterator[Ground]:
    with short_folder() as folder, running(folder) as stack:
        made = Ground(stack)
        try:
            yield made
        finally:
            made.close()


def told(made: Record) -> str:
    """A run as one line."""
    kinds = ", ".join(made.kinds) or "nothing happened"
    line = f"run {made.run}: {made.tickets} tickets, {kinds}; recovered in {made.recovery:.1f} s, {made.seconds:.1f} s in all"
    return line if made.violation is None else f"{line}\n  VIOLATION {made.violation}"


if __name__ == "__main__":
    sys.exit(main())
