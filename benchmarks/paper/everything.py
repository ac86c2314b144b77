"""All of the paper's experiments, at sizes that two CPU cores do in a few hours: what docs/experiments.md shows."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.problems_from_files import SETTINGS_FROM_FILES

PLAN = (
    "table --setting lenet-fashion-10k",
    "table --setting lenet-fashion-10k --forget class --ratio 0.2",
    "table --setting lenet-fashion-outliers",
    "table --setting mlp-flights --samples 5000 --epochs 20",
    "table --setting mlp-flights --samples 5000 --epochs 20 --forget subject",
    "table --setting resnet18-fashion --samples 1000 --epochs 12",
    "table --setting vgg19-fashion --samples 1000 --epochs 15",
    "table --setting lenet-fashion",
    "ablation --setting lenet-fashion-10k --samples 4000",
    "gr --setting lenet-fashion-10k",
    "hyper --setting lenet-fashion-10k",
    "maps --setting lenet-fashion-10k",
    "sequence --setting lenet-fashion-10k",
)
SHARED = ("seeds", "device", "threads", "cache")


def run(options: argparse.Namespace, one: Callable[[list[str]], int], tell: Callable[[str], None]) -> int:
    """Every command of the plan, then the table of every data set whose files lie in `--folder`; each goes on from what is
    there."""
    shared = [word for name in SHARED for word in _words(name, getattr(options, name))]
    for line in PLAN:
        tell(line)
        one([*line.split(), *shared])
    for setting, folder in _brought(options.folder):
        try:
            tell(f"table --setting {setting}")
            one(["table", "--setting", setting, "--folder", str(folder), *shared])
        except (OSError, ValueError) as error:
            tell(f"left out: {error}")
    return 0


def _brought(folder: Path | None) -> Iterator[tuple[str, Path]]:
    if folder is not None:
        yield from ((setting.name, folder) for setting in SETTINGS_FROM_FILES)


def _words(name: str, value: object) -> list[str]:
    return [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
