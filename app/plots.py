"""Geometry of the pages' drawings: numbers become coordinates here, templates draw lines, style sheets give colour."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 180
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 24
FARTHEST = 2.5
"""Thresholds from zero that are still drawn: one verdict far out must not flatten all others."""


@dataclass(frozen=True)
class Interval:
    """One verdict's statistic: where it lies, and what it was part of."""

    estimate: float
    low: float
    high: float
    decision: str
    says: str


@dataclass(frozen=True)
class Mark:
    """An interval as it is drawn. `beyond`: it goes on outside the drawing."""

    x: float
    y: float
    top: float
    bottom: float
    decision: str
    says: str
    beyond: bool


@dataclass(frozen=True)
class Strip:
    """Verdicts side by side, oldest first, between a threshold's two lines."""

    width: int
    height: int
    left: int
    right: int
    zero: float
    above: float
    below: float
    tried: tuple[float, float] | None
    ticks: list[tuple[float, str]]
    marks: list[Mark]


def strip(found: Sequence[Interval], threshold: float, tried: float | None = None) -> Strip:
    """Past intervals over ±threshold, and over another one that is tried."""
    largest = max(threshold, tried or 0.0)
    reach = max([largest, *(max(abs(each.low), abs(each.high)) for each in found)])
    reach = min(reach, FARTHEST * largest) * 1.1
    middle, half = (TOP + HEIGHT - BOTTOM) / 2, (HEIGHT - BOTTOM - TOP) / 2

    def y(value: float) -> float:
        return round(middle - max(-1.0, min(1.0, value / reach)) * half, 2)

    room = WIDTH - LEFT - RIGHT
    marks = [
        Mark(
            x=round(LEFT + room * (index + 0.5) / len(found), 2),
            y=y(each.estimate),
            top=y(each.high),
            bottom=y(each.low),
            decision=each.decision,
            says=each.says,
            beyond=max(abs(each.low), abs(each.high)) > reach,
        )
        for index, each in enumerate(found)
    ]
    return Strip(
        WIDTH,
        HEIGHT,
        LEFT,
        WIDTH - RIGHT,
        y(0.0),
        y(threshold),
        y(-threshold),
        (y(tried), y(-tried)) if tried is not None and tried != threshold else None,
        [(y(value), f"{value:+g}") for value in (threshold, 0.0, -threshold)],
        marks,
    )
