"""The benchmarks of scale and load measure what they say."""

from uuid import UUID

import psycopg
import pytest

from app import tickets, versions, views
from app.config import settings
from app.db import transaction
from app.tickets import Filter
from benchmarks import load
from benchmarks.scale import batching, history, plans
from benchmarks.scale.__main__ import plain
from benchmarks.scale.manifests import Manifest
from benchmarks.scale.reads import Place
from tests.app import story

TICKETS = 20_000


@pytest.fixture
def place(database: str) -> Place:
    """A published version with a long history of tickets behind it."""
    dataset = story.dataset()
    model = story.trained("m")
    story.submit(1)
    story.publish(story.closed(model))
    with transaction() as session:
        version = versions.resolve(session, "m-v1").id
    address = plain(settings().database)
    history.extend(address, 1, TICKETS, dataset=dataset, model=model, version=version)
    return Place("", address, "", "", dataset, model, version, "m-v2")


@pytest.mark.service
def test_no_read_scans_a_table_that_grows(place: Place) -> None:
    ways, scans = plans.shown(place, TICKETS)
    assert scans == []
    assert set(ways) == {"a ticket", "a client's newest tickets", "a version's audit", "a model"}
    assert any("ix_" in way or "pk_" in way for way in ways["a ticket"])


@pytest.mark.service
def test_a_scan_of_a_table_that_grows_is_seen(place: Place) -> None:
    with psycopg.connect(place.address) as connection:
        ways = plans.ways(connection, "SELECT count(*) FROM ticket WHERE accepted = %(n)s", {"n": 3})
    assert [way for way in ways if plans.whole(way)] == ["Seq Scan ticket"]


@pytest.mark.service
def test_a_ticket_of_the_history_reads_like_one_that_was_sent(place: Place) -> None:
    with psycopg.connect(place.address) as connection:
        one = UUID(history.ticket_id(connection, 7))
    with transaction() as session:
        row = tickets.get(session, history.OWNER, one)
        shown, told = views.ticket(row), tickets.timeline(session, row)
        page = tickets.page(session, history.OWNER, Filter(None, None, None, False), 51, None)
    assert shown.state == "fulfilled"
    assert [o.clean_version for o in shown.obligations] == ["m-v1"]
    assert [event["kind"] for event in told] == ["ticket.accepted", "ticket.working", "ticket.fulfilled"]
    assert len(page) == 51


def test_the_ids_of_a_manifest_are_its_own_and_never_the_same_twice() -> None:
    manifest = Manifest.__new__(Manifest)
    manifest.rows, manifest.taken = 20_000_000, 0
    ids = manifest.ids(10_000) + manifest.ids(10_000)
    assert len(set(ids)) == 20_000
    assert all(0 <= int(each.removeprefix("sample-")) < 20_000_000 for each in ids)


def test_a_deadline_holds_the_batches_that_can_be_waited_for_and_worked_off() -> None:
    costs = [batching.Cost(1, 0, 10), batching.Cost(100, 0, 40), batching.Cost(10_000, 0, 4_000)]
    held = batching.held(costs)
    assert held["1 hour"] == 100 * 86_400 // 40  # the largest batch takes longer than half an hour
    assert held["1 day"] == held["30 days"] == 10_000 * 86_400 // 4_000


def test_percentiles_are_those_of_the_sorted_times() -> None:
    assert load.percentiles([0.001 * n for n in range(100, 0, -1)]) == pytest.approx((51, 100))


def test_the_mix_is_of_a_hundred_requests() -> None:
    assert sum(load.MIX.values()) == 100
