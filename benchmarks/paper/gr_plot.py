"""The plot of trainings side by side: epochs as bars, gradient norms as quantile lines on a logarithmic axis."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from benchmarks.paper import svg
from benchmarks.paper.gr import SETS

WIDE, APART, DEEPEST = 260, 44, 8  # pixels of a panel and between two; decades of its axis at most
BAR, BOX = 10, 9
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
HEADINGS = {"seen": "gradient norm, training samples", "unseen": "gradient norm, unseen samples"}
NOTE = (
    "Bars: epochs, the best one marked. Thick: 25 to 75 %, thin: 5 to 95 %, dot: median, mark: 99 %. Means over seeds."
)


def drawing(record: dict[str, Any]) -> str:
    """Epochs to early stopping, then the norms on training and on unseen samples, a row for each training."""
    regimes = record["regimes"]
    height = svg.TOP + svg.ROW * len(regimes) + svg.BOTTOM + 18
    width = svg.NAMES + svg.PANEL + svg.GAP + (WIDE + APART) * len(SETS)
    title = f"{record['setting']}: trainings to early stopping, and the gradients they leave"
    parts = [svg.text(16, 24, title, "title"), svg.text(16, height - 10, NOTE, "faint")]
    for row, regime in enumerate(regimes):
        parts.append(svg.text(16, _middle(row) + 4, regime["name"], _kind(regime)))
        parts.append(_rule(svg.NAMES, width - svg.GAP, _middle(row), _middle(row)))
    parts += _bars(regimes, svg.NAMES)
    axis = _axis(regimes)
    for number, part in enumerate(SETS):
        left = svg.NAMES + svg.PANEL + svg.GAP + number * (WIDE + APART)
        parts += _boxes(regimes, part, left, axis)
    return svg.whole(width, height, title, parts)


def _bars(regimes: Sequence[dict[str, Any]], left: float) -> list[str]:
    top = svg.nice(max(regime["along"]["epochs"]["high"] for regime in regimes))
    parts = [svg.text(left, 46, f"epochs (0 to {top:g})", "faint")]
    for row, regime in enumerate(regimes):
        kind, y = _kind(regime), _middle(row)
        reach, best = (left + svg.PANEL * regime["along"][name]["mean"] / top for name in ("epochs", "best_epoch"))
        parts.append(_line(kind, left, reach, y, y, BAR))
        parts.append(_line("best", best, best, y - BAR + 1, y + BAR - 1, 2))
    return parts


def _axis(regimes: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """The powers of ten between which every line lies, the lowest cut where it lies too deep."""
    ends = [(regime[part]["q5"]["mean"], regime[part]["q99"]["mean"]) for regime in regimes for part in SETS]
    last = ceil(log10(max([high for _, high in ends if high > 0], default=1.0)))
    first = floor(log10(min([low for low, _ in ends if low > 0], default=0.1)))
    return max(min(first, last - 1), last - DEEPEST), last


def _boxes(regimes: Sequence[dict[str, Any]], part: str, left: float, axis: tuple[int, int]) -> list[str]:
    first, last = axis
    bottom = svg.TOP + svg.ROW * len(regimes)
    parts = [svg.text(left, 46, HEADINGS[part], "faint")]

    def x(value: float) -> float:
        return left + WIDE * max(0.0, (log10(value) - first) / (last - first) if value > 0 else 0.0)

    at = {power: x(10.0**power) for power in range(first, last + 1)}
    parts += [_rule(place, place, svg.TOP - 4, bottom) for place in at.values()]
    named = range(last, first - 1, -1 if last - first <= 4 else -2)
    parts += [svg.text(at[p] - 10, bottom + 16, "10" + str(p).translate(RAISED), "faint") for p in named]
    for row, regime in enumerate(regimes):
        kind, y = _kind(regime), _middle(row)
        q5, q25, q50, q75, q95, q99 = (x(regime[part][f"q{share}"]["mean"]) for share in (5, 25, 50, 75, 95, 99))
        parts += [
            _line(kind, q5, q95, y, y, 2),
            _line(kind, q25, q75, y, y, BOX),
            _line(kind, q99, q99, y - 5, y + 5, 2),
        ]
        parts.append(f'<circle cx="{q50:.1f}" cy="{y:g}" r="3" style="fill: var(--page)"/>')
    return parts


def _middle(row: int) -> float:
    return svg.TOP + svg.ROW * row + svg.ROW / 2


def _kind(regime: dict[str, Any]) -> str:
    return "b" if regime["name"].startswith("GR ") else "a"


def _rule(x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="rule" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:g}" y2="{y2:g}"/>'


def _line(kind: str, x1: float, x2: float, y1: float, y2: float, thick: int) -> str:
    ink = ' style="stroke: var(--ink)"' if kind == "best" else f' class="{kind}"'
    return f'<line{ink} x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:g}" y2="{y2:g}" stroke-width="{thick}"/>'
