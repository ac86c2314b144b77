"""A training's curve, drawn of what its verdict keeps: the mean loss of each epoch, and of what early stopping watched."""

from collections.abc import Sequence
from math import ceil, floor, log10

from pydantic import BaseModel, Field

from app.charts import TOP, Chart, Frame, Mark, legend, line, path, words


class Epoch(BaseModel):
    """One epoch. Mean losses in loss units, the restriction's part included in the training's."""

    number: int
    train_loss: float
    tuning_loss: float | None = Field(description="Null where the recipe does not stop early")
    tuning_accuracy: float | None


def curve(epochs: Sequence[Epoch]) -> Chart:
    """Loss against epochs, from zero up: two trainings of one model are compared by eye, so the scale begins where all do."""
    frame = Frame(width=420.0)
    watched = [(each.number, each.tuning_loss) for each in epochs if each.tuning_loss is not None]
    lines = [("this", "training", [(each.number, each.train_loss) for each in epochs])]
    lines += [("other", "watched", watched)] if watched else []
    top = rounded(max(loss for _, _, points in lines for _, loss in points))
    last = max(epochs[-1].number, 2)

    def at(number: int, loss: float) -> tuple[float, float]:
        return frame.x((number - 1) / (last - 1)), frame.y(loss / top)

    marks: list[Mark] = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = frame.y(share)
        marks += [
            line("grid", frame.left, y, frame.right, y),
            words("label", frame.left - 5, y + 3, f"{share * top:.3g}", "end"),
        ]
    for number in sorted({1, (last + 1) // 2, last}):
        marks.append(words("label", at(number, 0)[0], frame.floor + 15, str(number), "middle"))
    marks += [path(f"curve {css}", [at(*point) for point in points]) for css, _, points in lines]
    marks += [
        line("axis", frame.left, frame.floor, frame.right, frame.floor),
        words("label", frame.x(0.5), frame.height - 4, "epoch", "middle"),
        words("label", frame.left, TOP - 6, "mean loss"),
        *legend(frame, [(f"curve {css}", name) for css, name, _ in lines]),
    ]
    first, end = epochs[0].train_loss, epochs[-1].train_loss
    title = f"Training loss from {first:.3g} to {end:.3g} in {len(epochs)} epoch{'s' if len(epochs) > 1 else ''}"
    return Chart("distribution", frame.width, frame.height, title, "Mean loss of each epoch.", tuple(marks))


def rounded(value: float) -> float:
    """The next number of one digit that is not below it."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** floor(log10(value))
    return ceil(value / power - 1e-9) * power
