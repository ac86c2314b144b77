"""Retrains that come by themselves."""

from expunge.address import part
from expunge.answers import empty
from expunge.bodies import checked
from expunge.models import OccurrenceView, ScheduleRequest, ScheduleView
from expunge.sync.http import Http


class Schedules:
    """Schedules of retrains."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def add(self, model: str, cron: str) -> ScheduleView:
        """Retrain a model on a cron schedule of five fields, read in UTC."""
        with checked():
            asked = ScheduleRequest(model=model, cron=cron)
        return self.http.post(ScheduleView, "/schedules", asked)

    def all(self) -> list[ScheduleView]:
        """Schedules in force."""
        return self.http.get(list[ScheduleView], "/schedules")

    def remove(self, schedule: int) -> None:
        """Stop a schedule; its past occurrences stay."""
        empty(self.http.call("DELETE", f"/schedules/{part(schedule)}"))

    def occurrences(self, schedule: int, limit: int = 50) -> list[OccurrenceView]:
        """Past due times, newest first, with the batch each opened; 200 at most."""
        return self.http.get(list[OccurrenceView], f"/schedules/{part(schedule)}/occurrences", limit=limit)
