"""Geometry of the drawings: what is inside a threshold is drawn inside, and nothing leaves the picture."""

from app.plots import BOTTOM, HEIGHT, TOP, Interval, Strip, strip


def drawn(*ends: tuple[float, float], threshold: float = 0.1, tried: float | None = None) -> Strip:
    return strip([Interval((low + high) / 2, low, high, "publish", "it") for low, high in ends], threshold, tried)


def test_inside_is_inside_and_outside_is_outside() -> None:
    made = drawn((-0.05, 0.05), (0.12, 0.2), (-0.2, -0.12))
    inside, above, below = made.marks
    assert made.above < inside.top < inside.y < inside.bottom < made.below, "y grows downwards"
    assert above.bottom < made.above
    assert below.top > made.below
    assert made.zero == (made.above + made.below) / 2
    assert [mark.x for mark in made.marks] == sorted(mark.x for mark in made.marks)


def test_one_far_out_is_cut_and_flattens_no_other() -> None:
    made = drawn((-0.05, 0.05), (5.0, 6.0))
    assert made.marks[1].beyond
    assert not made.marks[0].beyond
    for mark in made.marks:
        assert TOP <= mark.top <= mark.bottom <= HEIGHT - BOTTOM
    assert made.marks[0].bottom - made.marks[0].top > 20


def test_a_threshold_that_is_tried_has_lines_of_its_own() -> None:
    assert drawn((0.0, 0.1)).tried is None
    assert drawn((0.0, 0.1), tried=0.1).tried is None, "it is the one in force"
    wider = drawn((0.0, 0.1), tried=0.2)
    assert wider.tried is not None
    assert wider.tried[0] < wider.above < wider.below < wider.tried[1]
    assert [text for _, text in wider.ticks] == ["+0.1", "+0", "-0.1"]
