"""Is it alive, is it ready, how does it fare."""

from expunge.answers import of_type
from expunge.models import WorkerView
from expunge.sync.http import Http


class System:
    """The service itself."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def live(self) -> None:
        """Return if the process answers. Says nothing about its servers."""
        self.http.get(dict[str, str], "/livez")

    def ready(self) -> None:
        """Return if Postgres answers and has the schema the service needs. Raises `Unavailable` otherwise."""
        self.http.get(dict[str, str], "/readyz")

    def workers(self) -> list[WorkerView]:
        """Workers and beat, as each last wrote of itself."""
        return self.http.get(list[WorkerView], "/workers")

    def metrics(self) -> str:
        """What Prometheus reads."""
        return of_type(self.http.call("GET", "/metrics"), "text/plain", "application/openmetrics-text").text
