"""Server-rendered pages: which form a client prefers, and Jinja2 with escaping always on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates

from app import charts

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
templates.env.filters |= {"moment": moment, "signed": signed}
templates.env.globals["charts"] = charts


def prefers_html(accept: str) -> bool:
    """Whether an Accept header ranks HTML above JSON; a client that names neither gets JSON."""
    ranks = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        if kind in ranks:
            ranks[kind] = max(ranks[kind], weight)
    return ranks["text/html"] > ranks["application/json"]


def render(request: Request, name: str, context: dict[str, Any], headers: dict[str, str]) -> Response:
    """A page under a strict content policy: no script, no other origin."""
    return templates.TemplateResponse(
        request, name, context, headers=headers | {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    )
