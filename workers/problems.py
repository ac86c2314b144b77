"""From a name to a user's Problem: the entry-point group `expunge.problems`, and nothing that a client could send.

`python -m workers.problems list` names those that are installed; `... manifest NAME` writes one's manifest as CSV.
"""

import csv
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points, version
from typing import cast

from app import manifests
from unlearning.problem import Problem, check

GROUP = "expunge.problems"


class Refused(Exception):
    """The batch cannot be worked off as things are set up; trying again changes nothing. The message says what to do."""


def names() -> list[str]:
    """Names of the installed problems."""
    return sorted({point.name for point in entry_points(group=GROUP)})


@lru_cache(maxsize=4)
def load(name: str) -> Problem:
    """The problem called `name`, checked. Cached: a worker reads a data set once, not once a batch.

    Raises `Refused` when it is not installed here; whatever the problem itself raises passes through.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        known = ", ".join(names()) or "none"
        raise Refused(
            f"No problem {name!r} is installed with this worker (installed: {known}). Install its package here."
        )
    try:
        make = cast("Callable[[], Problem]", found[0].load())
    except (ImportError, AttributeError) as error:
        raise Refused(f"Problem {name!r} is installed but cannot be loaded: {error}. Mend its package here.") from error
    problem = make()
    check(problem)
    return problem


def releases(name: str) -> list[str]:
    """The releases of this service and of the package that the problem comes with."""
    found = [point.dist for point in entry_points(group=GROUP) if point.name == name]
    return sorted(
        {f"{dist.name} {dist.version}" for dist in found if dist is not None} | {f"expunge {version('expunge')}"}
    )


@lru_cache(maxsize=4)
def manifest_digest(name: str) -> str:
    """The digest that the problem's training samples would have as a manifest."""
    train = load(name).train
    return manifests.digest_of(list(train.ids), list(train.subjects))


def load_for(name: str, digest: str) -> Problem:
    """The problem, provided that its training samples are those of the registered manifest, in the same order."""
    problem = load(name)
    if manifest_digest(name) != digest:
        raise Refused(
            f"The training samples of problem {name!r} are not those of the dataset's manifest (ids, subjects or their "
            "order differ). Load the manifest from the problem as a new dataset, or restore the data it was loaded from."
        )
    return problem


def main(arguments: list[str]) -> int:
    """The command behind `expunge datasets load --problem`."""
    match arguments:
        case ["list"]:
            sys.stdout.writelines(f"{name}\n" for name in names())
        case ["manifest", name]:
            train = load(name).train
            writer = csv.writer(sys.stdout)
            writer.writerow(["id", "subject"])
            writer.writerows(zip(train.ids, train.subjects, strict=True))
        case _:
            sys.stderr.write("usage: python -m workers.problems list | manifest NAME\n")
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refused, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
