"""A statistic out of a verdict. Verdicts of earlier releases have fewer of them, and of some fewer fields."""

from pydantic import BaseModel

from app.schemas import VerdictView


class Figure(BaseModel):
    """One statistic as the verdict keeps it. Rates, not percent."""

    name: str
    estimate: float
    low: float
    high: float
    level: float | None = None
    n: int
    estimator: str = ""
    interval: str = ""
    note: str = ""

    @property
    def shown(self) -> str:
        return f"{self.estimate:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def figure(verdict: VerdictView, name: str) -> Figure | None:
    """A statistic by its name; None where the verdict has none of it."""
    found = verdict.statistics.get(name)
    return None if found is None else Figure.model_validate({**found, "name": name})


def figures(verdict: VerdictView, *names: str) -> list[Figure]:
    """Those of the named statistics that there are, in this order."""
    return [found for name in names if (found := figure(verdict, name)) is not None]
