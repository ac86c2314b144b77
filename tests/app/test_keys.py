"""The life of a key: rotation, an earlier end, revocation; each with its event, in one commit."""

import json
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import func, update
from typer.testing import CliRunner

from app import auth, keys
from app.auth import Scope
from app.cli import app as command_line
from app.db import single, transaction
from app.errors import Conflict, NotFound, Unauthenticated, Unprocessable
from app.tables import ApiKey, AuditEvent
from tests.app import story
from tests.app.conftest import Caller


def opens(key: str) -> bool:
    try:
        with single() as opened:
            auth.authenticate(opened, key)
    except Unauthenticated:
        return False
    return True


def prefix(key: str) -> str:
    return key.split("_")[1]


def row(key: str) -> ApiKey:
    return next(each for each in story.all_of(ApiKey) if each.prefix == prefix(key))


def set_end(key: str, ago: timedelta) -> None:
    with transaction() as session:
        session.execute(update(ApiKey).where(ApiKey.prefix == prefix(key)).values(expires_at=func.now() - ago))


def rotate(key: str, overlap_days: float = 7) -> str:
    with transaction() as session:
        return keys.rotate(session, prefix(key), overlap_days, "admin").secret


class TestRotation:
    def test_the_new_key_is_as_the_old_one_which_goes_on_for_the_overlap(self, database: str) -> None:
        with transaction() as session:
            limits = keys.Limits(requests_per_minute=5, ids_per_day=0)
            old = keys.create(session, "tool", [Scope.AUDIT_READ], 30, "admin", limits).secret
        new = rotate(old)
        assert opens(old)
        assert opens(new)
        was, now = row(old), row(new)
        for name in ("client", "scopes", "requests_per_minute", "ids_per_day"):
            assert getattr(now, name) == getattr(was, name), name
        assert now.expires_at is not None
        assert was.expires_at is not None
        assert now.expires_at - now.created_at == timedelta(days=30)
        assert was.expires_at - now.created_at == timedelta(days=7)
        set_end(old, timedelta(0))
        assert not opens(old)
        assert opens(new)

    def test_a_key_that_would_end_sooner_does(self, database: str) -> None:
        old = story.key(days=1)
        before = row(old).expires_at
        rotate(old)
        assert row(old).expires_at == before

    def test_without_an_overlap_the_old_key_ends_now(self, database: str) -> None:
        old = story.key()
        new = rotate(old, 0)
        assert not opens(old)
        assert opens(new)
        assert row(new).expires_at is None

    def test_a_key_that_ended_makes_no_other(self, database: str) -> None:
        expired, revoked = story.key(), story.key()
        set_end(expired, timedelta(seconds=1))
        with transaction() as session:
            keys.revoke(session, prefix(revoked), "admin")
        for key in (expired, revoked, "exp_nobody_x"):
            with pytest.raises(NotFound):
                rotate(key)
        assert len(story.all_of(ApiKey)) == 2

    @pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), 366])
    def test_an_overlap_that_is_none(self, database: str, days: float) -> None:
        old = story.key()
        with pytest.raises(Unprocessable, match="365"):
            rotate(old, days)

    def test_it_is_one_transaction_with_its_event(self, database: str) -> None:
        old = story.key()
        with suppress(RuntimeError), transaction() as session:
            keys.rotate(session, prefix(old), 0, "admin")
            raise RuntimeError
        assert opens(old)
        new = rotate(old)
        told = json.loads(story.all_of(AuditEvent)[-1].body)
        assert told["kind"] == "key.rotated"
        assert told["data"]["prefix"] == prefix(new)
        assert told["data"]["old_prefix"] == prefix(old)
        assert new.split("_", 2)[2] not in json.dumps(told)


def test_an_end_only_ever_comes_sooner(database: str) -> None:
    key = story.key(days=10)
    with transaction() as session:
        keys.expire(session, prefix(key), 3, "admin")
    end = row(key).expires_at
    with pytest.raises(Conflict), transaction() as session:
        keys.expire(session, prefix(key), 5, "admin")
    assert row(key).expires_at == end
    with transaction() as session:
        keys.expire(session, prefix(key), 0, "admin")
    assert not opens(key)
    assert [event.kind for event in story.all_of(AuditEvent)][-2:] == ["key.expiry_set", "key.expiry_set"]


def test_no_key_has_the_name_of_an_identity_providers_subject(database: str) -> None:
    with pytest.raises(Unprocessable, match="identity provider"):
        story.key("oidc:somebody")


def test_the_command_line(database: str) -> None:
    run = CliRunner()
    made = run.invoke(command_line, ["keys", "create", "tool", "--scope", "audit:read", "--ids-per-day", "5"])
    old = made.stdout.strip().splitlines()[-1]
    turned = run.invoke(command_line, ["keys", "rotate", prefix(old), "--overlap-days", "1"])
    new = turned.stdout.strip().splitlines()[-1]
    assert opens(old)
    assert opens(new)
    assert row(new).ids_per_day == 5
    ended = run.invoke(command_line, ["keys", "expire", prefix(old), "--days", "0"])
    assert "ends at" in ended.stdout
    assert not opens(old)
    listed = run.invoke(command_line, ["keys", "list"], env={"COLUMNS": "200"}).stdout
    assert prefix(old) in listed
    assert new.split("_", 2)[2] not in listed


class TestRoutes:
    def test_a_key_made_by_an_administrator_opens(self, caller: Caller) -> None:
        root = caller("root", Scope.ADMIN)
        made = root.post("/keys", json={"client": "tool", "scopes": ["deletions:read"], "days": 1})
        assert made.status_code == 201
        said = made.json()
        key = said.pop("key")
        assert root.get("/deletions", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        (listed,) = root.get("/keys", params={"client": "tool"}).json()
        assert listed.pop("last_used_at") is not None
        assert said.pop("last_used_at") is None
        assert listed == said
        assert key not in root.get("/keys").text

    def test_rotate_and_revoke(self, caller: Caller) -> None:
        root = caller("root", Scope.ADMIN)
        old = story.key("tool")
        turned = root.post(f"/keys/{prefix(old)}/rotate", json={"overlap_days": 0})
        assert turned.status_code == 201
        new = turned.json()["key"]
        assert not opens(old)
        assert root.delete(f"/keys/{prefix(new)}").status_code == 204
        assert not opens(new)
        assert root.delete(f"/keys/{prefix(new)}").status_code == 404
        assert root.post(f"/keys/{prefix(new)}/rotate", json={}).status_code == 404

    @pytest.mark.parametrize(
        "body",
        [
            {"client": "tool", "scopes": []},
            {"client": "tool", "scopes": ["root"]},
            {"client": " ", "scopes": ["admin"]},
            {"client": "oidc:x", "scopes": ["admin"]},
            {"client": "tool", "scopes": ["admin"], "days": 0},
            {"client": "tool", "scopes": ["admin"], "requests_per_minute": 0},
        ],
    )
    def test_what_makes_no_key(self, caller: Caller, body: dict[str, object]) -> None:
        assert caller("root", Scope.ADMIN).post("/keys", json=body).status_code == 422
        assert len(story.all_of(ApiKey)) == 1
