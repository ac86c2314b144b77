"""CIFAR's two formats, and pickles that would rather do something else."""

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.data.array_pickle import parse_arrays
from unlearning.data.cifar import Kind, parse_binary, parse_python, read_cifar

PIXELS = np.random.default_rng(5).integers(0, 256, (4, 3072), dtype=np.uint8)
LABELS = [3, 0, 9, 1]


def binary(pixels: np.ndarray = PIXELS, labels: list[int] = LABELS, coarse: int | None = None) -> bytes:
    head = b"" if coarse is None else bytes([coarse])
    return b"".join(head + bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True))


def pickled(protocol: int = 4, **changes: Any) -> bytes:
    return pickle.dumps({"data": PIXELS, "labels": LABELS, "batch_label": "part", **changes}, protocol=protocol)


def python2(key: bytes = b"labels") -> bytes:
    """A pickle as Python 2 and its numpy wrote them: protocol 2, byte strings, numpy.core."""
    raw = PIXELS.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R(K\x01K\x04M\x00\x0c\x86"
        b"cnumpy\ndtype\nq\x03U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + len(raw).to_bytes(4, "little")
        + raw
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in LABELS) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U" + bytes([len(key)]) + key + labels + b"u."


def test_binary_records_are_label_red_green_blue() -> None:
    found = parse_binary(binary(), "cifar10")
    assert found.labels_N.tolist() == LABELS
    np.testing.assert_array_equal(found.pixels_NCHW.reshape(4, -1), PIXELS)
    assert found.pixels_NCHW[2, 1, 3, 4] == PIXELS[2, 1024 + 3 * 32 + 4]


def test_cifar_100_has_a_coarse_label_first() -> None:
    found = parse_binary(binary(labels=[99, 0, 7, 50], coarse=19), "cifar100")
    assert found.labels_N.tolist() == [99, 0, 7, 50]
    np.testing.assert_array_equal(found.pixels_NCHW.reshape(4, -1), PIXELS)


@pytest.mark.parametrize(
    ("content", "kind", "why"),
    [
        (b"", "cifar10", "offset 0 is cut short: 0 of 3073"),
        (binary()[:-1], "cifar10", "offset 9219 is cut short: 3072 of 3073"),
        (binary() + b"!", "cifar10", "offset 12292 is cut short: 1 of 3073"),
        (binary(labels=[1, 2, 10, 3]), "cifar10", "row 2: label 10 is not in 0 to 9"),
        (binary(labels=[1, 2, 3, 100], coarse=1), "cifar100", "row 3: label 100"),
        (binary(coarse=20), "cifar100", "coarse label: row 0: label 20"),
    ],
)
def test_malformed_binary_files_are_refused_with_offset_or_row(content: bytes, kind: Kind, why: str) -> None:
    with pytest.raises(ValueError, match=f"some name.*{why}"):
        parse_binary(content, kind, "some name")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_pickles_of_every_protocol(protocol: int) -> None:
    found = parse_python(pickled(protocol), "cifar10")
    assert found.labels_N.tolist() == LABELS
    np.testing.assert_array_equal(found.pixels_NCHW.reshape(4, -1), PIXELS)


@pytest.mark.parametrize(("kind", "key"), [("cifar10", b"labels"), ("cifar100", b"fine_labels")])
def test_pickles_as_published_are_of_python_2(kind: Kind, key: bytes) -> None:
    content = python2(key)
    theirs = pickle.loads(content, encoding="bytes")
    found = parse_python(content, kind)
    np.testing.assert_array_equal(found.pixels_NCHW.reshape(4, -1), theirs[b"data"])
    assert found.labels_N.tolist() == theirs[key] == LABELS


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec])
def test_nothing_that_a_pickle_names_is_run(tmp_path: Path, function: Any, protocol: int) -> None:
    trace = tmp_path / "ran"
    argument = f"touch {trace}" if function is os.system else f"open({str(trace)!r}, 'w').close()"
    content = pickle.dumps({"data": Runs(function, argument), "labels": LABELS}, protocol=protocol)
    with pytest.raises(ValueError, match=rf"some name.*it names \w+\.{function.__name__}"):
        parse_python(content, "cifar10", "some name")
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists(), "the same pickle does run where it is trusted"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"ios\nsystem\n(S'true'\n.", "instruction"),
        (b"cnumpy\nndarray\n(S'x'\nt\x81.", "instruction"),
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f.", "instruction"),
        (b"cnumpy.core.multiarray\n_reconstruct\n}S'__call__'\nS'x'\nsb.", "no array"),
        (b"cnumpy\ndtype\n}S'__call__'\nS'x'\nsb.", "no array"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"c__builtin__\ngetattr\n.", "getattr"),
        (b"(l.", "not a dict"),
        (b"", "offset 0"),
        (b"\x80\x04}.trailing", "ends at offset 4, the file at 12"),
    ],
)
def test_pickles_that_are_something_else_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_arrays(content, "some name")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data": np.array([[b"x", None]], dtype=object)}, "dtype '[|]?O8?'"),
        ({"data": np.zeros(2, dtype=[("a", "u1")])}, "dtype"),
        ({"data": np.zeros((4, 3071), np.uint8)}, r"\(4, 3071\)"),
        ({"data": PIXELS.astype(np.int16)}, "'data' is int16"),
        ({"data": [1, 2]}, "'data' is list"),
        ({"labels": LABELS[:3]}, "4 images and 3 labels"),
        ({"labels": [3, 0, 10, 1]}, "row 2: label 10"),
        ({"labels": [3, "0", 1, 1]}, "row 1"),
        ({"labels": "none"}, "no list of integers"),
        ({"more": {}}, "'more' is a dict"),
    ],
)
def test_contents_that_are_not_cifar_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=f"some name.*{why}"):
        parse_python(pickled(**changes), "cifar10", "some name")


def test_a_key_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="'fine_labels' is missing"):
        parse_python(pickled(), "cifar100")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, len(pickled()) - 1), st.sampled_from([0, 2, 4]))
def test_a_pickle_cut_short_anywhere_is_refused(length: int, protocol: int) -> None:
    with pytest.raises(ValueError, match="some name"):
        parse_python(pickled(protocol)[: min(length, len(pickled(protocol)) - 1)], "cifar10", "some name")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_arrays(content, "some name"), dict)


@pytest.mark.parametrize("ending", [".bin", ""])
@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_folders(tmp_path: Path, ending: str, kind: Kind) -> None:
    names = [f"data_batch_{part}" for part in range(1, 6)] if kind == "cifar10" else ["train"]
    for position, name in enumerate([*names, "test_batch" if kind == "cifar10" else "test"]):
        labels = [position, 1, 2, 3]
        key = "fine_labels" if kind == "cifar100" else "labels"
        coarse = 4 if kind == "cifar100" else None
        content = binary(labels=labels, coarse=coarse) if ending else pickled(**{key: labels})
        (tmp_path / f"{name}{ending}").write_bytes(content)
    train, test = read_cifar(tmp_path, kind)
    assert train.labels_N[::4].tolist() == list(range(len(names)))
    assert test.labels_N.tolist() == [len(names), 1, 2, 3]
    assert train.pixels_NCHW.shape == (4 * len(names), 3, 32, 32)
    (tmp_path / f"{names[-1]}{ending}").unlink()
    with pytest.raises(ValueError, match=f"not whole: {names[-1]}"):
        read_cifar(tmp_path, kind)


def test_a_folder_without_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cifar10 is not here"):
        read_cifar(tmp_path, "cifar10")
