"""Retrains that come by themselves."""

from expunge.address import part
from expunge.aio.http import Http
from expunge.answers import empty
from expunge.bodies import checked
from expunge.models import OccurrenceView, ScheduleRequest, ScheduleView


class Schedules:
    """Schedules of retrains."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def add(self, model: str, cron: str) -> ScheduleView:
        """Retrain a model on a cron schedule of five fields, read in UTC."""
        with checked():
            asked = ScheduleRequest(model=model, cron=cron)
        return await self.http.post(ScheduleView, "/schedules", asked)

    async def all(self) -> list[ScheduleView]:
        """Schedules in force."""
        return await self.http.get(list[ScheduleView], "/schedules")

    async def remove(self, schedule: int) -> None:
        """Stop a schedule; its past occurrences stay."""
        empty(await self.http.call("DELETE", f"/schedules/{part(schedule)}"))

    async def occurrences(self, schedule: int, limit: int = 50) -> list[OccurrenceView]:
        """Past due times, newest first, with the batch each opened; 200 at most."""
        return await self.http.get(list[OccurrenceView], f"/schedules/{part(schedule)}/occurrences", limit=limit)
