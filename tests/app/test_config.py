"""Settings: an address that cannot work is refused when it is read, and its text, which may hold a password, is not shown."""

import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.cli import main
from app.config import Settings, settings
from app.db import engine

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def read_again() -> Iterator[None]:
    settings.cache_clear()
    engine.cache_clear()
    yield
    settings.cache_clear()
    engine.cache_clear()


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("DATABASE_URL", "postgresql://u:p@host:5432/expunge"),
        ("DATABASE_URL", "postgres://host/expunge?sslmode=require"),
        ("DATABASE_URL", "postgresql+psycopg://postgres@/expunge?host=%2Frun"),
        ("REDIS_URL", "redis://host:6379/0"),
        ("REDIS_URL", "rediss://:p@host/1"),
        ("REDIS_URL", "redis+socket:///run/redis.sock"),
        ("ARTIFACT_URL", "file:///var/lib/expunge"),
        ("ARTIFACT_URL", "s3://bucket/prefix"),
        ("ARTIFACT_URL", "gs://bucket"),
        ("ARTIFACT_URL", "az://container/prefix"),
    ],
)
def test_addresses(monkeypatch: pytest.MonkeyPatch, variable: str, address: str) -> None:
    monkeypatch.setenv(variable, address)
    read = Settings()
    host = address.partition("://")[2]
    assert host in {"DATABASE_URL": read.database, "REDIS_URL": read.broker, "ARTIFACT_URL": read.artifacts}[variable]


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("DATABASE_URL", f"u:{SECRET}@host/expunge"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@host/expunge"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@host:port/expunge"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_URL", ""),
        ("REDIS_URL", f":{SECRET}@host"),
        ("REDIS_URL", f"amqp://u:{SECRET}@host"),
        ("ARTIFACT_URL", "/var/lib/expunge"),
        ("ARTIFACT_URL", f"ftp://u:{SECRET}@host/x"),
    ],
)
def test_what_is_no_address_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, address: str
) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert SECRET not in str(refused.value)
    monkeypatch.setattr("sys.argv", ["expunge", "models", "list"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert said.startswith(f"Settings: {variable}: must be an address")
    assert "://" in said
    assert SECRET not in said


SECRETS = {
    "DATABASE_URL": f"postgresql://u:{SECRET}@nowhere.invalid/expunge",
    "REDIS_URL": f"redis://:{SECRET}@nowhere.invalid/0",
    "EXPUNGE_API_KEY": f"exp_aaaaaaaaaaaa_{SECRET}",
}


@pytest.mark.parametrize("variable", SECRETS)
class TestSecretsInFiles:
    @pytest.fixture(autouse=True)
    def unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in SECRETS:
            monkeypatch.delenv(name, raising=False)

    def test_a_file_holds_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
        (tmp_path / "secret").write_text(SECRETS[variable] + "\n")
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
        read = Settings()
        held = {"DATABASE_URL": read.database_url, "REDIS_URL": read.redis_url, "EXPUNGE_API_KEY": read.api_key}
        value = held[variable]
        assert value is not None
        assert value.get_secret_value() == SECRETS[variable]

    def test_both_are_one_too_many(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
        (tmp_path / "secret").write_text(SECRETS[variable])
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
        monkeypatch.setenv(variable, SECRETS[variable])
        with pytest.raises(SettingsError, match="both set") as refused:
            Settings()
        assert SECRET not in str(refused.value)

    def test_a_file_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "none"))
        with pytest.raises(SettingsError, match="cannot be read"):
            Settings()


def traceback_with(local: object) -> str:
    """A traceback that shows every local variable, as some error reporters send it."""
    try:
        raise RuntimeError(f"with {local!r}")
    except RuntimeError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    read = Settings()
    shown = [repr(read), str(read), repr(vars(read)), str(read.model_dump()), read.model_dump_json()]
    shown += [traceback_with(each) for each in (read, read.database_url, read.api_key)]
    for command in (["models", "list"], ["keys", "list"], ["migrate"]):
        monkeypatch.setattr("sys.argv", ["expunge", *command])
        with suppress(SystemExit, Exception):
            main()
    shown += capsys.readouterr()
    assert SECRET not in "".join(shown)
