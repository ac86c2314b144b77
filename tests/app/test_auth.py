"""Keys and what they open."""

from datetime import timedelta

import pytest
from sqlalchemy import func, update

from app import auth, keys
from app.auth import Principal, Scope
from app.db import single, transaction
from app.errors import NotFound, Unauthenticated, Unprocessable
from app.tables import ApiKey
from tests.app import story


def authenticate(key: str) -> Principal:
    with single() as opened:
        return auth.authenticate(opened, key)


def test_a_key_opens_with_its_scopes(database: str) -> None:
    who = authenticate(story.key("tool", Scope.DELETIONS_READ))
    assert who == Principal("tool", frozenset({"deletions:read"}), who.key)
    assert who.may(Scope.DELETIONS_READ)
    assert not who.may(Scope.DELETIONS_WRITE)
    assert who.sees == "tool"


@pytest.mark.parametrize("client", ["", " ", "a\nb", "a\0", "x" * 129, " padded"])
def test_a_client_that_no_log_could_show_gets_no_key(database: str, client: str) -> None:
    with pytest.raises(Unprocessable, match="printable"):
        story.key(client)
    assert story.all_of(ApiKey) == []


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf"), 1e30, 36_501])
def test_a_term_that_is_none_gets_no_key(database: str, days: float) -> None:
    with pytest.raises(Unprocessable, match="36500 days"):
        story.key("tool", days=days)


def test_an_admin_may_do_everything_and_sees_all(database: str) -> None:
    who = authenticate(story.key("root", Scope.ADMIN))
    assert all(who.may(scope) for scope in Scope)
    assert who.sees is None


def test_only_a_digest_is_kept(database: str) -> None:
    key = story.key()
    (row,) = story.all_of(ApiKey)
    secret = key.removeprefix(f"exp_{row.prefix}_")
    assert len(secret) >= 43
    assert row.digest == auth.digest(secret)
    assert secret not in repr(vars(row))


def test_several_keys_serve_one_client(database: str) -> None:
    old, new = story.key("tool"), story.key("tool")
    with transaction() as session:
        keys.revoke(session, old.split("_")[1], "admin")
    with pytest.raises(Unauthenticated):
        authenticate(old)
    assert authenticate(new).client == "tool"


@pytest.mark.parametrize("key", ["", "exp", "exp_", "exp__", "exp_a_b", "Bearer", "exp_\0_x", "exp_é_😀", "x" * 10_000])
def test_garbage(database: str, key: str) -> None:
    story.key()
    with pytest.raises(Unauthenticated) as refused:
        authenticate(key)
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


def test_a_right_prefix_with_a_wrong_secret(database: str) -> None:
    key = story.key()
    for wrong in (key[:-1], key + "x", key.rsplit("_", 1)[0] + "_", key.swapcase()):
        with pytest.raises(Unauthenticated):
            authenticate(wrong)


def test_expired_and_revoked_look_like_any_other(database: str) -> None:
    expired, revoked = story.key(days=1), story.key()
    with transaction() as session:
        over = update(ApiKey).where(ApiKey.prefix == expired.split("_")[1])
        session.execute(over.values(expires_at=func.now() - timedelta(seconds=1)))
        keys.revoke(session, revoked.split("_")[1], "admin")
    said = set()
    for key in (expired, revoked, "exp_nobody_x"):
        with pytest.raises(Unauthenticated) as refused:
            authenticate(key)
        said.add(refused.value.detail)
    assert len(said) == 1


def test_a_key_is_revoked_once(database: str) -> None:
    prefix = story.key().split("_")[1]
    with transaction() as session:
        keys.revoke(session, prefix, "admin")
    for gone in (prefix, "nobody"):
        with transaction() as session, pytest.raises(NotFound):
            keys.revoke(session, gone, "admin")


def test_the_last_use_is_kept_to_the_minute(database: str) -> None:
    key = story.key()
    authenticate(key)
    (first,) = story.all_of(ApiKey)
    authenticate(key)
    (second,) = story.all_of(ApiKey)
    assert first.last_used_at is not None
    assert first.last_used_at == second.last_used_at
    with transaction() as session:
        session.execute(update(ApiKey).values(last_used_at=func.now() - timedelta(minutes=2)))
    authenticate(key)
    (third,) = story.all_of(ApiKey)
    assert third.last_used_at is not None
    assert third.last_used_at >= first.last_used_at
