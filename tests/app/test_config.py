"""Settings: an address that cannot work is refused when it is read, and its text, which may hold a password, is not shown."""

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from app.cli import main
from app.config import Settings, settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def read_again() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


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
