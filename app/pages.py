"""Server-rendered pages: which form a client prefers, Jinja2 with escaping always on, and how values are shown."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates

from app import charts, curves, signing

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
SILENT = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""Content policy of a page that is read and no more."""
LIVELY = SILENT | {"script-src": "'self'", "connect-src": "'self'", "form-action": "'self'"}
"""Of one with forms, and scripts of our own."""


def moment(value: datetime | str | None) -> str:
    """A time in UTC, to the second."""
    if value is None:
        return "–"
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def signed(value: float) -> str:
    return f"{value:+.3f}"


def number(value: float) -> str:
    """A count with separators, or a figure to four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


STEPS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def span(seconds: float) -> str:
    """A duration in its largest unit of which there are two, or its smallest."""
    for size, unit in STEPS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def age(value: datetime | str, now: datetime | None = None) -> str:
    """How long ago a time is, or how far ahead."""
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    seconds = ((now or datetime.now(UTC)) - when).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def past(value: datetime) -> bool:
    """Whether a time is over."""
    return value < datetime.now(UTC)


def bytes_shown(value: int) -> str:
    """A size in the largest unit of which there is one."""
    size = float(value)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def without(mapping: dict[str, Any], *names: str) -> dict[str, Any]:
    """The mapping less what is shown elsewhere."""
    return {name: value for name, value in mapping.items() if name not in names}


templates = Jinja2Templates(directory=HERE / "templates")
templates.env.filters |= {
    "without": without,
    "moment": moment,
    "signed": signed,
    "number": number,
    "span": span,
    "age": age,
    "past": past,
    "bytes": bytes_shown,
}


templates.env.globals |= {"charts": charts, "curves": curves, "signs": signing.configured}


LINK = re.compile(r'<link rel="stylesheet" href="[^"]*/static/([\w.-]+)"[^>]*>')


def inlined(page: str, sheet: Callable[[str], str]) -> str:
    """The page with its styles in it, all where the first was linked: whole in one file. `sheet` gives one's text by its name."""
    names = dict.fromkeys(LINK.findall(page))
    styles = "".join(f"<style>\n{sheet(name)}</style>" for name in names)
    return LINK.sub("", LINK.sub(lambda _: styles, page, count=1))


def standalone(name: str, context: dict[str, Any]) -> str:
    """A page that is kept as a file, where there is no service beside it."""
    page = templates.get_template(name).render(context | {"standalone": True})
    return inlined(page, lambda sheet: (STATIC / sheet).read_text(encoding="utf-8"))


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type of those offered that an Accept header ranks highest. The first is the default: a client that names none
    of them gets it, and so does one that ranks others no higher."""
    ranks = dict.fromkeys(offered, 0.0)
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        if kind in ranks:
            ranks[kind] = max(ranks[kind], weight)
    return max(offered, key=lambda kind: ranks[kind])


def is_page(path: str) -> bool:
    """Whether a person sits before it: errors are pages there too."""
    return path == "/" or path.startswith("/ui/")


def root_of(path: str) -> str:
    """How a link on the page at `path` begins. Relative, so that a proxy may serve everything below a path of its own."""
    return "../" * (path.count("/") - 1) or "./"


def within(path: str) -> str:
    """The path with its query, if it is one of our pages, or what these link to; home otherwise. It comes out of a query, so
    anybody may have written it."""
    ours = is_page(path.partition("?")[0]) or path.startswith(("/models/", "/deletions/"))
    fine = ours and not path.startswith("//") and path.isprintable() and "\\" not in path
    return path if fine else "/"


def render(
    request: Request,
    name: str,
    context: dict[str, Any],
    headers: dict[str, str],
    status: int = 200,
    policy: dict[str, str] = SILENT,
) -> Response:
    """A page under a strict content policy: nothing of another origin, and no script unless the policy says so."""
    said = "; ".join(f"{part} {sources}" for part, sources in policy.items())
    return templates.TemplateResponse(
        request, name, context, status_code=status, headers=headers | {"Content-Security-Policy": said}
    )


RISKY = ("=", "+", "-", "@", "\t", "\r")


def csv_line(cells: Iterable[Any]) -> str:
    """One line for a spreadsheet, which runs what begins like a formula unless a quote stands before it."""
    out = io.StringIO()
    texts = ("" if cell is None else str(cell) for cell in cells)
    csv.writer(out, lineterminator="\r\n").writerow([f"'{text}" if text.startswith(RISKY) else text for text in texts])
    return out.getvalue()
