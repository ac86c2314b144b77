"""The tree against the vectors that certificate transparency logs are tested with, and against itself at every size."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.evidence.merkle import (
    EMPTY,
    complete,
    consistency,
    consistent,
    included,
    inclusion,
    leaf_hash,
    node_hash,
    root,
    root_of,
)

# The eight entries and the roots of their first 1 to 8, as published with RFC 6962's reference implementation.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def nodes(leaves: Sequence[bytes]):
    return lambda level, index: complete(leaves[index << level : (index + 1) << level])


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """As the RFC defines it, word by word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(plain_root(leaves[:k]), plain_root(leaves[k:]))


def test_the_roots_are_those_published() -> None:
    assert [root_of(LEAVES[: n + 1]).hex() for n in range(8)] == ROOTS
    assert root_of([]) == EMPTY == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 1, []),
        (0, 8, [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]),
        (5, 8, [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (1, 5, [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]),
    ],
    ids=["only-leaf", "first-of-8", "sixth-of-8", "last-of-3", "second-of-5"],
)  # fmt: skip
def test_inclusion_proofs_are_those_published(index: int, size: int, path: list[str]) -> None:
    assert [step.hex() for step in inclusion(nodes(LEAVES), index, size)] == path


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        (1, 1, []),
        (1, 8, [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]),
        (6, 8, [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]),
        (2, 5, [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]),
    ],
    ids=["same", "1-to-8", "6-to-8", "2-to-5"],
)  # fmt: skip
def test_consistency_proofs_are_those_published(first: int, second: int, path: list[str]) -> None:
    assert [step.hex() for step in consistency(nodes(LEAVES), first, second)] == path


MANY = [leaf_hash(str(n).encode()) for n in range(70)]


@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 64, 70])
def test_every_proof_of_a_size_holds_and_no_other_does(size: int) -> None:
    held = nodes(MANY)
    expected = root(held, size)
    assert expected == plain_root(MANY[:size])
    for index in range(size):
        path = inclusion(held, index, size)
        assert included(MANY[index], index, size, path, expected)
        assert not included(leaf_hash(b"another"), index, size, path, expected)
        assert not included(MANY[index], (index + 1) % size, size, path, expected) or size == 1
        assert not included(MANY[index], index, size, [*path, EMPTY], expected)
        assert not included(MANY[index], index, size, path[:-1], expected) or not path
    for first in range(1, size + 1):
        path, old = consistency(held, first, size), root(held, first)
        assert consistent(first, size, old, expected, path)
        assert not consistent(first, size, EMPTY, expected, path)
        assert not consistent(first, size, old, EMPTY, path)
        assert not consistent(first, size, old, expected, [*path, EMPTY])


@given(st.data())
def test_a_proof_with_one_changed_step_never_holds(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 70))
    index = data.draw(st.integers(0, size - 1))
    held = nodes(MANY)
    path = inclusion(held, index, size)
    at, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
    path[at] = (int.from_bytes(path[at], "big") ^ 1 << bit).to_bytes(32, "big")
    assert not included(MANY[index], index, size, path, root(held, size))


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_what_is_not_in_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="not in a tree"):
        inclusion(nodes(MANY), index, size)
    assert not included(MANY[0], index, size, [], MANY[0])


@pytest.mark.parametrize(("first", "second"), [(0, 5), (6, 5)])
def test_what_is_no_beginning_has_no_proof(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="no beginning"):
        consistency(nodes(MANY), first, second)
    assert not consistent(first, second, MANY[0], MANY[0], [EMPTY])
