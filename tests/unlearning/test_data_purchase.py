"""Purchase100's csv and npz."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.data.purchase import parse_csv, read_purchase

FEATURES = np.random.default_rng(7).integers(0, 2, (4, 600), dtype=np.uint8)
LABELS = np.array([1, 100, 7, 7])


def csv(features: np.ndarray = FEATURES, labels: np.ndarray = LABELS, end: str = "\n") -> bytes:
    rows = [",".join(map(str, [label, *row])) for label, row in zip(labels.tolist(), features.tolist(), strict=True)]
    return "".join(row + end for row in rows).encode()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_label_comes_first_and_counts_from_one(tmp_path: Path, end: str) -> None:
    (tmp_path / "dataset_purchase").write_bytes(csv(end=end))
    features, labels = read_purchase(tmp_path / "dataset_purchase")
    np.testing.assert_array_equal(features, FEATURES)
    assert labels.tolist() == [0, 99, 6, 6]
    assert parse_csv(csv().removesuffix(b"\n"))[1].tolist() == [0, 99, 6, 6]


def test_classes_that_count_from_zero_are_asked_for(tmp_path: Path) -> None:
    assert parse_csv(csv(labels=LABELS - 1), first_label=0)[1].tolist() == [0, 99, 6, 6]
    with pytest.raises(ValueError, match="row 0: label 0 is not in 1 to 100"):
        parse_csv(csv(labels=LABELS - 1))
    with pytest.raises(ValueError, match="row 1: label 100 is not in 0 to 99"):
        parse_csv(csv(), first_label=0)


START = len(csv(FEATURES[:1], LABELS[:1]))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "offset 0: there are no rows"),
        (csv()[:-3], f"row 3, offset {3 * START + 4}: not 600 times"),
        (csv() + b"\n", "row 4, offset"),
        (csv(FEATURES[:, :599]), "row 0, offset 2"),
        (csv(FEATURES * 2), "row 0, offset 2"),
        (csv().replace(b"\n100,", b"\nlots,"), f"row 1, offset {START}: the label"),
        (csv().replace(b"\n100,", b"\n1e2,"), f"row 1, offset {START}: the label"),
        (b"label," + csv(), "row 0, offset 0: the label"),
        (csv(labels=np.array([1, 2, 101, 3])), "row 2: label 101"),
    ],
)
def test_malformed_csv_is_refused_with_the_row(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"some name.*{why}"):
        parse_csv(content, name="some name")


SOUND = csv()
ENDS = {length for length in range(1, len(SOUND)) if b"\n" in SOUND[length - 1 : length + 1]}  # a row and its line feed


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, len(SOUND) - 2).filter(lambda length: length not in ENDS))
def test_csv_cut_short_within_a_row_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="some name"):
        parse_csv(SOUND[:length], name="some name")


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"features": FEATURES, "labels": LABELS, **arrays})
    return path


def test_npz_with_numbers_or_one_hot(tmp_path: Path) -> None:
    features, labels = read_purchase(npz(tmp_path / "numbers.npz", features=FEATURES.astype(np.float64)))
    np.testing.assert_array_equal(features, FEATURES)
    assert labels.tolist() == [0, 99, 6, 6]
    hot = np.eye(100)[LABELS - 1]
    assert read_purchase(npz(tmp_path / "hot.npz", labels=hot))[1].tolist() == [0, 99, 6, 6]
    assert read_purchase(npz(tmp_path / "zero.npz", labels=LABELS - 1), first_label=0)[1].tolist() == [0, 99, 6, 6]


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"features": FEATURES[:, 1:]}, r"\(4, 599\)"),
        ({"features": FEATURES[:3]}, r"3 rows of features and labels of shape \(4,\)"),
        ({"features": np.where(np.arange(4)[:, None] == 2, 0.5, FEATURES)}, "'features': row 2"),
        ({"features": np.full((4, 600), None)}, "not a sound npz"),
        ({"labels": np.array([1, 2, 3, 0])}, "row 3: label 0"),
        ({"labels": LABELS.astype(float)}, "'labels' is float64"),
        ({"labels": np.eye(100)[LABELS - 1] + np.eye(100)[[0, 0, 1, 6]]}, "row 0"),
        ({"labels": np.zeros((4, 100), int)}, "one-hot: row 0"),
        ({"labels": np.zeros((4, 99), int)}, r"\(4, 99\)"),
        ({"labels": np.int64(3)}, r"4 rows of features and labels of shape \(\)"),
    ],
)
def test_malformed_npz_is_refused(tmp_path: Path, arrays: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_purchase(npz(tmp_path / "wrong.npz", **arrays))


def test_an_npz_that_is_cut_short_or_lacks_an_array_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "whole.npz")
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a sound npz"):
            read_purchase(path)
    np.savez(path, features=FEATURES)
    with pytest.raises(ValueError, match="labels"):
        read_purchase(path)
