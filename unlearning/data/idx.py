"""The IDX format of MNIST and its kin, plain or gzipped: two zero bytes, a type, the number of dimensions, their sizes."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
LIMIT = 4 << 30


def read_idx(path: Path, limit: int = LIMIT) -> NDArray[np.generic]:
    """The array in an IDX file, in the machine's byte order. A name that ends in .gz is decompressed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not IDX, or is cut short, too long, or larger than `limit` bytes; says the offset.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(limit + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a sound gzip file: {error}") from error
    if len(content) > limit:
        raise ValueError(f"{path}: larger than {limit} bytes")
    return parse_idx(content, str(path))


def parse_idx(content: bytes, name: str = "IDX data") -> NDArray[np.generic]:
    """The array in IDX bytes; `name` is what an error calls them.

    Raises:
        ValueError: malformed; says at which offset.
    """
    if len(content) < 4:
        raise ValueError(f"{name}: cut short at offset {len(content)}, within the magic number")
    if content[:2] != b"\0\0":
        raise ValueError(f"{name}: offset 0: expected two zero bytes, this is not IDX")
    if content[2] not in TYPES:
        raise ValueError(f"{name}: offset 2: unknown type 0x{content[2]:02x}")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if dimensions == 0:
        raise ValueError(f"{name}: offset 3: an array needs at least one dimension")
    if len(content) < start:
        raise ValueError(f"{name}: cut short at offset {len(content)}, within {dimensions} dimension sizes")
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    dtype = np.dtype(TYPES[content[2]])
    end = start + prod(shape) * dtype.itemsize
    if len(content) != end:
        raise ValueError(f"{name}: data of shape {shape} end at offset {end}, the file at {len(content)}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
