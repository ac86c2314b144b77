"""The service over HTTP as the tests of whole processes speak to it: no retry, no shape, so that they see what was answered."""

from typing import Any

import httpx

from app.errors import ServiceError, Unavailable


class Api:
    """The service, as one client. What it refuses is raised with the service's own sentence."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(60, read=600)
        )

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self.http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unavailable(type(error).__name__) from None
        if response.is_error:
            raise ServiceError(response.json()["detail"])
        return response

    def get(self, path: str, **parameters: Any) -> Any:
        return self.call("GET", path, params=parameters).json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.call("POST", path, json=body).json()
