"""Cursors: a client may keep them, not make them."""

import base64
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import cursors
from app.errors import Unprocessable

POSITION = (datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), UUID(int=7))


def test_a_position_comes_back(database: str) -> None:
    assert cursors.decode(cursors.encode(POSITION, "q"), "q") == POSITION


def test_it_is_bound_to_its_list(database: str) -> None:
    with pytest.raises(Unprocessable):
        cursors.decode(cursors.encode(POSITION, "tickets|'a'"), "tickets|'b'")


def test_any_change_is_refused(database: str) -> None:
    raw = base64.urlsafe_b64decode(cursors.encode(POSITION, "q") + "==")
    for index in range(len(raw)):
        changed = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
        with pytest.raises(Unprocessable):
            cursors.decode(base64.urlsafe_b64encode(changed).decode(), "q")


def test_garbage(database: str) -> None:
    cursors.key()

    @given(st.text(max_size=40))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def check(cursor: str) -> None:
        with pytest.raises(Unprocessable):
            cursors.decode(cursor, "q")

    check()


def test_each_installation_has_its_own_key(database: str) -> None:
    assert len(cursors.key()) == 32
    made = cursors.encode((POSITION[0], uuid4()), "q")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursors, "key", lambda: bytes(32))
        with pytest.raises(Unprocessable):
            cursors.decode(made, "q")
