"""Ids a day: exact, for each client, in the ticket's own transaction."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from sqlalchemy import func, update

from app import config, sweep, tickets
from app.auth import Scope
from app.db import transaction
from app.errors import NothingKnown, TooMany
from app.keys import Limits, create
from app.tables import DailyIds, Ticket, Tombstone
from tests.app import story
from tests.app.conftest import Caller


def submit(*ordinals: int, most: int | None, client: str = "tool", key: str | None = None) -> tickets.Accepted:
    with transaction() as session:
        asked = story.submission(*ordinals)
        return tickets.submit(session, client, asked, key, str(ordinals).encode(), most)


def counted() -> dict[str, int]:
    return {row.client: row.ids for row in story.all_of(DailyIds)}


def test_a_client_names_so_many_and_no_more(database: str) -> None:
    story.dataset()
    submit(0, 1, most=3)
    with pytest.raises(TooMany) as refused:
        submit(2, 3, most=3)
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 86_400
    assert "2 were named today" in refused.value.detail
    assert len(story.all_of(Ticket)) == 1
    assert len(story.all_of(Tombstone)) == 2, "a refused ticket leaves nothing"
    submit(2, most=3)
    submit(3, most=3, client="another")
    assert counted() == {"tool": 3, "another": 1}


def test_what_makes_no_ticket_counts_nothing(database: str) -> None:
    story.dataset()
    submit(0, most=3, key="k")
    assert submit(0, most=3, key="k").replayed
    with pytest.raises(NothingKnown):
        submit(999, most=3)
    assert counted() == {"tool": 1}


def test_without_a_limit_nothing_is_written(database: str) -> None:
    story.dataset()
    submit(0, most=None)
    assert counted() == {}


def test_yesterday_does_not_count_and_is_dropped(database: str) -> None:
    story.dataset()
    submit(0, 1, 2, most=3)
    with transaction() as session:
        session.execute(update(DailyIds).values(day=DailyIds.day - 1))
    submit(3, 4, 5, most=3)
    with transaction() as session:
        session.execute(update(DailyIds).where(DailyIds.day < func.current_date()).values(day=date(2020, 1, 1)))
    sweep.purge()
    assert [row.ids for row in story.all_of(DailyIds)] == [3]


def test_racing_tickets_keep_the_limit(database: str) -> None:
    story.dataset(samples=40)

    def attempt(ordinal: int) -> bool:
        try:
            submit(ordinal, most=7)
        except TooMany:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        made = sum(pool.map(attempt, range(20)))
    assert made == 7
    assert counted() == {"tool": 7}
    assert len(story.all_of(Ticket)) == 7


def test_over_http_a_keys_own_limit_stands_instead(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_IDS_PER_DAY", "1")
    config.settings.cache_clear()
    story.dataset()
    tool = caller("tool", Scope.DELETIONS_WRITE)

    def ask(ordinal: int, **headers: str) -> int:
        body = {"dataset": "people", "sample_ids": [story.sample(ordinal)], "reason": "other"}
        return tool.post("/deletions", json=body, headers=headers).status_code

    assert [ask(0), ask(1)] == [202, 429]
    with transaction() as session:
        more = create(session, "tool", [Scope.DELETIONS_WRITE], None, "admin", Limits(ids_per_day=2)).secret
        none = create(session, "tool", [Scope.DELETIONS_WRITE], None, "admin", Limits(ids_per_day=0)).secret
    assert [ask(2, Authorization=f"Bearer {more}"), ask(3, Authorization=f"Bearer {more}")] == [202, 429]
    assert ask(4, Authorization=f"Bearer {none}") == 429
