"""Server-rendered pages: which form a client prefers, and Jinja2 with escaping always on."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates

from app import charts, curves

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def moment(value: datetime | str | None) -> str:
    """A time in UTC, to the second."""
    if value is None:
        return "–"
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def signed(value: float) -> str:
    return f"{value:+.3f}"


templates = Jinja2Templates(directory=HERE / "templates")


def without(mapping: dict[str, Any], *names: str) -> dict[str, Any]:
    """The mapping less what is shown elsewhere."""
    return {name: value for name, value in mapping.items() if name not in names}


templates.env.filters |= {"without": without, "moment": moment, "signed": signed}
templates.env.globals |= {"charts": charts, "curves": curves}


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


def render(request: Request, name: str, context: dict[str, Any], headers: dict[str, str]) -> Response:
    """A page under a strict content policy: no script, no other origin."""
    return templates.TemplateResponse(
        request, name, context, headers=headers | {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    )
