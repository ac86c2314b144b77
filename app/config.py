"""Settings: everything the environment may say, read once, named here and nowhere else.

`DATABASE_URL`, `REDIS_URL` and `ARTIFACT_URL` point at servers of your own; unset, each falls back to the private
server that `expunge up` keeps under the data folder, so the rest of the code cannot tell the two apart.
"""

import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

# A Unix socket path may have 107 bytes; Postgres appends "/.s.PGSQL.5432" to its folder.
SOCKET_FOLDER_LIMIT = 90


class Settings(BaseSettings):
    """One process's settings. Secrets are `SecretStr`, so that neither a log line nor a traceback prints them."""

    model_config = SettingsConfigDict(env_prefix="EXPUNGE_", extra="ignore", populate_by_name=True)

    data_dir: Path = Field(default=Path(".expunge"), description="Folder that holds the private servers and artifacts")
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    redis_url: SecretStr | None = Field(default=None, validation_alias="REDIS_URL")
    artifact_url: str | None = Field(default=None, validation_alias="ARTIFACT_URL")

    host: str = Field(default="127.0.0.1", description="Address the API listens on under `expunge up`")
    port: int = Field(default=8420, ge=1, le=65535, description="Port the API listens on under `expunge up`")
    api_url: str | None = Field(default=None, description="Where the command line finds the API")
    api_key: SecretStr | None = Field(default=None, description="Key the command line sends")

    max_ids: int = Field(default=100_000, ge=1, description="Sample and subject ids one ticket may name")
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, description="Largest JSON body; manifests stream past it")
    idempotency_days: int = Field(default=90, ge=1, description="How long an Idempotency-Key is remembered")

    sweep_seconds: float = Field(default=5.0, gt=0, description="How often beat wakes the sweep")
    lease_seconds: float = Field(default=60.0, gt=0, description="How long a claim holds without a heartbeat")
    max_attempts: int = Field(default=3, ge=1, description="Runs of one batch before it is quarantined or bisected")
    retry_seconds: float = Field(
        default=5.0, ge=0, description="Wait before the second run of a batch; doubles each time"
    )
    task_seconds: int = Field(default=24 * 3600, ge=60, description="Longest one run may take")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged")

    @property
    def home(self) -> Path:
        """The data folder, absolute."""
        return self.data_dir.expanduser().resolve()

    @property
    def socket_dir(self) -> Path:
        """Folder for the private servers' sockets: inside the data folder unless its path is too long for a socket."""
        inside = self.home / "run"
        if len(str(inside).encode()) <= SOCKET_FOLDER_LIMIT:
            return inside
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"expunge-{digest}"

    @property
    def database(self) -> str:
        """SQLAlchemy address of the database."""
        if self.database_url is None:
            return f"postgresql+psycopg://postgres@/expunge?host={quote(str(self.socket_dir))}"
        address = self.database_url.get_secret_value()
        scheme, _, rest = address.partition("://")
        if scheme in ("postgres", "postgresql"):
            return f"postgresql+psycopg://{rest}"
        return address

    @property
    def broker(self) -> str:
        """Celery broker address."""
        if self.redis_url is None:
            return f"redis+socket://{self.socket_dir / 'redis.sock'}"
        return self.redis_url.get_secret_value()

    @property
    def artifacts(self) -> str:
        """Where weights are kept, as an obstore URL."""
        return self.artifact_url or (self.home / "artifacts").as_uri()

    @property
    def url(self) -> str:
        """Where the command line finds the API."""
        return (self.api_url or f"http://{self.host}:{self.port}").rstrip("/")


@lru_cache
def settings() -> Settings:
    """The settings of this process, read from the environment on first use."""
    return Settings()
