"""Buckets, and what they are for: guessing keys is slow, nobody is locked out by another, a client keeps to its rate."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from app import auth, config, keys
from app.auth import Principal, Scope
from app.db import single, transaction
from app.errors import TooMany, Unauthenticated
from app.keys import Limits, create
from app.main import app
from app.throttle import Buckets, Recent
from tests.app import story


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_minutes_worth_and_fills_evenly() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    assert [buckets.take(("a",), 3) for _ in range(4)] == [0, 0, 0, pytest.approx(20)]
    assert buckets.take(("b",), 3) == 0, "another name has another bucket"
    clock.now += 19
    assert buckets.wait(("a",), 3) == pytest.approx(1)
    clock.now += 1
    assert buckets.wait(("a",), 3) == 0, "looking takes nothing"
    assert buckets.take(("a",), 3) == 0
    assert buckets.take(("a",), 3) > 0
    clock.now += 10_000
    assert [buckets.take(("a",), 3) > 0 for _ in range(4)] == [False, False, False, True], "never more than a minute's"


def test_only_so_many_names_are_kept() -> None:
    buckets, recent = Buckets(most=2), Recent(most=2)
    for name in ("a", "b", "c"):
        buckets.take((name,), 1)
        recent.add(name.encode())
    assert len(buckets.levels) == 2
    assert b"a" not in recent
    assert b"c" in recent


@pytest.fixture
def limited(database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def limit(**values: int) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"EXPUNGE_{name.upper()}", str(value))
        config.settings.cache_clear()

    return limit


def knock(door: auth.Door, key: str, address: str = "192.0.2.1") -> Principal:
    with single() as opened:
        return door.authenticate(opened, key, address)


class TestGuessing:
    @pytest.fixture(autouse=True)
    def three_guesses(self, limited: Callable[..., None]) -> None:
        limited(refusals_per_minute=3)

    def guess(self, door: auth.Door, key: str, times: int = 3) -> None:
        for number in range(times):
            with pytest.raises(Unauthenticated):
                knock(door, f"{key.rsplit('_', 1)[0]}_wrong{number}")

    def test_after_so_many_guesses_not_even_the_right_one_opens(self, database: str) -> None:
        door, key = auth.Door(), story.key()
        self.guess(door, key)
        with pytest.raises(TooMany) as refused:
            knock(door, key)
        assert 1 <= int(refused.value.headers["Retry-After"]) <= 20

    def test_time_lets_in_again(self, database: str) -> None:
        door, key, clock = auth.Door(), story.key(), Clock()
        door.refusals = Buckets(clock=clock)
        self.guess(door, key)
        clock.now += 21
        assert knock(door, key).client == "tool"

    def test_other_addresses_and_other_keys_are_not_held_up(self, database: str) -> None:
        door, key, neighbour = auth.Door(), story.key("victim"), story.key("neighbour")
        self.guess(door, key)
        assert knock(door, key, "192.0.2.2").client == "victim"
        assert knock(door, neighbour).client == "neighbour"

    def test_who_was_let_in_before_is_not_locked_out(self, database: str) -> None:
        door, key = auth.Door(), story.key("victim")
        knock(door, key)
        self.guess(door, key)
        assert knock(door, key).client == "victim"

    def test_a_flood_of_made_up_prefixes_is_told_to_wait_and_locks_out_nobody(self, database: str) -> None:
        door, key = auth.Door(), story.key()
        for number in range(3):
            with pytest.raises(Unauthenticated):
                knock(door, f"exp_{number}_x")
        with pytest.raises(TooMany):
            knock(door, "exp_another_x")
        assert knock(door, key).client == "tool"

    def test_no_key_at_all_is_no_guess(self, database: str) -> None:
        door = auth.Door()
        for _ in range(10):
            with pytest.raises(Unauthenticated):
                knock(door, "")

    def test_a_revoked_key_is_known_no_longer(self, database: str) -> None:
        door, key = auth.Door(), story.key()
        knock(door, key)
        with transaction() as session:
            keys.revoke(session, key.split("_")[1], "admin")
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                knock(door, key)
        with pytest.raises(TooMany):
            knock(door, key)


@pytest.mark.parametrize(
    ("host", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("a socket", "a socket"),
    ],
)
def test_whose_guesses_count_together(host: str, counts_as: str) -> None:
    assert auth.address_of(Request({"type": "http", "client": (host, 1)})) == counts_as
    assert auth.address_of(Request({"type": "http", "client": None})) == ""


class TestRequests:
    def test_a_client_keeps_to_its_rate_whatever_key_it_uses(self, limited: Callable[..., None]) -> None:
        limited(requests_per_minute=2)
        first, second, other = story.key("tool"), story.key("tool"), story.key("other")
        with TestClient(app) as http:

            def ask(key: str) -> int:
                return http.get("/models", headers={"Authorization": f"Bearer {key}"}).status_code

            assert [ask(first), ask(second), ask(first), ask(second)] == [200, 200, 429, 429]
            assert ask(other) == 200
            refused = http.get("/models", headers={"Authorization": f"Bearer {first}"})
        assert refused.json()["code"] == "too_many"
        assert 1 <= int(refused.headers["Retry-After"]) <= 30

    def test_a_keys_own_limit_stands_instead(self, limited: Callable[..., None]) -> None:
        limited(requests_per_minute=1)
        with transaction() as session:
            key = create(session, "tool", [Scope.DELETIONS_READ], None, "admin", Limits(requests_per_minute=3)).secret
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as http:
            assert [http.get("/models").status_code for _ in range(4)] == [200, 200, 200, 429]
