"""The Merkle tree of RFC 9162 (Certificate Transparency 2.0), section 2.1, over SHA-256.

A leaf is H(0x00 || entry), a node H(0x01 || left || right); the left part of a tree of n leaves is the largest complete one
smaller than n. Who holds the tree makes proofs of a few hashes; who holds two numbers, a root and the proof checks them.

The functions that make proofs ask for hashes through `Nodes`: of complete subtrees alone, which never change once they are
full, so that whoever stores them stores each once.
"""

import hashlib
from collections.abc import Callable, Sequence

HASH_BYTES = 32
EMPTY = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

Nodes = Callable[[int, int], bytes]
"""`nodes(level, index)`: root of the complete subtree over leaves [index * 2**level, (index + 1) * 2**level)."""


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """The largest power of two below `size`, which is 2 at least."""
    return int(1 << ((size - 1).bit_length() - 1))


def subtree(nodes: Nodes, begin: int, end: int) -> bytes:
    """Root over the leaves [begin, end). `begin` is where the recursions of the RFC may arrive: a multiple of the largest
    power of two that is not above the size."""
    size = end - begin
    if size == 0:
        return EMPTY
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return nodes(level, begin >> level)
    middle = begin + split(size)
    return node_hash(subtree(nodes, begin, middle), subtree(nodes, middle, end))


def root(nodes: Nodes, size: int) -> bytes:
    """Root of the tree's first `size` leaves (RFC 9162, 2.1.1)."""
    return subtree(nodes, 0, size)


def complete(hashes: Sequence[bytes]) -> bytes:
    """Root over a power of two of hashes, which lie side by side on one level."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes that are all at hand."""
    return root(lambda level, index: complete(leaves[index << level : (index + 1) << level]), len(leaves))


def inclusion(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """That leaf `index`, counted from 0, is in the tree of the first `size` leaves (2.1.3.1). Raises `ValueError` where it
    is not."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    begin, end, path = 0, size, list[bytes]()
    while end - begin > 1:
        middle = begin + split(end - begin)
        if index < middle:
            path.append(subtree(nodes, middle, end))
            end = middle
        else:
            path.append(subtree(nodes, begin, middle))
            begin = middle
    return path[::-1]


def consistency(nodes: Nodes, first: int, second: int) -> list[bytes]:
    """That the tree of `first` leaves is how the tree of `second` began (2.1.4.1). Raises `ValueError` unless
    0 < first <= second."""
    if not 0 < first <= second:
        raise ValueError(f"a tree of {first} leaves is no beginning of one of {second}")
    begin, end, whole, path = 0, second, True, list[bytes]()
    while first != end:
        middle = begin + split(end - begin)
        if first <= middle:
            path.append(subtree(nodes, middle, end))
            end = middle
        else:
            path.append(subtree(nodes, begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(subtree(nodes, begin, end))
    return path[::-1]


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> bool:
    """Whether the proof leads from the leaf's hash to the expected root (2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, running = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            running = node_hash(sibling, running)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            running = node_hash(running, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and running == expected


def consistent(first: int, second: int, old: bytes, new: bytes, path: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree with root `old` is how the tree with root `new` began (2.1.4.2)."""
    if first == second:
        return not path and old == new
    if not 0 < first < second or not path:
        return False
    steps = list(path)
    if first & (first - 1) == 0:
        steps.insert(0, old)
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    was = now = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            was, now = node_hash(step, was), node_hash(step, now)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            now = node_hash(now, step)
        place, last = place >> 1, last >> 1
    return last == 0 and was == old and now == new
