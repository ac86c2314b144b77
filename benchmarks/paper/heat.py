"""Pictures inside a drawing: pixels as PNG in a data URI, heat maps in colours, tiles with their names in a grid."""

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper import svg

Bytes = NDArray[np.uint8]
# from nothing to the most: dark violet, blue-green, yellow; lighter all the way, so that it reads without colour
ANCHORS = ((0, (28, 16, 51)), (64, (59, 60, 125)), (128, (32, 127, 137)), (192, (84, 187, 107)), (255, (250, 231, 72)))
SIDE, GAP, HEAD, FOOT, LEFT, TOP = 92, 18, 20, 20, 16, 62


@dataclass(frozen=True)
class Tile:
    """A name, pictures as data URIs one under the other, and a line under each."""

    name: str
    pictures: Sequence[str]
    captions: Sequence[str]


def from_hex(text: str, shape: Sequence[int]) -> Bytes:
    """The bytes that `text` spells, in `shape`."""
    return np.frombuffer(bytes.fromhex(text), dtype=np.uint8).reshape(tuple(shape))


def coloured(heat_HW: Bytes) -> Bytes:
    """rgb_HW3 of a heat map, between the anchors' colours."""
    places = [place for place, _ in ANCHORS]
    channels = zip(*(colour for _, colour in ANCHORS), strict=True)
    return np.stack([np.interp(heat_HW, places, channel) for channel in channels], axis=-1).round().astype(np.uint8)


def png(rgb_HW3: Bytes) -> str:
    """A data URI of a PNG with 8 bits a channel (PNG specification, third edition: IHDR, IDAT, IEND; no filter)."""
    height, width, _ = rgb_HW3.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(rgb_HW3))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def grid(title: str, notes: Sequence[str], tiles: Sequence[Tile], across: int = 8) -> str:
    """Tiles in lines of `across`, each with its name above; notes below."""
    deep = len(tiles[0].pictures)
    line = HEAD + deep * (SIDE + FOOT) + GAP
    width = max(2 * LEFT + min(across, len(tiles)) * (SIDE + GAP), 7 * max(map(len, notes)) + LEFT)
    height = TOP - HEAD + line * -(-len(tiles) // across) + 16 * len(notes) + 10
    parts = [svg.text(LEFT, 24, title, "title")]
    for number, tile in enumerate(tiles):
        x, y = LEFT + number % across * (SIDE + GAP), TOP - HEAD + number // across * line
        parts.append(svg.text(x, y + 12, tile.name, ""))
        for row, (picture, caption) in enumerate(zip(tile.pictures, tile.captions, strict=True)):
            top = y + HEAD + row * (SIDE + FOOT)
            parts.append(
                f'<image x="{x}" y="{top}" width="{SIDE}" height="{SIDE}" style="image-rendering: pixelated"'
                f' href="{escape(picture)}"/>'
            )
            parts.append(f'<rect class="rule" x="{x}" y="{top}" width="{SIDE}" height="{SIDE}" fill="none"/>')
            parts.append(svg.text(x, top + SIDE + 13, caption, "faint"))
    start = height - 16 * len(notes) - 2
    parts += [svg.text(LEFT, start + 16 * number + 8, note, "faint") for number, note in enumerate(notes)]
    return svg.whole(width, height, title, parts)
