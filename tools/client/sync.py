"""`expunge/sync` from `expunge/aio`: the same words without the waiting. Written once, read twice."""

import re
from pathlib import Path

from tools.client.formatting import formatted

ROOT = Path(__file__).parents[2]
SOURCE, TARGET = ROOT / "expunge" / "aio", ROOT / "expunge" / "sync"
RULES = [
    (
        r"The client, awaited\. .*",
        'The client, blocking. `make client` writes this package from `expunge/aio`: change that."""',
    ),
    (r"await anyio\.to_thread\.run_sync\(([\w.]+), ", r"\1("),
    (r"AsyncIterable\[bytes\] \| Iterable\[bytes\]", "Iterable[bytes]"),
    (r"    elif isinstance\(manifest, AsyncIterable\):\n.*\n.*\n", ""),
    (
        r"from collections\.abc import AsyncIterable, AsyncIterator, Iterable",
        "from collections.abc import Iterable, Iterator",
    ),
    (r"Awaitable\[([\w.]+)\]", r"\1"),
    (r"import anyio\n", "import time\n"),
    (r"anyio\.sleep", "time.sleep"),
    (r"\b(?:async|await) ", ""),
    (r"\bAsync(Client|Iterator)\b", r"\1"),
    (r"\ba(read|close|iter_bytes|iter_lines)\b", r"\1"),
    (r"__a(enter|exit|next)__", r"__\1__"),
    (r"\bexpunge\.aio\b", "expunge.sync"),
]
"""From first to last: what is special before what is general."""
LEFT = re.compile(r"\b(?:async|await|anyio|Async\w*|Awaitable|aio|a(?:read|close|iter\w*))\b")


def blocking(text: str) -> str:
    """A module of `expunge/aio` as it is in `expunge/sync`. Nothing that waits may be left in it."""
    for pattern, instead in RULES:
        text = re.sub(pattern, instead, text)
    text = formatted(text)
    left = LEFT.search(text, text.index('"""\n'))
    if left:
        raise SystemExit(f"no rule for {left[0]!r} in {text.splitlines()[text.count(chr(10), 0, left.start())]!r}")
    return text


def sources() -> dict[Path, str]:
    """Each file of `expunge/sync` with its text."""
    return {TARGET / path.name: blocking(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.glob("*.py"))}
