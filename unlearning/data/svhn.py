"""SVHN's cropped digits as published: `train_32x32.mat` and `test_32x32.mat`, MATLAB 5 files.

Netzer et al. 2011; format: ufldl.stanford.edu/housenumbers. `X` is uint8 of shape (32, 32, 3, N), `y` (N, 1) with the
label 10 for the digit 0.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import loadmat  # type: ignore[import-untyped]  # scipy ships no type information

from unlearning.data.images import Images, checked_labels

HEADER = 128


def read_svhn(path: Path) -> Images:
    """The digits in one file, the label 10 as class 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: malformed; says the offset, variable or row.
    """
    return parse_svhn(path.read_bytes(), str(path))


def parse_svhn(content: bytes, name: str = "SVHN data") -> Images:
    """As `read_svhn`, from bytes; `name` is what an error calls them."""
    _check_elements(content, name)
    try:
        found = loadmat(BytesIO(content), variable_names=["X", "y"])
    except Exception as error:  # scipy fails on malformed files in many ways: all are one refusal
        raise ValueError(f"{name}: not a sound MATLAB 5 file, after offset {HEADER}: {error}") from error
    for variable in ("X", "y"):
        if not isinstance(found.get(variable), np.ndarray):
            raise ValueError(f"{name}: variable {variable!r} is missing")  # noqa: TRY004  # the file is at fault
    pixels, labels = found["X"], found["y"]
    if pixels.ndim == 3:  # MATLAB drops a last dimension of one
        pixels = pixels[..., np.newaxis]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3) or pixels.shape[3] == 0:
        raise ValueError(f"{name}: 'X' is {pixels.dtype} {found['X'].shape}: uint8 of shape (32, 32, 3, N) is read")
    if labels.dtype.kind not in "iuf" or labels.shape != (pixels.shape[3], 1):
        raise ValueError(
            f"{name}: 'y' is {labels.dtype} {labels.shape}: numbers of shape ({pixels.shape[3]}, 1) are read"
        )
    values_N = labels[:, 0]
    broken = ~np.isin(values_N, np.arange(1, 11))
    if broken.any():
        row = int(np.argmax(broken))
        raise ValueError(f"{name}: row {row}: label {values_N[row]} is not in 1 to 10")
    labels_N = checked_labels(values_N.astype(np.int64), 1, 10, name) % 10
    return Images(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)), labels_N)


def _check_elements(content: bytes, name: str) -> None:
    """Walk the top-level elements, each an 8-byte tag and its bytes, to the exact end of the file."""
    if len(content) < HEADER:
        raise ValueError(f"{name}: cut short at offset {len(content)}, within the header of {HEADER} bytes")
    mark = content[126:128]
    if mark not in (b"IM", b"MI"):
        raise ValueError(f"{name}: offset 126: no byte-order mark, this is not MATLAB 5")
    order: str = "little" if mark == b"IM" else "big"
    version = int.from_bytes(content[124:126], "little" if order == "little" else "big")
    if version != 0x0100:
        raise ValueError(f"{name}: offset 124: version 0x{version:04x} is not MATLAB 5's 0x0100")
    offset = HEADER
    while offset < len(content):
        if offset + 8 > len(content):
            raise ValueError(f"{name}: cut short at offset {len(content)}, within the tag of an element")
        size = int.from_bytes(content[offset + 4 : offset + 8], "little" if order == "little" else "big")
        if offset + 8 + size > len(content):
            raise ValueError(
                f"{name}: the element at offset {offset} ends at {offset + 8 + size}, the file at {len(content)}"
            )
        offset += 8 + size
