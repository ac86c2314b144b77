"""The command line: `python -m benchmarks.paper table --setting lenet-fashion-10k --seeds 2`."""

import argparse
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.paper import ablation, everything, gr, gr_report, hyper, hyper_report, maps, maps_report, sequence
from benchmarks.paper.case import Case
from benchmarks.paper.cells import Cells, digest_of, engine_digest
from benchmarks.paper.forget import DEFAULT_RATIO, KINDS, forget_set, forgotten
from benchmarks.paper.report import show, write
from benchmarks.paper.table import run_seed, summary
from benchmarks.paper.tuning import compared, trials
from benchmarks.problems import SETTINGS, Setting
from benchmarks.problems_from_files import SETTINGS_FROM_FILES
from unlearning.problem import Problem

CACHE = Path(__file__).resolve().parent.parent.parent / ".cache" / "bench-paper"


def parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--folder", type=Path, help="where the data lies, for settings whose files you bring")
    shared.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    shared.add_argument("--device", default="cpu")
    shared.add_argument("--threads", type=int, default=1)
    shared.add_argument("--cache", type=Path, default=CACHE, help="where finished pieces are kept")
    sized = argparse.ArgumentParser(add_help=False, parents=[shared])
    names = [setting.name for setting in (*SETTINGS, *SETTINGS_FROM_FILES)]
    sized.add_argument("--setting", choices=names, default="lenet-fashion-10k")
    sized.add_argument("--samples", type=int, help="training samples; the setting's own number by default")
    sized.add_argument("--width", type=int, help="of the network, for settings that have one")
    sized.add_argument("--epochs", type=int, help="the setting's own number by default")
    sized.add_argument("--only-run", action="store_true", help="fill the cache and write no results")
    common = argparse.ArgumentParser(add_help=False, parents=[sized])
    common.add_argument("--retrains", type=int, default=3, help="retrains of each seed, at least 2")
    common.add_argument(
        "--ratio", type=float, default=DEFAULT_RATIO, help="share of the training samples to forget, or of the class"
    )
    common.add_argument(
        "--forget", choices=KINDS, default="random", help="samples at random, of one class, or whole subjects"
    )
    top = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("all", parents=[shared], help="every experiment of docs/experiments.md")
    table = commands.add_parser("table", parents=[common], help="every method against the retrains")
    table.add_argument("--methods", nargs="+", default=compared())
    ablation_of = commands.add_parser("ablation", parents=[common], help="IA, IA+GC and IA+GC+GR")
    ablation_of.add_argument("--alpha", type=float, default=0.005, help="weight of the gradient restriction")
    sequence_of = commands.add_parser("sequence", parents=[common], help="many deletions in a row")
    sequence_of.add_argument("--deletions", type=int, default=20)
    hyper_of = commands.add_parser("hyper", parents=[common], help="the update over eta, alpha and the size of D_f")
    hyper_of.add_argument("--over", choices=hyper.OVER, nargs="+", default=list(hyper.OVER))
    maps_of = commands.add_parser("maps", parents=[common], help="activation maps after every method")
    maps_of.add_argument("--methods", nargs="+", default=compared())
    gr_of = commands.add_parser("gr", parents=[sized], help="trainings with and without GR, by clipping and SignSGD")
    gr_of.add_argument("--alpha", type=float, default=gr.ALPHA, help="weight of the gradient restriction")
    gr_of.add_argument("--patience", type=int, help="10, and 200 epochs, where the setting never stops early")
    gr_of.add_argument("--clip", type=float, nargs="*", default=list(gr.BOUNDS), help="norms to clip at")
    gr_of.add_argument("--rates", type=float, nargs="*", default=list(gr.RATES), help="learning rates of SignSGD")
    return top


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.command == "all":
        return everything.run(options, main, Console(stderr=True).print)
    torch.set_num_threads(options.threads)
    setting = next(s for s in (*SETTINGS, *SETTINGS_FROM_FILES) if s.name == options.setting)
    problem = build(setting, options)
    if options.command == "gr":
        return compare_trainings(setting, problem, options)
    forgetting = drawn(problem, options)
    with progress() as bar:
        task = bar.add_task(setting.name, total=cells_of(options, problem))

        def cases(of: Problem) -> list[Case]:
            def done(name: str) -> None:
                bar.update(task, advance=1, description=f"{setting.name}: {name}")

            return [case_of(of, setting.name, seed, options, done) for seed in options.seeds]

        record = run(setting, problem, options, cases)
    record |= {"setting": setting.name, "paper": setting.paper, "differs": setting.differs}
    record |= {"recipe": repr(problem.recipe), "forgotten": forgetting}
    shows = {"hyper": hyper_report.show, "maps": maps_report.show}
    if options.command in shows:
        shows[options.command](Console(width=170), record, f"{setting.name} ({setting.differs})")
    else:
        show(record)
    if not options.only_run:
        name = "paper" if options.command == "table" else f"paper-{options.command}"
        kept = {key: value for key, value in vars(options).items() if key not in ("cache", "only_run", "folder")}
        kind = "" if options.forget == "random" else f"-{options.forget}"
        write(f"{name}-{setting.name}{kind}", record, kept, problem)
    return 0


def compare_trainings(setting: Setting, problem: Problem, options: argparse.Namespace) -> int:
    """The command `gr`, which forgets nothing and so has no cases."""
    plain = gr.stopping(problem.recipe, options.epochs, options.patience)
    ways = gr.trainings(plain, options.alpha, options.clip, options.rates)
    facts = {name: getattr(options, name) for name in ("setting", "samples", "width", "device", "threads")}
    with progress() as bar:
        task = bar.add_task(setting.name, total=len(options.seeds) * len(ways))

        def working(text: str) -> None:
            bar.update(task, description=f"{setting.name}: {text}")

        found = []
        for seed in options.seeds:
            cells = gr.cells_in(options.cache / setting.name, facts, plain, seed, lambda _: bar.advance(task))
            found.append(gr.run_seed(problem, ways, seed, cells, options.device, working))
    record = gr.summary(ways, found) | {"setting": setting.name, "paper": setting.paper, "differs": setting.differs}
    record |= {"recipe": repr(problem.recipe), "stops_early": problem.recipe.patience is not None}
    gr_report.show(Console(width=170), record, f"{setting.name} ({setting.differs})")
    if not options.only_run:
        kept = {key: value for key, value in vars(options).items() if key not in ("cache", "only_run", "folder")}
        write(f"paper-gr-{setting.name}", record, kept, problem)
    return 0


def run(
    setting: Setting, problem: Problem, options: argparse.Namespace, cases: Callable[[Problem], list[Case]]
) -> dict[str, Any]:
    """The record of one command."""
    match options.command:
        case "table":
            return summary([run_seed(one, options.methods) for one in cases(problem)])
        case "ablation":
            restricted = build(setting, options, alpha=options.alpha, restriction="per-sample")
            with_gr = f"GR per sample, alpha {options.alpha:g}"
            return ablation.run({"plain loss": cases(problem), with_gr: cases(restricted)})
        case "sequence":
            return sequence.run(cases(problem), options.deletions)
        case "maps":
            return maps.run(cases(problem), options.methods)
        case "hyper":
            return vary(setting, problem, options, cases)
        case _:
            raise AssertionError(options.command)


def vary(
    setting: Setting, problem: Problem, options: argparse.Namespace, cases: Callable[[Problem], list[Case]]
) -> dict[str, Any]:
    """The record of the command `hyper`; cases that are the plain ones, of no restriction or of the given ratio, are shared."""
    hyper.check(options.over, problem, options.forget)
    plain = cases(problem)

    def trained(alpha: float) -> list[Case]:
        return cases(build(setting, options, alpha=alpha, restriction="per-sample")) if alpha else plain

    def sized(count: int) -> list[Case]:
        asked = argparse.Namespace(**(vars(options) | {"ratio": count / len(problem.train)}))
        if asked.ratio == options.ratio:
            return plain
        return [replace(case_of(problem, setting.name, one.seed, asked, one.cells.done), base=one) for one in plain]

    return hyper.run(options.over, plain, trained, sized)


def cells_of(options: argparse.Namespace, problem: Problem) -> int:
    """How many cells a command has, for the progress display."""
    seeds, ready, recipe = len(options.seeds), 3 + int(options.retrains), problem.recipe
    match options.command:
        case "table":
            return seeds * (ready + sum(len(trials(name, recipe)) for name in options.methods))
        case "maps":  # as a table, but for nothing; and the maps of nothing, of the retrains, after each method
            tried = sum(len(trials(name, recipe)) for name in options.methods)
            return seeds * (ready + tried + 1 + int(options.retrains) + len(options.methods))
        case "ablation":
            return 2 * seeds * (ready + sum(len(trials(name, recipe)) for name in ablation.PARTS))
        case "hyper":
            return seeds * hyper.cells_of(options.over, len(problem.train), options.ratio, options.retrains)
        case _:
            return seeds * (ready + len(sequence.METHODS) * int(options.deletions))


def build(setting: Setting, options: argparse.Namespace, **more: Any) -> Problem:
    """The setting's problem with the sizes that were asked for.

    Raises:
        ValueError: the setting has no such size, or needs a folder.
    """
    asked = {"train_size": options.samples, "width": options.width, "epochs": options.epochs, "folder": options.folder}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None} | more
    takes = inspect.signature(setting.build).parameters
    for name in given:
        if name not in takes:
            raise ValueError(f"setting {setting.name!r} takes no {name} (it takes {', '.join(takes)})")
    return setting.build(**given)


def sizes(options: argparse.Namespace) -> dict[str, Any]:
    """What a case's cells depend on, beside the code."""
    names = ("setting", "samples", "width", "epochs", "ratio", "device", "threads", "retrains")
    return {name: getattr(options, name) for name in names}


def case_of(
    problem: Problem, setting: str, seed: int, options: argparse.Namespace, done: Callable[[str], None]
) -> Case:
    """The case of one seed; its cells lie under the digest of code and settings. The number of retrains is none of them."""
    facts = {name: value for name, value in sizes(options).items() if name != "retrains"}
    facts |= {} if options.forget == "random" else {"forget": options.forget}
    key = digest_of(facts | {"seed": seed, "recipe": repr(problem.recipe), "code": engine_digest()})
    cells = Cells(options.cache / setting / f"seed-{seed}-{key[:16]}", done)
    forget = forget_set(problem, options.ratio, seed, options.forget)
    return Case(problem, forget, seed, options.retrains, cells, options.device)


def drawn(problem: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What each seed forgets; before anything is trained, so that what cannot be drawn is refused at once.

    Raises:
        ValueError: names the setting and why it cannot forget in this way.
    """
    try:
        sets = [forget_set(problem, options.ratio, seed, options.forget) for seed in options.seeds]
    except ValueError as error:
        raise ValueError(f"setting {options.setting!r}: {error}") from error
    return [
        {"seed": seed} | forgotten(problem, forget, options.forget)
        for seed, forget in zip(options.seeds, sets, strict=True)
    ]


def progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(str(error))
