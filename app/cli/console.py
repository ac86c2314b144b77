"""What the commands share: where they print, how they speak HTTP, how they show progress."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from app.config import settings
from app.errors import NotFound, ServiceError, Unauthenticated, Unavailable

SENDABLE = re.compile(r"[!-~]+")
"""What a header can carry; an empty variable or a mangled key cannot be one of ours."""

console = Console()
errors = Console(stderr=True)


class Api:
    """The service over HTTP, as one client. What it refuses is raised with the service's own sentence."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(60, read=600)
        )

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request. Raises `ServiceError` with the problem's detail."""
        try:
            response = self.http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unavailable(
                f"No service answers at {self.http.base_url} ({type(error).__name__}). Is it up?"
            ) from None
        if response.is_error:
            raise refusal(response)
        return response

    def get(self, path: str, **parameters: Any) -> Any:
        return self.call("GET", path, params={k: v for k, v in parameters.items() if v is not None}).json()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        return self.call("POST", path, json=body, headers=headers).json()


def refusal(response: httpx.Response) -> ServiceError:
    """The problem+json's sentence, or the status where there is none."""
    try:
        return ServiceError(response.json()["detail"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return ServiceError(f"The service answered {response.status_code} {response.reason_phrase}.")


def part(name: str) -> str:
    """A name that somebody typed, as one part of a path: whatever it holds, it leads nowhere else."""
    if name in ("", ".", ".."):
        raise NotFound(f"Nothing is called {name!r}.")
    return quote(name, safe="@:+")


def api() -> Api:
    """The service named by EXPUNGE_API_URL, with the key in EXPUNGE_API_KEY."""
    key = settings().api_key
    secret = key.get_secret_value().strip() if key else ""
    if not SENDABLE.fullmatch(secret):
        raise Unauthenticated(
            "Set EXPUNGE_API_KEY to your key; `expunge keys create` makes one on the service's machine."
        )
    return Api(settings().url, secret)


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress bars, drawn on a terminal and left out elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars


def show(bars: Progress, bar: TaskID, fraction: float, step: str | None) -> None:
    bars.update(bar, completed=fraction, step=(step or "")[:60])


def moment(value: str | None) -> str:
    """A time as the service sends it, in UTC to the second."""
    return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M:%S}Z" if value else "–"


def interval(statistic: dict[str, Any], threshold: float | None = None) -> str:
    """An estimate with its interval and threshold on one line."""
    shown = f"{statistic['estimate']:+.3f} [{statistic['low']:+.3f}, {statistic['high']:+.3f}]"
    return f"{shown} ±{threshold:g}" if threshold is not None else shown
