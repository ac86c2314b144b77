"""The curve of a training: where its points lie, and what stands in words beside them."""

import pytest

from app.charts import BOTTOM, LEFT, RIGHT, TOP
from app.curves import Epoch, curve, rounded


def epochs(*losses: float, watched: bool = False) -> list[Epoch]:
    return [
        Epoch(number=n, train_loss=loss, tuning_loss=loss + 0.1 if watched else None, tuning_accuracy=None)
        for n, loss in enumerate(losses, start=1)
    ]


def points(found: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.split())]


def test_it_goes_from_the_first_epoch_to_the_last() -> None:
    made = curve(epochs(2.0, 1.0, 0.5))
    (drawn,) = [points(m.attributes["points"]) for m in made.marks if m.attributes.get("class") == "curve this"][:1]
    assert [x for x, _ in drawn] == [LEFT, (LEFT + made.width - RIGHT) / 2, made.width - RIGHT]
    floor, top = made.height - BOTTOM, TOP
    assert [y for _, y in drawn] == pytest.approx([top, (floor + top) / 2, floor - (floor - top) / 4], abs=0.1)
    assert made.title == "Training loss from 2 to 0.5 in 3 epochs"


def test_what_was_watched_is_a_line_of_its_own() -> None:
    kinds = {m.attributes.get("class") for m in curve(epochs(1.0, 0.5, watched=True)).marks}
    assert {"curve this", "curve other"} <= kinds
    assert "curve other" not in {m.attributes.get("class") for m in curve(epochs(1.0, 0.5)).marks}


def test_one_epoch_and_a_loss_of_nothing_can_be_drawn() -> None:
    assert curve(epochs(0.0)).title == "Training loss from 0 to 0 in 1 epoch"


@pytest.mark.parametrize(("value", "top"), [(0.0, 1.0), (0.31, 0.4), (2.0, 2.0), (2.01, 3.0), (97.0, 100.0)])
def test_the_scale_ends_on_a_round_number(value: float, top: float) -> None:
    assert rounded(value) == pytest.approx(top)
