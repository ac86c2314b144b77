"""Purchase100 as published: 600 binary features and one of 100 classes a row, as csv or npz.

Shokri et al. 2017 (arXiv:1610.05820) made it from Kaggle's "acquire valued shoppers" data. In csv a line is the label
and 600 times 0 or 1, without header. In npz `features` is (N, 600) and `labels` (N,) or one-hot (N, 100). Both kinds of
file count their classes from 1 in the published version and from 0 in some that go round: `first_label` says which, and
is never guessed, since a part of the file might lack a class.
"""

import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unlearning.data.images import checked_labels

FEATURES, CLASSES = 600, 100
LIMIT = 4 << 30
Rows = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_purchase(path: Path, first_label: Literal[0, 1] = 1) -> Rows:
    """features_NF, uint8 of 0 and 1, and labels_N from 0, from a file that ends in .npz or in anything else for csv.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: malformed; says row and offset, or the array.
    """
    if path.suffix == ".npz":
        return _read_npz(path, first_label)
    return parse_csv(path.read_bytes(), first_label, str(path))


def parse_csv(content: bytes, first_label: Literal[0, 1] = 1, name: str = "Purchase100 data") -> Rows:
    """As `read_purchase`, from the bytes of a csv; lines end in a line feed, with or without a carriage return.

    The format does not say how many rows there are: a file that ends early between two of them cannot be told.
    """
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise ValueError(f"{name}: offset 0: there are no rows")
    features_NF = np.empty((len(lines), FEATURES), np.uint8)
    labels_N = np.empty(len(lines), np.int64)
    offset = 0
    for row, line in enumerate(lines):
        label, comma, rest = line.removesuffix(b"\r").partition(b",")
        digits = np.frombuffer(rest, np.uint8)
        if not comma or not label.isdigit() or len(label) > 3:
            raise ValueError(f"{name}: row {row}, offset {offset}: the label is no whole number")
        if len(rest) != 2 * FEATURES - 1 or (digits[1::2] != ord(",")).any() or (digits[::2] & 0xFE != ord("0")).any():
            raise ValueError(f"{name}: row {row}, offset {offset + len(label) + 1}: not {FEATURES} times 0 or 1")
        features_NF[row], labels_N[row] = digits[::2] & 1, int(label)
        offset += len(line) + 1
    return features_NF, checked_labels(labels_N, first_label, first_label + CLASSES - 1, name) - first_label


def _read_npz(path: Path, first_label: Literal[0, 1]) -> Rows:
    arrays: dict[str, NDArray[Any]] = {}
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > LIMIT:
                raise ValueError(f"unpacked it has {size} bytes, more than {LIMIT}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                arrays = {key: found[key] for key in ("features", "labels")}
        except Exception as error:  # a malformed archive fails in many ways: all are one refusal
            raise ValueError(f"{path}: not a sound npz with 'features' and 'labels': {error}") from error
    features, labels = arrays["features"], arrays["labels"]
    if features.ndim != 2 or features.shape[1] != FEATURES or len(features) == 0 or features.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: 'features' is {features.dtype} {features.shape}: numbers of shape (N, {FEATURES}) are read"
        )
    if labels.shape[:1] != (len(features),):
        raise ValueError(f"{path}: {len(features)} rows of features and labels of shape {labels.shape}")
    _refuse_rows((features != 0) & (features != 1), f"{path}: 'features'")
    if labels.ndim == 2 and labels.shape[1] == CLASSES and labels.dtype.kind in "biuf":
        _refuse_rows((labels != 0) & (labels != 1), f"{path}: 'labels'")
        _refuse_rows((labels.sum(axis=1) != 1)[:, None], f"{path}: 'labels', one-hot")
        return features.astype(np.uint8), labels.argmax(axis=1).astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: 'labels' is {labels.dtype} {labels.shape}: integers (N,) or one-hot (N, {CLASSES}) are read"
        )
    checked = checked_labels(labels.astype(np.int64), first_label, first_label + CLASSES - 1, f"{path}: 'labels'")
    return features.astype(np.uint8), checked - first_label


def _refuse_rows(wrong_NF: NDArray[np.bool_], name: str) -> None:
    if wrong_NF.any():
        raise ValueError(f"{name}: row {int(np.argmax(wrong_NF.any(axis=1)))}: not 0 or 1")
