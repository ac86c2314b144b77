"""What is tombstoned, what a model still holds, and the lock that makes a training's picture whole."""

import threading
from array import array

from sqlalchemy import select

from app import lineage, tickets
from app.db import transaction
from app.tables import Obligation, Tombstone
from tests.app import story
from tests.app.test_tickets import wait_until_blocked


def not_held(model_id: int, batch_id: object) -> list[int]:
    with transaction() as session:
        return list(lineage.not_held(session, batch_id, model_id, story.model(model_id).dataset_id))  # type: ignore[arg-type]  # a UUID


def test_a_ticket_fans_out_to_every_model_of_its_dataset(database: str) -> None:
    story.dataset("people"), story.dataset("plants")
    ours = [story.trained("one"), story.trained("two"), story.register("untrained")]
    story.trained("stranger", "plants")
    ticket = story.ticket(story.submit(1, 2))
    assert [(o.model_id, o.samples) for o in ticket.obligations] == [(model_id, 2) for model_id in ours]


def test_each_model_owes_what_it_still_holds(database: str) -> None:
    story.dataset()
    quick, slow = story.trained("quick"), story.trained("slow", policy=story.PATIENT)
    story.submit(1, 2)
    story.work(quick)
    ticket = story.ticket(story.submit(2, 3))
    assert {o.model_id: o.samples for o in ticket.obligations} == {quick: 1, slow: 2}
    again = story.ticket(story.submit(1))
    assert {o.model_id: o.samples for o in again.obligations} == {slow: 1}
    assert story.forget_set(story.closed(quick)) == [3]


def test_a_model_registered_after_a_ticket_owes_it_nothing(database: str) -> None:
    dataset_id = story.dataset()
    old = story.trained("old", policy=story.PATIENT)
    early = story.submit(1)
    new = story.trained("new")
    assert [o.model_id for o in story.ticket(early).obligations] == [old]
    ticket = story.ticket(story.submit(1, 2))
    assert {o.model_id: o.samples for o in ticket.obligations} == {old: 2, new: 1}
    lease = story.closed(new)
    assert story.forget_set(lease) == [2]
    assert not_held(new, lease.batch_id) == [1, 2] == story.tombstoned(dataset_id)


def test_a_version_is_said_to_hold_what_its_model_still_owes(database: str) -> None:
    dataset_id = story.dataset()
    model_id = story.trained()
    story.submit(1)
    lease = story.closed(model_id)
    story.submit(2)
    assert story.tombstoned(dataset_id) == [1, 2]
    version = story.publish(lease)
    assert (version.excluded_count, version.excluded_digest) == (1, lineage.digest(array("q", [1])))


def test_two_tickets_of_one_batch_name_a_sample_once(database: str) -> None:
    story.dataset()
    model_id = story.trained()
    story.submit(1, 2), story.submit(2, 3)
    assert story.forget_set(story.closed(model_id)) == [1, 2, 3]


def test_the_digest_of_no_ordinals_is_that_of_no_bytes() -> None:
    assert lineage.digest(array("q")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert lineage.digest(array("q", [1])) == "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8"


def picture(session: object) -> tuple[set[object], set[object]]:
    """Tickets behind the tombstones seen, and behind the obligations seen."""
    buried = set(session.scalars(select(Tombstone.ticket_id)))  # type: ignore[attr-defined]  # a Session
    owed = set(session.scalars(select(Obligation.ticket_id)))  # type: ignore[attr-defined]  # a Session
    return buried, owed


def test_a_snapshot_waits_for_tickets_on_their_way(database: str) -> None:
    dataset_id = story.dataset()
    story.register()
    seen: list[tuple[set[object], set[object]]] = []

    def snapshot() -> None:
        with transaction() as session:
            lineage.lock_for_snapshot(session, dataset_id)
            seen.append(picture(session))

    with transaction() as session:
        accepted = tickets.submit(session, "tool", story.submission(1))
        thread = threading.Thread(target=snapshot)
        thread.start()
        wait_until_blocked()
        assert not seen
    thread.join()
    assert seen == [({accepted.ticket_id}, {accepted.ticket_id})]


def test_a_snapshot_keeps_later_tickets_from_committing(database: str) -> None:
    dataset_id = story.dataset()
    story.register()
    early = story.submit(1)
    late: list[object] = []
    with transaction() as session:
        lineage.lock_for_snapshot(session, dataset_id)
        thread = threading.Thread(target=lambda: late.append(story.submit(2)))
        thread.start()
        wait_until_blocked()
        assert picture(session) == ({early}, {early})
        assert not late
    thread.join()
    assert len(late) == 1


def test_a_registration_waits_for_tickets_on_their_way(database: str) -> None:
    """The ticket found no model to owe it; the model's first training must leave its samples out."""
    dataset_id = story.dataset()
    made: list[int] = []
    with transaction() as session:
        tickets.submit(session, "tool", story.submission(1))
        thread = threading.Thread(target=lambda: made.append(story.register()))
        thread.start()
        wait_until_blocked()
        assert not made
    thread.join()
    assert story.tombstoned(dataset_id) == [1]
    (version,) = story.work(made[0])
    assert version.excluded_count == 1
