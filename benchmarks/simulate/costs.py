"""What things cost, as other benchmarks have measured it: nothing here is a guess, and each figure says whose it is."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.results import RESULTS


@dataclass(frozen=True)
class Costs:
    """Seconds of one worker; LeNet-5 on one CPU thread. Another network is `times` as slow in everything."""

    retrain_sample: float
    """A retrain, for each training sample: all epochs."""
    prepare_sample: float
    """What follows a publication, for each training sample: a pass with gradients is at most an epoch."""
    update: float
    """The first rung with its validation, whatever it forgets."""
    update_sample: float
    """And for each forgotten sample."""
    second: float
    """The second rung with its validation."""
    intake_rate: float
    """Tickets a second that one API process accepts over HTTP; in the end the rate of the audit log's head."""

    @classmethod
    def measured(cls) -> "Costs":
        """From `make bench-unlearn` and `make bench-intake`."""
        speed, intake = _record("unlearn-speed"), _record("intake")
        count, epochs, retrain = (speed["settings"][name] for name in ("samples", "epochs", "retrain_seconds"))
        one = _seconds(speed, "1 sample of 48,000: one-shot update with its validation")
        many = _seconds(speed, "2400 samples of 48,000: one-shot update with its validation")
        return cls(
            retrain_sample=retrain / count,
            prepare_sample=retrain / epochs / count,
            update=one,
            update_sample=(many - one) / 2399,
            second=_seconds(speed, "2400 samples of 48,000: iau-calibrated with its validation"),
            intake_rate=_number(_row(intake, "tickets/s over HTTP, 4 clients, against bare psycopg behind")["figure"]),
        )

    def times(self, factor: float) -> "Costs":
        """Of a network that takes `factor` times as long."""
        slower = {name: value * factor for name, value in asdict(self).items() if name != "intake_rate"}
        return Costs(**slower, intake_rate=self.intake_rate)


def _record(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _row(record: dict[str, Any], begins: str) -> dict[str, Any]:
    return next(row for row in record["rows"] if row["name"].startswith(begins))


def _seconds(record: dict[str, Any], begins: str) -> float:
    return _number(_row(record, begins)["figure"])


def _number(figure: str) -> float:
    """`0.364 s` or `1011/s`."""
    return float(figure.replace("/s", "").removesuffix(" s"))
