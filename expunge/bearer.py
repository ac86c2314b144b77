"""The key on its way: added to each request as it leaves, and held nowhere that a traceback or a log line shows."""

from collections.abc import Generator

import httpx
from pydantic import SecretStr
from typing_extensions import override


class Bearer(httpx.Auth):
    """`Authorization: Bearer <key>`."""

    def __init__(self, secret: SecretStr) -> None:
        self.secret = secret

    @override
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self.secret.get_secret_value()}"
        yield request
