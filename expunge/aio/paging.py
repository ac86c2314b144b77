"""Lists that come in pages: each row once, and the next page asked for when the one before has been read."""

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from expunge.aio.http import Http

T = TypeVar("T")
LARGEST = 200
"""Rows of a page, at most: the service's own limit."""


class Page(Protocol[T]):
    @property
    def items(self) -> list[T]: ...

    @property
    def next(self) -> str | None: ...


async def each(
    http: Http, kind: type[Page[T]], path: str, params: dict[str, Any], most: int | None
) -> AsyncIterator[T]:
    """Rows of all pages, `most` of them where that is given. The cursors are the service's, signed for these filters."""
    cursor: str | None = None
    left = most
    while left is None or left > 0:
        limit = LARGEST if left is None else min(left, LARGEST)
        page = await http.get(kind, path, **params, limit=limit, cursor=cursor)
        for row in page.items:
            yield row
        left = None if left is None else left - len(page.items)
        cursor = page.next
        if cursor is None:
            return
