"""SVHN's MATLAB files."""

import itertools
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from unlearning.data.svhn import parse_svhn, read_svhn

PIXELS = np.random.default_rng(6).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
LABELS = np.array([[1], [10], [9], [5]], dtype=np.uint8)


def mat(compressed: bool = False, **variables: Any) -> bytes:
    file = BytesIO()
    savemat(file, {"X": PIXELS, "y": LABELS, **variables}, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_the_label_ten_is_the_digit_zero_and_channels_come_first(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(mat(compressed))
    found = read_svhn(tmp_path / "train_32x32.mat")
    assert found.labels_N.tolist() == [1, 0, 9, 5]
    assert found.pixels_NCHW.shape == (4, 3, 32, 32)
    assert found.pixels_NCHW[2, 1, 3, 4] == PIXELS[3, 4, 1, 2]


def test_one_digit_alone_and_labels_as_floats() -> None:
    found = parse_svhn(mat(X=PIXELS[..., :1], y=LABELS[1:2].astype(float)))
    assert found.labels_N.tolist() == [0]
    np.testing.assert_array_equal(found.pixels_NCHW[0], PIXELS[..., 0].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cut short at offset 0"),
        (mat()[:100], "cut short at offset 100"),
        (mat()[:126] + b"XX" + mat()[128:], "offset 126"),
        (mat()[:124] + b"\x00\x02" + mat()[126:], "offset 124: version 0x0200"),
        (mat()[:132], "cut short at offset 132"),
        (mat()[:-1], "the element at offset"),
        (mat() + b"!", "within the tag"),
        (mat()[:128], "'X' is missing"),
        (mat(X=PIXELS.astype(np.int16)), "'X' is int16"),
        (mat(X=PIXELS[:31]), r"\(31, 32, 3, 4\)"),
        (mat(X="text"), "'X' is"),
        (mat(y=LABELS[:3]), r"'y' is uint8 \(3, 1\)"),
        (mat(y=np.array([["a"], ["b"], ["c"], ["d"]], dtype=object)), "'y' is object"),
        (mat(y=np.array([[1], [2], [0], [3]])), "row 2: label 0"),
        (mat(y=np.array([[1], [11], [0], [3]])), "row 1: label 11"),
        (mat(y=np.array([[1.0], [2.0], [3.0], [2.5]])), "row 3: label 2.5"),
    ],
    ids=itertools.count(),  # not the bytes: MATLAB's header holds the time, and workers must collect equal names
)
def test_malformed_files_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"some name.*{why}"):
        parse_svhn(content, "some name")


SOUND = {compressed: mat(compressed) for compressed in (False, True)}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data(), st.booleans())
def test_a_file_cut_short_anywhere_is_refused(data: st.DataObject, compressed: bool) -> None:
    content = SOUND[compressed]
    with pytest.raises(ValueError, match="some name"):
        parse_svhn(content[: data.draw(st.integers(0, len(content) - 1))], "some name")
