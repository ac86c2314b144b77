"""Headers that every answer carries. A route that sets one of them itself is left its own."""

from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import settings

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content policy of what is no page: a browser that shows it all the same loads and runs nothing."""

ALWAYS = {
    "content-security-policy": NOTHING,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}


@lru_cache
def encoded() -> tuple[tuple[bytes, bytes], ...]:
    """The headers as they go over the wire, with HSTS where the settings ask for it."""
    seconds = settings().hsts_seconds
    hsts = {"strict-transport-security": f"max-age={seconds}; includeSubDomains"} if seconds else {}
    return tuple((name.encode(), value.encode()) for name, value in (ALWAYS | hsts).items())


class Headers:
    """ASGI middleware, the outermost: refusals and defects carry the headers too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = list(message.get("headers", []))
                names = {name.lower() for name, _ in present}
                message["headers"] = present + [pair for pair in encoded() if pair[0] not in names]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
