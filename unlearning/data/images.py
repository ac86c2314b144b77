"""What the readers of image sets return."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """pixels_NCHW, uint8, and one class a picture from 0, in the order of the files."""

    pixels_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels_N)


def checked_labels(labels_N: NDArray[np.int64], low: int, high: int, name: str) -> NDArray[np.int64]:
    """The labels as they are.

    Raises:
        ValueError: one lies outside [low, high]; says the row.
    """
    wrong = (labels_N < low) | (labels_N > high)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name}: row {row}: label {labels_N[row]} is not in {low} to {high}")
    return labels_N
