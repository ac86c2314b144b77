"""CIFAR-10 and CIFAR-100 as published: the binary version, and the version of pickles for Python.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; format: www.cs.toronto.edu/~kriz/cifar.html.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unlearning.data.array_pickle import parse_arrays
from unlearning.data.images import Images, checked_labels

Kind = Literal["cifar10", "cifar100"]
PIXELS = 3 * 32 * 32
CLASSES: dict[Kind, int] = {"cifar10": 10, "cifar100": 100}
COARSE = 20
TRAIN: dict[Kind, list[str]] = {"cifar10": [f"data_batch_{part}" for part in range(1, 6)], "cifar100": ["train"]}
TEST: dict[Kind, list[str]] = {"cifar10": ["test_batch"], "cifar100": ["test"]}


def read_cifar(folder: Path, kind: Kind) -> tuple[Images, Images]:
    """Training and test images from the unpacked folder: binary where it is there (`.bin`), else the pickles.

    Raises:
        ValueError: an unknown kind, files that are missing, or one that is malformed; says which and where.
    """
    if kind not in CLASSES:
        raise ValueError(f"kind is {kind!r}: use 'cifar10' or 'cifar100'")
    names = TRAIN[kind] + TEST[kind]
    for ending in (".bin", ""):
        paths = {name: folder / f"{name}{ending}" for name in names}
        there = [path for path in paths.values() if path.is_file()]
        if there and len(there) < len(paths):
            missing = ", ".join(path.name for path in paths.values() if path not in there)
            raise ValueError(f"{folder}: {kind} is not whole: {missing} missing")
        if there:
            parse = parse_binary if ending else parse_python
            parts = {name: parse(path.read_bytes(), kind, str(path)) for name, path in paths.items()}
            return _joined([parts[name] for name in TRAIN[kind]]), _joined([parts[name] for name in TEST[kind]])
    raise ValueError(f"{folder}: {kind} is not here: there is neither {names[0]}.bin nor {names[0]}")


def parse_binary(content: bytes, kind: Kind, name: str = "CIFAR data") -> Images:
    """The images in a binary file: a record is the label (CIFAR-100: coarse, then fine) and 3,072 bytes, red, green, blue.

    Raises:
        ValueError: no records, a record cut short, or a label out of range; says offset or row.
    """
    labels = 2 if kind == "cifar100" else 1
    size = labels + PIXELS
    if len(content) == 0 or len(content) % size:
        start = len(content) - len(content) % size
        raise ValueError(f"{name}: the record at offset {start} is cut short: {len(content) - start} of {size} bytes")
    records_NR = np.frombuffer(content, np.uint8).reshape(-1, size)
    if labels == 2:
        checked_labels(records_NR[:, 0].astype(np.int64), 0, COARSE - 1, f"{name}: coarse label")
    fine_N = checked_labels(records_NR[:, labels - 1].astype(np.int64), 0, CLASSES[kind] - 1, name)
    return Images(records_NR[:, labels:].reshape(-1, 3, 32, 32).copy(), fine_N)


def parse_python(content: bytes, kind: Kind, name: str = "CIFAR data") -> Images:
    """The images in a pickled dict: `data`, uint8 of shape (N, 3072), and `labels` (CIFAR-100: `fine_labels`).

    Nothing in the pickle is run; see `unlearning.data.array_pickle`.

    Raises:
        ValueError: not such a pickle, or it names anything but arrays; says offset, key or row.
    """
    found = parse_arrays(content, name)
    key = "fine_labels" if kind == "cifar100" else "labels"
    for wanted in ("data", key):
        if wanted not in found:
            raise ValueError(f"{name}: key {wanted!r} is missing")
    data = found["data"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        seen = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(f"{name}: 'data' is {seen}: uint8 of shape (N, {PIXELS}) is read")
    labels_N = _integers(found[key], key, name)
    if len(labels_N) != len(data) or len(data) == 0:
        raise ValueError(f"{name}: {len(data)} images and {len(labels_N)} labels")
    return Images(data.reshape(-1, 3, 32, 32), checked_labels(labels_N, 0, CLASSES[kind] - 1, name))


def _integers(values: Any, key: str, name: str) -> NDArray[np.int64]:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        return values.astype(np.int64)
    if not isinstance(values, list):
        raise ValueError(f"{name}: {key!r} is no list of integers")  # noqa: TRY004  # the file is at fault
    for row, value in enumerate(values):
        if type(value) is not int or not 0 <= value < 256:
            raise ValueError(f"{name}: row {row}: the label is no integer from 0 to 255")
    return np.array(values, dtype=np.int64)


def _joined(parts: list[Images]) -> Images:
    return Images(
        np.concatenate([part.pixels_NCHW for part in parts]), np.concatenate([part.labels_N for part in parts])
    )
