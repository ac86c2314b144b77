"""What the commands share: where they print, how they speak HTTP, how they show progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text
from typing_extensions import override

from app.config import settings
from expunge import Client, Retry
from expunge.evidence.fault import printable

SOON = Retry(tries=3, seconds=10, first=0.2)


class Plain(Console):
    """Prints text as it is: it is often somebody else's, in which a bracket or a colon means itself, and no control character
    may move the cursor or wipe out a line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)

    @override
    def print_json(self, json: str | None = None, **options: Any) -> None:
        super().print_json(json, **options | {"ensure_ascii": True})


console, errors = Plain(), Plain(stderr=True)


def api() -> Client:
    """The service named by EXPUNGE_API_URL, with the key in EXPUNGE_API_KEY. Somebody waits: it gives up soon."""
    return Client(settings().url, settings().api_key or SecretStr(""), retry=SOON)


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress bars, drawn on a terminal and left out elsewhere."""
    named, doing = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[step]"))
    columns = (named, BarColumn(), doing, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars


def show(bars: Progress, bar: TaskID, fraction: float, step: str | None) -> None:
    bars.update(bar, completed=fraction, step=printable(step or "")[:60])


def moment(value: datetime | None) -> str:
    """A time in UTC, to the second."""
    return f"{value:%Y-%m-%d %H:%M:%S}Z" if value else "–"


def interval(statistic: dict[str, Any], threshold: float | None = None) -> str:
    """An estimate with its interval and threshold on one line."""
    shown = f"{statistic['estimate']:+.3f} [{statistic['low']:+.3f}, {statistic['high']:+.3f}]"
    return f"{shown} ±{threshold:g}" if threshold is not None else shown
