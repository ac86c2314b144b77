"""One owner per data folder."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded.errors import Refused
from embedded.lock import exclusive
from tests.embedded.conftest import Owner


def test_a_second_holder_is_told_who_the_first_is(folder: Path) -> None:
    with exclusive(folder), pytest.raises(Refused, match=f"in use by another Expunge process .pid {os.getpid()}."):
        exclusive(folder).__enter__()


def test_the_lock_is_free_again_afterwards(folder: Path) -> None:
    for _ in range(2):
        with exclusive(folder / "data"):
            pass


@pytest.mark.service
def test_a_killed_holder_lets_go_at_once(own: Callable[..., Owner], folder: Path) -> None:
    owner = own(folder, "crew")
    owner.await_ready()
    with pytest.raises(Refused, match=str(owner.process.pid)):
        exclusive(folder).__enter__()
    owner.end(signal.SIGKILL)
    with exclusive(folder):
        pass
