"""Charts as plain marks: geometry is made here, `charts.html` writes it as SVG with everything escaped, colour is in the
stylesheet. No script, no inline style; what a chart shows stands in a table beside it as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Attributes = dict[str, str]
WIDTH = 360.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 8.0, 30.0, 36.0
TOPS = (0.05, 0.1, 0.2, 0.25, 0.4, 0.5, 0.6, 0.8, 1.0)
FLOORS = (0.95, 0.9, 0.8, 0.6, 0.5, 0.0)
ROWS = 30
"""Classes that one chart has room for; the table has them all."""
LINE, PAD = 13.0, 7.0
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Mark:
    """One SVG element; `text` is what it encloses."""

    tag: str
    attributes: Attributes
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """`title` is what is told instead of the chart to whoever does not see it, `detail` says more."""

    css: str
    width: float
    height: float
    title: str
    detail: str
    marks: tuple[Mark, ...]


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def rect(css: str, x: float, y: float, width: float, height: float, **more: str) -> Mark:
    place = {"x": number(x), "y": number(y), "width": number(width), "height": number(height)}
    return Mark("rect", {"class": css, **place, **more})


def line(css: str, x1: float, y1: float, x2: float, y2: float) -> Mark:
    return Mark("line", {"class": css, "x1": number(x1), "y1": number(y1), "x2": number(x2), "y2": number(y2)})


def path(css: str, points: Sequence[tuple[float, float]]) -> Mark:
    """Straight from point to point, open and unfilled."""
    return Mark("polyline", {"class": css, "points": " ".join(f"{number(x)},{number(y)}" for x, y in points)})


def circle(css: str, x: float, y: float, radius: float = 4) -> Mark:
    return Mark("circle", {"class": css, "cx": number(x), "cy": number(y), "r": number(radius)})


def words(css: str, x: float, y: float, text: str, anchor: str = "start") -> Mark:
    return Mark("text", {"class": css, "x": number(x), "y": number(y), "text-anchor": anchor}, text)


def percent(value: float) -> str:
    return f"{value * 100:.3g} %"


def short(edge: float) -> str:
    """An edge of a bin, as short as it can be told: .999, 0.5, 12; powers of ten as such."""
    told = f"{edge:.6g}"
    mantissa, exponent = f"{edge:.5e}".split("e")
    if float(mantissa) == 1 and abs(int(exponent)) > 3:
        return f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return told.removeprefix("0") if told.startswith("0.") and len(told) > 3 else told


def intervals(edges: Sequence[float]) -> list[str]:
    """The bins between inner edges, in words, the outermost open."""
    told = [f"{edge:.6g}" for edge in edges]
    inner = [f"{low} – {high}" for low, high in pairwise(told)]
    return [f"below {told[0]}", *inner, f"{told[-1]} and above"]


def quantile(edges: Sequence[float], shares: Sequence[float], level: float) -> str:
    """The bin in which a quantile lies, in words."""
    reached = 0.0
    for told, share in zip(intervals(edges), shares, strict=True):
        reached += share
        if reached >= level - 1e-5:  # shares are rounded
            return told
    raise ValueError("these shares do not add up to one")


@dataclass(frozen=True)
class Frame:
    """The plotting area of a chart, and where a value lies in it."""

    width: float = WIDTH
    height: float = 210.0
    left: float = LEFT
    top: float = TOP
    bottom: float = BOTTOM
    marks: list[Mark] = field(default_factory=list)

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def floor(self) -> float:
        return self.height - self.bottom

    def x(self, share: float) -> float:
        return self.left + share * (self.right - self.left)

    def y(self, share: float) -> float:
        return self.floor - share * (self.floor - self.top)


def distribution(
    name: str,
    quantity: str,
    edges: Sequence[float],
    forget: Sequence[float],
    unseen: Sequence[float],
    shown: tuple[int, int],
    most: float,
) -> Chart:
    """Shares by bin: bars for the forgotten samples, a stepped line for the unseen ones. `shown` are the first bin and the
    one after the last, `most` the upper end of the scale."""
    first, end = shown
    frame, count = Frame(), end - first
    marks = [words("title", frame.left, 12, name)]
    marks += legend(frame, (("forget", "forgotten"), ("unseen", "unseen, alike")))
    for share in (0.0, most / 2, most):
        y = frame.y(share / most)
        marks += [
            line("grid", frame.left, y, frame.right, y),
            words("label", frame.left - 5, y + 3, percent(share), "end"),
        ]
    steps: list[tuple[float, float]] = []
    for place, k in enumerate(range(first, end)):
        low, high = frame.x(place / count), frame.x((place + 1) / count)
        top = frame.y(forget[k] / most)
        if forget[k] > 0:
            marks.append(rect("forget", low + 1, top, max(high - low - 2, 1), frame.floor - top))
        y = frame.y(unseen[k] / most)
        steps += [(low, y), (high, y)]
    marks += [path("unseen", steps), line("axis", frame.left, frame.floor, frame.right, frame.floor)]
    for place, edge in told_edges([(place, edges[k]) for place, k in enumerate(range(first, end - 1), 1)]):
        x = frame.x(place / count)
        marks += [
            line("tick", x, frame.floor, x, frame.floor + 4),
            words("label", x, frame.floor + 15, short(edge), "middle"),
        ]
    marks.append(words("label", frame.x(0.5), frame.height - 4, quantity, "middle"))
    least = f"from {edges[first]:.6g}" if first < len(edges) else ""
    detail = f"Shares of the forgotten samples by bin {least}: " + ", ".join(percent(v) for v in forget[first:end])
    detail += ". Of unseen samples: " + ", ".join(percent(v) for v in unseen[first:end]) + "."
    return Chart(
        "distribution", frame.width, frame.height, f"{name}: distribution of the {quantity}", detail, tuple(marks)
    )


def told_edges(inner: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Those of the edges that there is room to name: powers of ten where edges are evenly apart in the logarithm."""
    even = [high[1] / low[1] for low, high in pairwise(inner) if low[1] > 0]
    if len(inner) > 6 and len(even) == len(inner) - 1 and max(even) < 1.02 * min(even):
        inner = [(place, edge) for place, edge in inner if f"{edge:.0e}".startswith("1e")]
    every = -(-len(inner) // 9)
    return inner[(len(inner) - 1) % every // 2 :: every]


def distributions(
    quantity: str,
    edges: Sequence[float],
    before: tuple[Sequence[float], Sequence[float]],
    after: tuple[Sequence[float], Sequence[float]],
    names: tuple[str, str] = ("Before", "After"),
) -> list[Chart]:
    """Two distributions on one scale: shares of forgotten and of unseen samples each. Bins that are empty on both models, at
    either end, are left out."""
    every = [*before, *after]
    filled = [k for k in range(len(edges) + 1) if any(shares[k] > 0 for shares in every)]
    first, end = max(min(filled) - 1, 0), min(max(filled) + 2, len(edges) + 1)
    most = next((top for top in TOPS if top >= max(map(max, every))), 1.0)
    return [
        distribution(name, quantity, edges, forget, unseen, (first, end), most)
        for name, (forget, unseen) in zip(names, (before, after), strict=True)
    ]


def legend(frame: Frame, entries: Sequence[tuple[str, str]]) -> list[Mark]:
    """To the right above the plot: bars as a square, everything else as a stroke."""
    marks: list[Mark] = []
    x = frame.right - sum(20 + 5.4 * len(text) for _, text in entries)
    for css, text in entries:
        swatch = rect(css, x, 5, 10, 8) if css == "forget" else path(css, [(x, 9), (x + 12, 9)])
        marks += [swatch, words("label", x + 15, 12, text)]
        x += 20 + 5.4 * len(text)
    return marks


def roc(name: str, curves: Sequence[tuple[str, str, Sequence[float], Sequence[float], float]]) -> Chart:
    """Recall against false positives; a curve is a class of the stylesheet, its name, rates, recalls and the area under it."""
    frame = Frame(width=300.0, height=300.0)
    marks = [words("title", frame.left, 12, name)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, x = frame.y(share), frame.x(share)
        marks += [
            line("grid", frame.left, y, frame.right, y),
            line("tick", x, frame.floor, x, frame.floor + 4),
            words("label", frame.left - 5, y + 3, percent(share).removesuffix(" %"), "end"),
            words("label", x, frame.floor + 15, percent(share).removesuffix(" %"), "middle"),
        ]
    marks.append(line("chance", frame.x(0), frame.y(0), frame.x(1), frame.y(1)))
    for css, _, rates, recalls, _ in curves:
        points = [(frame.x(rate), frame.y(recall)) for rate, recall in zip(rates, recalls, strict=True)]
        marks.append(path(f"curve {css}", [(frame.x(0), frame.y(0)), *points]))
    for place, (css, label, _, _, area) in enumerate(curves):
        y = frame.floor - 14 - 15 * (len(curves) - 1 - place)
        marks += [
            path(f"curve {css}", [(frame.x(0.47), y - 3), (frame.x(0.54), y - 3)]),
            words("label strong", frame.x(0.56), y, f"{label}: area {area:.3f}"),
        ]
    marks += [
        line("axis", frame.left, frame.floor, frame.right, frame.floor),
        words("label", frame.x(0.5), frame.height - 4, "unseen samples called members, %", "middle"),
        words("label", frame.left, TOP - 6, "forgotten samples called members, %"),
    ]
    told = ", ".join(f"{label} {area:.3f}" for _, label, _, _, area in curves)
    detail = (
        "Recall on the forgotten samples against false positives among unseen samples of their class; 0.5 is chance."
    )
    return Chart("roc", frame.width, frame.height, f"{name}: area under the ROC curve, {told}", detail, tuple(marks))


def classes(
    labels: Sequence[int],
    n: Sequence[int],
    before: Sequence[int] | None,
    after: Sequence[int],
    names: tuple[str, str] = ("before", "after"),
) -> Chart:
    """A row a class: a hollow dot for the accuracy before, a full one for that after."""
    rows = [
        (label, None if before is None else before[i] / n[i], after[i] / n[i], n[i]) for i, label in enumerate(labels)
    ]
    rows.sort(key=lambda row: row[2] - (row[1] or 0) if before is not None else row[2])
    rows = sorted(rows[:ROWS])
    lowest = min(value for row in rows for value in (row[1], row[2]) if value is not None)
    least = next((floor for floor in FLOORS if floor <= lowest), 0.0)
    frame = Frame(height=TOP + 17.0 * len(rows) + BOTTOM, left=62.0)
    marks: list[Mark] = [words("title", 4, 12, "Accuracy by class")]
    if before is not None:
        start = frame.right - sum(24 + 5.4 * len(name) for name in names)
        for css, name in zip(("dot before", "dot after"), names, strict=True):
            marks += [circle(css, start, 8.5), words("label", start + 8, 12, name)]
            start += 24 + 5.4 * len(name)

    def x(value: float) -> float:
        return frame.x((value - least) / (1 - least))

    for share in (least, (least + 1) / 2, 1.0):
        marks += [
            line("grid", x(share), frame.top - 6, x(share), frame.floor),
            words("label", x(share), frame.floor + 15, percent(share), "end" if share == 1 else "middle"),
        ]
    for place, (label, was, now, _) in enumerate(rows):
        y = frame.top + 17 * place + 5
        marks.append(words("label", frame.left - 12, y + 3.5, f"class {label}", "end"))
        if was is not None:
            marks += [line("change", x(was), y, x(now), y), circle("dot before", x(was), y, 4.5)]
        marks.append(circle("dot after", x(now), y, 3))
    told = ", ".join(
        f"class {label} {percent(now)}" if was is None else f"class {label} {percent(was)} to {percent(now)}"
        for label, was, now, _ in rows
    )
    marks.append(words("label", frame.x(0.5), frame.height - 4, "share of test samples answered right", "middle"))
    return Chart("classes", frame.width, frame.height, "Accuracy by class", f"{told}.", tuple(marks))


def heat(name: str, rows: Sequence[str]) -> Chart:
    """A map: rows of digits, 0 to 9, as cells that are the darker or lighter the more they count."""
    side = 96 / max(len(rows), max(map(len, rows)))
    marks = [rect("cell", 0, 0, side * len(rows[0]), side * len(rows))]
    for i, row in enumerate(rows):
        j = 0
        while j < len(row):
            end = j
            while end < len(row) and row[end] == row[j]:
                end += 1
            if row[j] != "0":
                strength = f"{int(row[j]) / 9:.2f}"
                marks.append(rect("heat", j * side, i * side, (end - j) * side, side, **{"fill-opacity": strength}))
            j = end
    detail = "Rows from above, 0 is nothing and 9 the most: " + ", ".join(rows) + "."
    return Chart("map", side * len(rows[0]), side * len(rows), name, detail, tuple(marks))


@dataclass(frozen=True)
class Box:
    """A step of a flow: what it is, and lines about it. `column` 0 is left, 1 right, None across both; it stands below all
    boxes of its column, and below those of the other one too where it goes across."""

    key: str
    kind: str
    title: str
    lines: tuple[str, ...] = ()
    column: int | None = None
    to: tuple[str, ...] = ()


def flow(title: str, boxes: Sequence[Box]) -> Chart:
    """Boxes from above to below, and an arrow from each to those that it leads to."""
    gap, half = 22.0, 172.0
    bottoms = [2.0, 2.0]
    places: dict[str, tuple[float, float, float, float]] = {}
    marks: list[Mark] = []
    for box in boxes:
        height = PAD * 2 + LINE * (1 + len(box.lines))
        x, width = (40.0, 280.0) if box.column is None else (4.0 + (half + 8) * box.column, half)
        y = max(bottoms) if box.column is None else bottoms[box.column]
        places[box.key] = (x, y, width, height)
        marks += boxed(box, x, y, width, height)
        for column in (0, 1) if box.column is None else (box.column,):
            bottoms[column] = y + height + gap
    for box in boxes:
        for other in box.to:
            marks += arrow(places[box.key], places[other])
    told = ". ".join(f"{box.title}: {', '.join(box.lines)}" if box.lines else box.title for box in boxes)
    return Chart("flow", WIDTH, max(bottoms) - gap + 4, title, f"{told}.", tuple(marks))


def boxed(box: Box, x: float, y: float, width: float, height: float) -> list[Mark]:
    room = int((width - 2 * PAD) / 5.6)
    marks = [rect(f"box {box.kind}", x, y, width, height, rx="4")]
    marks.append(words("title", x + PAD, y + PAD + 9, fitted(box.title, room - 2)))
    for place, text in enumerate(box.lines, 1):
        marks.append(words("label", x + PAD, y + PAD + 9 + LINE * place, fitted(text, room)))
    return marks


def fitted(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def arrow(start: tuple[float, float, float, float], end: tuple[float, float, float, float]) -> list[Mark]:
    """From the lower edge of one box to the upper edge of another below it: straight down, then across, then down."""
    x1, y1 = start[0] + start[2] / 2, start[1] + start[3]
    y2 = end[1] - 1
    x2 = min(max(x1, end[0] + 24), end[0] + end[2] - 24)
    points = [(x1, y1), (x2, y2 - 4)] if x1 == x2 else [(x1, y1), (x1, y2 - 12), (x2, y2 - 12), (x2, y2 - 4)]
    head = [(x2 - 4, y2 - 7), (x2 + 4, y2 - 7), (x2, y2), (x2 - 4, y2 - 7)]
    return [path("arrow", points), path("arrowhead", head)]
