"""A figure with its interval, and all figures of a validation by name."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

LEVEL = 0.90


@dataclass(frozen=True)
class Statistic:
    """One figure with its two-sided interval; `n` is the number of samples it is about. Rates, not percent."""

    name: str
    estimate: float
    low: float
    high: float
    level: float
    n: int
    estimator: str
    interval: str
    note: str

    def __post_init__(self) -> None:
        if not all(map(isfinite, (self.estimate, self.low, self.high))):
            raise ValueError(f"{self.name} is not finite: it can be neither judged nor recorded")


@dataclass(frozen=True)
class Statistics:
    """All figures of one validation, by name, in a fixed order."""

    values: tuple[Statistic, ...]

    def __getitem__(self, name: str) -> Statistic:
        for statistic in self.values:
            if statistic.name == name:
                return statistic
        raise KeyError(name)

    def __iter__(self) -> Iterator[Statistic]:
        return iter(self.values)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain numbers and text, for JSON."""
        return {statistic.name: asdict(statistic) for statistic in self.values}
