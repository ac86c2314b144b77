"""What a verdict costs over the forward passes that nothing can be judged without; and what an attack without power is called."""

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.policy import informative
from benchmarks.results import Row, in_turns, ratios
from benchmarks.verdict.cases import ForgetSet, Setting
from benchmarks.verdict.run import DECIDE, bench, cases, prepared, rows_folder
from benchmarks.verdict.zoo import CACHE
from unlearning.evidence import gather
from unlearning.gradients import scores
from unlearning.membership import Threshold
from unlearning.validation import validate

AIM = 1.2
ROUNDS = 9


def path_of(setting: Setting, cache: Path = CACHE) -> Path:
    return rows_folder(setting, cache).with_suffix(".cost.json")


def cost(setting: Setting, cache: Path = CACHE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measured now or earlier, with this engine: seconds of a verdict and of bare passes, in turns."""
    path = path_of(setting, cache)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = json.dumps(measure(setting, cache, rounds))
        part = path.with_suffix(f".part-{os.getpid()}")
        part.write_text(made)
        part.replace(path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def measure(setting: Setting, cache: Path, rounds: int) -> dict[str, Any]:
    """The retrain of the first set, judged with the bank. A passing pair goes first, untimed."""
    found = bench(setting, cache)
    asked = cases(setting)[0].asked
    start, standing = prepared(found, 0)
    parent, updated = found.network("original-0"), found.network(f"retrain-{asked.block}-0")
    problem, audit = start.problem, found.audit

    def passes() -> None:
        for part, rows in ((problem.train, asked.indices), (audit.holdout, None), (audit.test, None)):
            scores(updated, problem, part, rows)
        scores(parent, problem, problem.train, asked.indices)

    def verdict() -> None:
        validate(
            gather(standing, parent, updated, problem, asked.indices, audit, None, start.difficulty, found.bank), DECIDE
        )

    verdicts, floor = in_turns(lambda: _timed(verdict), lambda: _timed(passes), rounds=rounds + 1)
    evidence = gather(standing, parent, updated, problem, asked.indices, audit, None, start.difficulty, found.bank)
    blind = replace(evidence, threshold=Threshold(1e9, 0.5, 1, 1))  # every loss is below it
    return {
        **_about(setting, asked),
        "verdict": verdicts[1:],
        "passes": floor[1:],
        "informative": informative(validate(evidence, DECIDE).as_dict()),
        "always_member_informative": informative(validate(blind, DECIDE).as_dict()),
    }


def rows(found: dict[str, Any]) -> list[Row]:
    ratio, spread = ratios(found["verdict"], found["passes"])
    middle, floor = (statistics.median(found[name]) for name in ("verdict", "passes"))
    blind = found["always_member_informative"]
    name = f"{found['setting']}, {found['n']} samples: a verdict with the bank, over bare passes"
    said = "informative" if blind else "uninformative"
    return [
        Row(name, f"{1000 * middle:.0f} ms", f"{1000 * floor:.0f} ms", ratio, AIM, True, spread),
        Row(
            f"{found['setting']}: an attack that calls all members is uninformative", said, "–", 1.0 - blind, 1.0, False
        ),
    ]


def _about(setting: Setting, asked: ForgetSet) -> dict[str, Any]:
    return {"setting": setting.name, "set": asked.name, "n": len(asked.indices)}


def _timed(subject: Callable[[], None]) -> float:
    begun = time.perf_counter()
    subject()
    return time.perf_counter() - begun
