"""Is it alive, is it ready, how does it fare."""

from expunge.aio.http import Http
from expunge.answers import of_type
from expunge.models import WorkerView


class System:
    """The service itself."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def live(self) -> None:
        """Return if the process answers. Says nothing about its servers."""
        await self.http.get(dict[str, str], "/livez")

    async def ready(self) -> None:
        """Return if Postgres answers and has the schema the service needs. Raises `Unavailable` otherwise."""
        await self.http.get(dict[str, str], "/readyz")

    async def workers(self) -> list[WorkerView]:
        """Workers and beat, as each last wrote of itself."""
        return await self.http.get(list[WorkerView], "/workers")

    async def metrics(self) -> str:
        """What Prometheus reads."""
        return of_type(await self.http.call("GET", "/metrics"), "text/plain", "application/openmetrics-text").text
