"""Charts: where marks lie, that none leaves its frame, and that bars are as high as what they stand for."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import charts
from app.charts import Box, Chart, Mark
from app.pages import templates

SHARES = st.lists(st.floats(0, 1), min_size=4, max_size=4)
EDGES = [0.1, 0.5, 0.9]


def of(chart: Chart, css: str, tag: str) -> list[Mark]:
    return [mark for mark in chart.marks if mark.tag == tag and mark.attributes["class"] == css]


def corners(mark: Mark) -> list[tuple[float, float]]:
    """Where a mark lies, as points; a text by its anchor."""
    place = mark.attributes
    if mark.tag == "polyline":
        return [(float(x), float(y)) for x, y in (point.split(",") for point in place["points"].split())]
    if mark.tag == "line":
        return [(float(place["x1"]), float(place["y1"])), (float(place["x2"]), float(place["y2"]))]
    if mark.tag == "circle":
        return [(float(place["cx"]), float(place["cy"]))]
    x, y = float(place["x"]), float(place["y"])
    return [(x, y), (x + float(place.get("width", 0)), y + float(place.get("height", 0)))]


def inside(chart: Chart) -> None:
    for mark in chart.marks:
        for x, y in corners(mark):
            assert -0.1 <= x <= chart.width + 0.1, mark
            assert -0.1 <= y <= chart.height + 0.1, mark


@settings(deadline=None)  # a slow machine is no defect
@given(SHARES, SHARES, SHARES, SHARES)
def test_distributions_lie_in_their_frame(a: list[float], b: list[float], c: list[float], d: list[float]) -> None:
    a[1] = max(a[1], 0.01)  # somebody is somewhere
    for chart in charts.distributions("loss", EDGES, (a, b), (c, d)):
        inside(chart)


def test_bars_are_as_high_as_their_share_on_one_scale() -> None:
    before, after = charts.distributions(
        "loss", EDGES, ([0.0, 0.5, 0.5, 0.0], [0.25] * 4), ([1.0, 0.0, 0.0, 0.0], [0.25] * 4)
    )
    whole = charts.Frame().floor - charts.Frame().top
    assert [float(bar.attributes["height"]) for bar in of(before, "forget", "rect")[1:]] == [whole / 2] * 2
    assert [float(bar.attributes["height"]) for bar in of(after, "forget", "rect")[1:]] == [whole]
    steps = [y for x, y in corners(of(before, "unseen", "polyline")[-1])]
    assert steps == [pytest.approx(charts.Frame().y(0.25), abs=0.1)] * 8


def test_bins_that_are_empty_everywhere_at_the_ends_are_left_out() -> None:
    edges = [float(edge) for edge in range(20)]
    shares = [0.0] * 10 + [1.0] + [0.0] * 10
    (chart, _) = charts.distributions("loss", edges, (shares, shares), (shares, shares))
    told = [mark.text for mark in chart.marks if mark.tag == "text"]
    assert {"9", "10"} <= set(told)
    assert not {"0", "3", "17"} & set(told)


def test_decades_are_told_where_edges_are_even_in_the_logarithm() -> None:
    edges = [float(f"{10 ** (half / 2):.4g}") for half in range(-16, 7)]
    shares = [1 / 24] * 24
    (chart, _) = charts.distributions("norm", edges, (shares, shares), (shares, shares))
    ticks = [mark.text for mark in chart.marks if mark.tag == "text" and "⁻" in mark.text]
    assert ticks
    assert all(re.fullmatch(r"10⁻[⁴-⁸]", tick) for tick in ticks)


@pytest.mark.parametrize(
    ("edge", "told"), [(0.999, ".999"), (0.5, "0.5"), (1e-8, "10⁻⁸"), (12.5, "12.5"), (0.001, ".001"), (1000.0, "1000")]
)
def test_an_edge_is_told_shortly(edge: float, told: str) -> None:
    assert charts.short(edge) == told


def test_bins_in_words() -> None:
    assert charts.intervals([0.1, 0.5]) == ["below 0.1", "0.1 – 0.5", "0.5 and above"]


@pytest.mark.parametrize(
    ("level", "told"), [(0.1, "below 0.1"), (0.25, "below 0.1"), (0.5, "0.1 – 0.5"), (0.99, "0.5 and above")]
)
def test_a_quantile_is_told_by_its_bin(level: float, told: str) -> None:
    assert charts.quantile([0.1, 0.5], [0.25, 0.25, 0.499999], level) == told


def test_a_roc_curve_runs_from_its_corner() -> None:
    rates = [0.0, 0.5, 1.0]
    chart = charts.roc(
        "loss", (("before", "before", rates, [0.25, 0.75, 1.0], 0.7), ("after", "after", rates, rates, 0.5))
    )
    inside(chart)
    frame = charts.Frame(width=300.0, height=300.0)
    curve = corners(of(chart, "curve before", "polyline")[0])
    assert curve[0] == (frame.x(0), frame.y(0))
    assert curve[1] == (frame.x(0), pytest.approx(frame.y(0.25), abs=0.1))
    assert curve[-1] == (frame.x(1), frame.y(1))
    assert "before 0.700, after 0.500" in chart.title


def test_classes_that_lost_most_are_drawn() -> None:
    many = list(range(charts.ROWS + 10))
    n, before = [10] * len(many), [10] * len(many)
    after = [10] * 10 + [9] * charts.ROWS
    chart = charts.classes(many, n, before, after)
    inside(chart)
    told = [mark.text for mark in chart.marks if mark.text.startswith("class ")]
    assert told == [f"class {label}" for label in range(10, charts.ROWS + 10)]
    only = charts.classes([4], [3], None, [1])
    inside(only)
    assert not of(only, "dot before", "circle")
    assert "class 4 33.3 %" in only.detail


@pytest.mark.parametrize("accuracy", [0, 3, 6, 9, 10])
def test_every_accuracy_finds_its_place(accuracy: int) -> None:
    inside(charts.classes([0, 1], [10, 10], [accuracy, 10], [10, accuracy]))


def test_cells_of_a_map_are_joined_along_a_row() -> None:
    chart = charts.heat("map", ["0099", "0000", "9000", "1111"])
    inside(chart)
    cells = of(chart, "heat", "rect")
    assert [(cell.attributes["width"], cell.attributes["fill-opacity"]) for cell in cells] == [
        ("48", "1.00"),
        ("24", "1.00"),
        ("96", "0.11"),
    ]


def test_boxes_stand_below_each_other_and_arrows_lead_down() -> None:
    boxes = [
        Box("a", "ticket", "a" * 90, ("one",), 0, ("c",)),
        Box("b", "version", "b", ("one", "two", "three"), 1, ("c",)),
        Box("c", "run", "c", (), None, ("d",)),
        Box("d", "bytes", "d"),
    ]
    chart = charts.flow("flow", boxes)
    inside(chart)
    places = [corners(mark) for mark in chart.marks if mark.attributes["class"].startswith("box")]
    (a, b, c, d) = places
    assert a[0][1] == b[0][1]
    assert c[0][1] > max(a[1][1], b[1][1])
    assert d[0][1] > c[1][1]
    arrows = [corners(mark) for mark in of(chart, "arrow", "polyline")]
    assert len(arrows) == 3
    for arrow in arrows:
        assert arrow[0][1] < arrow[-1][1]
    titles = [mark.text for mark in of(chart, "title", "text")]
    assert titles[0].endswith("…")
    assert len(titles[0]) < 40
    assert "a" * 90 in chart.detail, "whoever does not see it is told all"


@pytest.mark.parametrize(
    "make",
    [
        lambda text: charts.flow(text, [Box("a", "ticket", text, (text,))]),
        lambda text: charts.heat(text, ["01"]),
        lambda text: charts.roc(text, (("after", text, [0.0, 1.0], [0.0, 1.0], 0.5),)),
    ],
)
def test_hostile_text_is_text(make: Callable[[str], Chart]) -> None:
    hostile = '"><script>x</script>'
    html = templates.env.from_string('{% import "charts.html" as drawing %}{{ drawing.svg(c) }}').render(
        c=make(hostile)
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html
