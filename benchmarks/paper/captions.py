"""What the page says of a run in passing: which setting, how much was forgotten, by which command."""

from typing import Any

from benchmarks.paper.forget import DEFAULT_RATIO


def size(record: dict[str, Any]) -> str:
    """A sentence where the run was smaller than its setting."""
    samples = record["settings"]["samples"]
    return f" This run: {samples:,} training samples." if samples else ""


def place(record: dict[str, Any]) -> str:
    """The setting, and the kind of forget set where it is not one at random."""
    suffix = {"random": "", "class": ", forgetting from one class", "subject": ", forgetting whole subjects"}
    return f"{record['setting']}{suffix[record['settings'].get('forget', 'random')]}"


def _forgotten(record: dict[str, Any]) -> str:
    """How much is forgotten, seed by seed where seeds differ."""
    share = f"{record['settings']['ratio']:.0%}"
    match record["settings"].get("forget", "random"):
        case "class":
            drawn = [f"{f['samples']} of {f['class_samples']:,} of class {f['class']}" for f in record["forgotten"]]
            return f"{share} of one class to forget, drawn by the seed ({'; '.join(drawn)})"
        case "subject":
            drawn = [f"{f['samples']} samples of {f['subjects']} subjects" for f in record["forgotten"]]
            return f"subjects with {share} of the samples to forget, drawn by the seed ({'; '.join(drawn)})"
        case _:
            return f"{share} to forget"


def command(record: dict[str, Any]) -> str:
    """The command line of a run, what it was to forget, and the machine."""
    asked, machine = record["settings"], record["machine"]
    given = [f"--setting {record['setting']}"]
    given += [f"--{name} {asked[name]}" for name in ("samples", "width", "epochs") if asked[name] is not None]
    given += [f"--seeds {' '.join(map(str, asked['seeds']))}", f"--retrains {asked['retrains']}"]
    given += [f"--ratio {asked['ratio']:g}"] if asked["ratio"] != DEFAULT_RATIO else []
    given += [f"--forget {asked['forget']}"] if asked.get("forget", "random") != "random" else []
    given += [f"--over {' '.join(asked['over'])}"] if "over" in asked else []
    return (
        f"`python -m benchmarks.paper {asked['command']} {' '.join(given)}`; {_forgotten(record)}, {asked['threads']}"
        f" thread on {machine['cpu']} (shared with other work: compare ratios rather than seconds)."
    )
