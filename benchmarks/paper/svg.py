"""A small writer of plots as SVG, readable on light and dark pages: dots with ranges by row, and lines by step.

Each drawing has its own background and follows the reader's colour scheme. Colours are told apart by lightness too, and
every line carries its name at its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

Spread = Mapping[str, float]
KINDS = "cdabe"
ROW, TOP, BOTTOM, NAMES, PANEL, GAP = 22, 62, 34, 176, 200, 26
STYLE = """<style>
svg { --page: #ffffff; --ink: #1f2430; --faint: #6a7180; --rule: #dfe3ea; --a: #1f5fbf; --b: #c2410c; --c: #6a7180; --d: #15803d;
--e: #7e3fb5 }
@media (prefers-color-scheme: dark) {
svg { --page: #14171d; --ink: #e6e9ef; --faint: #9aa3b2; --rule: #2c323d; --a: #7fb2ff; --b: #ffa366; --c: #9aa3b2; --d: #6fd08c;
--e: #c59bf0 }
}
text { font: 12px system-ui, sans-serif; fill: var(--ink) } .faint { fill: var(--faint) }
.title { font-weight: 600; font-size: 14px }
.rule { stroke: var(--rule) } .floor { stroke: var(--d); stroke-dasharray: 4 3 } .range { stroke-width: 2 }
.a { stroke: var(--a) } .b { stroke: var(--b) } .c { stroke: var(--c) } .d { stroke: var(--d) } .e { stroke: var(--e) }
.line { fill: none; stroke-width: 2 }
circle.a { fill: var(--a) } circle.b { fill: var(--b) } circle.c { fill: var(--c) } circle.d { fill: var(--d) }
circle.e { fill: var(--e) }
text.a, text.b, text.c, text.d, text.e { stroke: none } text.a { fill: var(--a) } text.b { fill: var(--b) }
text.c { fill: var(--c) } text.d { fill: var(--d) } text.e { fill: var(--e) }
</style>"""


@dataclass(frozen=True)
class Panel:
    """One measure: its heading, a spread for every row, and the retrains' own value as a dashed line."""

    heading: str
    values: Sequence[Spread]
    floor: float


@dataclass(frozen=True)
class Lines:
    """One measure over steps: its heading, and the means of each chain by name, None where a step has none.

    `ticks` name the steps, which then are marked by dots; without them the first and last are numbered.
    """

    heading: str
    chains: Mapping[str, Sequence[float | None]]
    ticks: Sequence[str] = ()


def dots(title: str, note: str, names: Sequence[str], panels: Sequence[Panel], marked: Sequence[str]) -> str:
    """Rows of dots, mean over seeds, with a bar from lowest to highest; the rows `marked` stand out."""
    height, width = TOP + ROW * len(names) + BOTTOM, NAMES + (PANEL + GAP) * len(panels)
    parts = [text(16, 24, title, "title"), text(16, height - 10, note, "faint")]
    for row, name in enumerate(names):
        y = TOP + ROW * row + ROW / 2
        parts.append(text(16, y + 4, name, "b" if name in marked else ""))
        parts.append(f'<line class="rule" x1="{NAMES}" x2="{width - GAP}" y1="{y}" y2="{y}"/>')
    for number, panel in enumerate(panels):
        left = NAMES + number * (PANEL + GAP)
        top = nice(max([panel.floor, *(value["high"] for value in panel.values)]))
        parts.append(text(left, 46, f"{panel.heading} (0 to {top:g})", "faint"))
        x_floor = left + PANEL * panel.floor / top
        bottom = TOP + ROW * len(names)
        parts.append(f'<line class="floor" x1="{x_floor:.1f}" x2="{x_floor:.1f}" y1="{TOP - 6}" y2="{bottom}"/>')
        for row, (name, value) in enumerate(zip(names, panel.values, strict=True)):
            y, kind = TOP + ROW * row + ROW / 2, "b" if name in marked else "a"
            low, mean, high = (left + PANEL * value[key] / top for key in ("low", "mean", "high"))
            parts.append(f'<line class="range {kind}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
            parts.append(f'<circle class="{kind}" cx="{mean:.1f}" cy="{y}" r="4"/>')
    return whole(width, height, title, parts)


def lines(title: str, note: str, panels: Sequence[Lines]) -> str:
    """Panels side by side, one line a chain from the first step to the last."""
    side, tall, names = 230, 190, 96
    width, height = 40 + (side + names + GAP) * len(panels), TOP + tall + 52
    parts = [text(16, 24, title, "title"), text(16, height - 10, note, "faint")]
    for number, panel in enumerate(panels):
        left = 24 + number * (side + names + GAP)
        top = nice(max(value for values in panel.chains.values() for value in values if value is not None))
        parts.append(text(left, 46, f"{panel.heading} (0 to {top:g})", "faint"))
        for share in (0.0, 0.5, 1.0):
            y = TOP + tall * share
            parts.append(f'<line class="rule" x1="{left}" x2="{left + side}" y1="{y}" y2="{y}"/>')
        ends: list[tuple[float, str, str]] = []
        assert len(panel.chains) <= len(KINDS)
        for kind, (name, values) in zip(KINDS, panel.chains.items(), strict=False):
            found = [(step, value) for step, value in enumerate(values) if value is not None]
            places = [(left + side * s / max(1, len(values) - 1), TOP + tall * (1 - v / top)) for s, v in found]
            parts.append(f'<polyline class="line {kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
            if panel.ticks:
                parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places]
            if places:
                ends.append((places[-1][1], name, kind))
        below = -1e9
        for y, name, kind in sorted(ends):
            below = max(y, below + 14)
            parts.append(text(left + side + 6, below + 4, name, kind))
        steps = len(next(iter(panel.chains.values())))
        named = dict(enumerate(panel.ticks)) or {0: "1", steps - 1: str(steps)}
        for step, tick in named.items():
            x = left + side * step / max(1, steps - 1) - 7 * len(tick) * step / max(1, steps - 1)
            parts.append(text(round(x, 1), TOP + tall + 18, tick, "faint"))
    return whole(width, height, title, parts)


def nice(value: float) -> float:
    """The least of 1, 2 or 5 times a power of ten that is not below a positive value; 1 for zero.

    Raises:
        ValueError: the value is negative.
    """
    if value < 0:
        raise ValueError("an axis from zero holds no negative values")
    if value == 0:
        return 1.0
    unit = 10.0 ** floor(log10(value))
    return next(step * unit for step in (1, 2, 5, 10) if value <= step * unit * (1 + 1e-9))


def text(x: float, y: float, words: str, kind: str) -> str:
    """One line of text, its left end at (x, y)."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def whole(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A drawing of its parts, with its background and styles."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">'
    page = '<rect width="100%" height="100%" rx="6" style="fill: var(--page)"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", STYLE, page, *parts, "</svg>"]) + "\n"
