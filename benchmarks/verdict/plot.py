"""The plots of a qualification: estimate against truth, what is published by size, and what a threshold lets through."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from statistics import median

from benchmarks.paper import svg
from benchmarks.verdict.judged import FEW, MIDDLE, MU, Judged
from benchmarks.verdict.report import DESIGN, SOURCES, sizes, spelt

SIDE, TALL, APART, LEFT, TOP = 340, 340, 70, 62, 66
ROUND = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
GRID = tuple(round(0.02 + 0.01 * step, 2) for step in range(19))
ARMS = {"nothing": "c", "another": "e", "retrain": "d", "iau": "b", "iau-calibrated": "a"}
CALLED = {
    "nothing": "nothing",
    "another": "another original",
    "retrain": "retrain",
    "iau": "iau",
    "iau-calibrated": "iau-calibrated",
}
HEADINGS = {"holdout": "by unseen data", "bank": "by the bank"}
Point = tuple[float, float]


def plots(name: str, points: dict[str, list[Judged]]) -> dict[str, str]:
    """Drawings by file name; where all sets are of one size, nothing is drawn by size."""
    found = {}
    for setting, judged in points.items():
        found[f"{name}-ue-{setting}.svg"] = estimates(setting, judged)
        if len(sizes(judged)) > 1:
            found[f"{name}-published-{setting}.svg"] = published(setting, judged)
    return found | {f"{name}-thresholds-{source}.svg": thresholds(source, points) for source in SOURCES}


def estimates(setting: str, judged: list[Judged]) -> str:
    """UE as estimated, with the interval that decides, against its truth; a panel a source."""
    shown = [one for one in judged if one.n >= FEW and not one.diverged and one.arm != "ten-times"]
    shown.sort(key=lambda one: list(ARMS).index(_arm(one)))
    ends = [value for one in shown for value in (one.low, one.high, _truth(one))]
    axis = _ticks(min([0.0, *ends]), max([0.0, *ends]))
    parts = []
    for number, source in enumerate(SOURCES):
        frame = Frame(LEFT + number * (SIDE + APART), axis, axis)
        parts += frame.drawn(HEADINGS[source], "true UE", "estimated UE" if number == 0 else "")
        low, high = axis[0], axis[-1]
        parts.append(frame.line("c", (low, low), (high, high), 'stroke-dasharray="4 3"'))
        for one in (one for one in shown if one.source == source):
            kind, x = ARMS[_arm(one)], _truth(one)
            parts.append(frame.line(f"{kind}", (x, one.low), (x, one.high), 'stroke-opacity="0.3"'))
        for one in (one for one in shown if one.source == source):
            parts.append(frame.dot(ARMS[_arm(one)], (_truth(one), one.ue), 2.8))
    width = LEFT + len(SOURCES) * SIDE + (len(SOURCES) - 1) * APART + 24
    there = [arm for arm in ARMS if any(_arm(one) == arm for one in shown)]
    notes = [
        f"A dot is an update of {FEW} samples or more; its line the interval of 90 % that decides. True: mean over retrains.",
        "Dashed: the estimate is the truth.",
    ]
    named = key(LEFT, TOP + TALL + 56, [(ARMS[arm], CALLED[arm]) for arm in there])
    return whole(width, f"{setting}: UE as estimated and in truth", notes, [*parts, *named], TOP + TALL + 56)


def published(setting: str, judged: list[Judged]) -> str:
    """The share published by number of samples, of doing nothing, of retrains and of the second rung."""
    arms = ("nothing", "retrain", "iau-calibrated")
    shown = [one for one in judged if one.source in SOURCES and _arm(one) in arms]
    steps = {size: step for step, size in enumerate(sizes(shown))}
    ticks, shares = [size.rpartition(" ")[2] for size in steps], tuple(share / 4 for share in range(5))
    parts = []
    for number, source in enumerate(SOURCES):
        frame = Frame(LEFT + number * (SIDE + APART), tuple(steps.values()), shares)
        parts += frame.drawn(
            HEADINGS[source],
            "samples",
            "share published" if number == 0 else "",
            ticks,
        )
        of_one = [step for size, step in steps.items() if size.startswith("class")]
        if of_one:
            parts.append(svg.text(frame.at((of_one[0], 1))[0] + 4, TOP + 14, "of one class", "faint"))
        for arm in arms:
            for of_class in (False, True):
                line = []
                for size, step in steps.items():
                    found = [o for o in shown if o.source == source and _arm(o) == arm and o.size == size]
                    if found and size.startswith("class") == of_class:
                        line.append((step, _share(found, lambda one: one.published(MIDDLE))))
                parts += frame.path(ARMS[arm], line)
    width = LEFT + len(SOURCES) * SIDE + (len(SOURCES) - 1) * APART + 24
    named = key(LEFT, TOP + TALL + 56, [(ARMS[arm], CALLED[arm]) for arm in arms])
    note = f"Thresholds: UE {MIDDLE:g}, MU {MU:g}. Below {FEW} samples no rate of UE is asked for."
    title = f"{setting}: what is published, by number of samples"
    return whole(width, title, [note], [*parts, *named], TOP + TALL + 56)


def thresholds(source: str, points: dict[str, list[Judged]]) -> str:
    """Of true retrains: the share published against the threshold of UE, of many samples and of about a hundred; and the
    half-width of UE's interval against the number of samples."""
    retrains = {
        name: [one for one in found if one.retrain and one.source == source and one.n >= FEW]
        for name, found in points.items()
    }
    kinds = dict(zip(retrains, "adbec", strict=False))
    assert len(kinds) == len(retrains)
    ticks, shares = (0.0, 0.05, 0.1, 0.15, 0.2), tuple(share / 4 for share in range(5))
    parts = []
    groups: list[tuple[str, Callable[[Judged], bool]]] = [
        (f"{spelt(DESIGN)} of the samples", lambda one: one.size == DESIGN),
        (f"fewer, {FEW} samples or more", lambda one: one.size != DESIGN),
    ]
    every = [one for found in retrains.values() for one in found]
    groups = [(heading, holds) for heading, holds in groups if any(map(holds, every))]
    for number, (heading, holds) in enumerate(groups):
        frame = Frame(LEFT + number * (SIDE + APART), ticks, shares)
        parts += frame.drawn(heading, "threshold of UE", "retrains published" if number == 0 else "")
        for name, found in retrains.items():
            asked = [one for one in found if holds(one)]
            if asked:
                parts += frame.path(kinds[name], [(ue, _share(asked, _passes(ue))) for ue in GRID], dots=False)
    parts += _half_widths(retrains, kinds, LEFT + len(groups) * (SIDE + APART))
    width = LEFT + (len(groups) + 1) * SIDE + len(groups) * APART + 24
    named = key(LEFT, TOP + TALL + 56, [(kinds[name], name) for name in retrains])
    notes = [
        "Shares are of retrains, which ought all to be published. Half-widths are medians by number of samples;",
        "what is of one class lies by itself.",
    ]
    return whole(
        width, f"What a threshold of UE lets through, {HEADINGS[source]}", notes, [*parts, *named], TOP + TALL + 56
    )


def _half_widths(retrains: dict[str, list[Judged]], kinds: dict[str, str], left: float) -> list[str]:
    """Medians by size; what is of one class lies by itself."""
    found = {name: [(size, [o for o in of if o.size == size]) for size in sizes(of)] for name, of in retrains.items()}
    places = {
        name: [(size, log10(median(o.n for o in of)), median((o.high - o.low) / 2 for o in of)) for size, of in each]
        for name, each in found.items()
    }
    every = [place for each in places.values() for place in each]
    ends = [x for _, x, _ in every] or [log10(FEW)]
    numbers = [n for n in ROUND if log10(n) >= min(ends) - 0.31 and log10(n) <= max(ends) + 0.4]
    frame = Frame(left, [log10(n) for n in numbers], _ticks(0.0, max((y for _, _, y in every), default=0.1)))
    parts = frame.drawn("half-width of UE's interval of 90 %", "samples", "", [f"{n:,}" for n in numbers])
    for name, each in places.items():
        for of_class in (False, True):
            parts += frame.path(kinds[name], [(x, y) for size, x, y in each if size.startswith("class") == of_class])
    return parts


class Frame:
    """A panel: where its values lie on the page."""

    def __init__(self, left: float, across: Sequence[float], up: Sequence[float]) -> None:
        self.left, self.across, self.up = left, across, up

    def at(self, point: Point) -> Point:
        x = (point[0] - self.across[0]) / ((self.across[-1] - self.across[0]) or 1.0)
        y = (point[1] - self.up[0]) / ((self.up[-1] - self.up[0]) or 1.0)
        return self.left + SIDE * x, TOP + TALL * (1 - y)

    def drawn(self, heading: str, under: str, beside: str, named: Sequence[str] = ()) -> list[str]:
        """Grid, ticks and names of the axes."""
        parts = [svg.text(self.left, 52, heading, "faint")]
        for place, value in enumerate(self.across):
            parts.append(self.line("rule", (value, self.up[0]), (value, self.up[-1])))
            x, y = self.at((value, self.up[0]))
            parts.append(_middle(x, y + 16, named[place] if named else f"{value:g}"))
        for value in self.up:
            parts.append(self.line("rule", (self.across[0], value), (self.across[-1], value)))
            x, y = self.at((self.across[0], value))
            parts.append(_end(x - 6, y + 4, f"{value:g}"))
        parts.append(_middle(self.left + SIDE / 2, TOP + TALL + 34, under))
        if beside:
            x, y = self.left - 44, TOP + TALL / 2
            turned = f'text-anchor="middle" transform="rotate(-90 {x:g} {y:g})"'
            parts.append(svg.text(x, y, beside, "faint").replace("<text ", f"<text {turned} ", 1))
        return parts

    def line(self, kind: str, begin: Point, end: Point, more: str = "") -> str:
        (x1, y1), (x2, y2) = self.at(begin), self.at(end)
        return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'

    def dot(self, kind: str, point: Point, radius: float) -> str:
        x, y = self.at(point)
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill-opacity="0.8"/>'

    def path(self, kind: str, points: Sequence[Point], dots: bool = True) -> list[str]:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, points))
        if not points:
            return []
        marks = [self.dot(kind, point, 3.2) for point in points] if dots else []
        return [f'<polyline class="line {kind}" points="{places}"/>', *marks]


def _arm(one: Judged) -> str:
    return "retrain" if one.retrain else one.arm


def _truth(one: Judged) -> float:
    return sum(one.true_ue) / len(one.true_ue)


def _share(found: Sequence[Judged], holds: Callable[[Judged], bool]) -> float:
    return sum(map(holds, found)) / len(found)


def _passes(ue: float) -> Callable[[Judged], bool]:
    return lambda one: one.least is not None and one.least <= ue


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Round numbers, five to ten, that hold both."""
    step = svg.nice(max((high - low) / 8, 1e-3))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return tuple(round(step * number, 6) for number in range(first, max(last, first + 1) + 1))


def _middle(x: float, y: float, words: str) -> str:
    return svg.text(x, y, words, "faint").replace("<text ", '<text text-anchor="middle" ', 1)


def _end(x: float, y: float, words: str) -> str:
    return svg.text(x, y, words, "faint").replace("<text ", '<text text-anchor="end" ', 1)


def key(x: float, y: float, named: Sequence[tuple[str, str]]) -> list[str]:
    parts = []
    for kind, words in named:
        parts += [f'<circle class="{kind}" cx="{x:g}" cy="{y - 4:g}" r="4"/>', svg.text(x + 9, y, words, kind)]
        x += 32 + 7 * len(words)
    return parts


def whole(width: float, title: str, notes: Sequence[str], parts: Sequence[str], bottom: float) -> str:
    head = svg.text(16, 24, title, "title")
    said = [svg.text(16, bottom + 24 + 18 * number, note, "faint") for number, note in enumerate(notes)]
    return svg.whole(width, bottom + 24 + 18 * len(notes), title, [head, *parts, *said])
