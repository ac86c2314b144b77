"""The IDX reader and the bundled problems."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unlearning.data.idx import TYPES, parse_idx, read_idx
from unlearning.nets.lenet import LeNet5
from unlearning.problem import TensorSamples, check
from workers.bundled import FASHION_MNIST, digits, fashion_mnist


def idx(array: np.ndarray) -> bytes:
    code = next(code for code, name in TYPES.items() if np.dtype(name) == array.dtype.newbyteorder(">"))
    head = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    hnp.arrays(
        st.sampled_from([np.dtype(name).newbyteorder("=") for name in TYPES.values()]),
        hnp.array_shapes(max_dims=4, min_side=0, max_side=4),
    )
)
def test_what_was_written_is_read(array: np.ndarray) -> None:
    found = parse_idx(idx(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


SOUND = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cut short at offset 0"),
        (SOUND[:3], "cut short at offset 3"),
        (b"\1" + SOUND[1:], "offset 0"),
        (SOUND[:2] + b"\x07" + SOUND[3:], "offset 2: unknown type 0x07"),
        (SOUND[:3] + b"\0", "offset 3"),
        (SOUND[:9], "cut short at offset 9, within 2 dimension sizes"),
        (SOUND[:-1], "end at offset 18, the file at 17"),
        (SOUND + b"!", "end at offset 18, the file at 19"),
        (SOUND[:4] + b"\xff" * 8 + SOUND[12:], "end at offset"),
    ],
)
def test_malformed_bytes_are_refused_with_the_offset(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_idx(content)


def test_files_plain_gzipped_and_broken(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(SOUND)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(SOUND))
    (tmp_path / "broken.gz").write_bytes(gzip.compress(SOUND)[:-9])
    (tmp_path / "other.gz").write_bytes(SOUND)
    np.testing.assert_array_equal(read_idx(tmp_path / "plain"), read_idx(tmp_path / "packed.gz"))
    for name in ("broken.gz", "other.gz"):
        with pytest.raises(ValueError, match="not a sound gzip file"):
            read_idx(tmp_path / name)
    with pytest.raises(ValueError, match="larger than 8 bytes"):
        read_idx(tmp_path / "packed.gz", limit=8)


@pytest.mark.parametrize("side", [4, 8, 16, 28])
def test_lenet_takes_small_images(side: int) -> None:
    assert LeNet5(3, 7, side)(torch.zeros(2, 3, side, side)).shape == (2, 7)
    with pytest.raises(ValueError, match="multiple of four"):
        LeNet5(side=side + 1)


def test_samples_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        TensorSamples(["a"], [None, None], torch.zeros(1), torch.zeros(1))


def test_digits_is_sound_and_the_same_every_time() -> None:
    problem = digits()
    check(problem)
    assert [len(problem.train), len(problem.holdout), len(problem.test)] == [900, 450, 447]
    assert problem.train.ids == sorted(problem.train.ids)
    subjects = [problem.train.subjects.count(name) for name in sorted({str(s) for s in problem.train.subjects})]
    assert len(subjects) == 10
    assert min(subjects) >= 70
    assert problem.train.inputs.shape == (900, 1, 16, 16)
    again = digits()
    assert torch.equal(problem.holdout.inputs, again.holdout.inputs)
    with pytest.raises(ValueError, match="together less than 1797"):
        digits(train_size=5000)


def test_fashion_mnist_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist(tmp_path)


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_sound() -> None:
    problem = fashion_mnist(train_size=50, holdout_size=40)
    check(problem)
    assert [len(problem.train), len(problem.holdout), len(problem.test)] == [50, 40, 10_000]
    inputs, targets = problem.train.batch(np.array([0, 49]))
    assert inputs.shape == (2, 1, 28, 28)
    assert 0 <= float(inputs.min()) <= float(inputs.max()) <= 1
    assert targets.dtype == torch.int64
    assert problem.train.subjects[19] == problem.train.subjects[0] != problem.train.subjects[20]
