"""Settings: everything the environment may say, read once, named here and nowhere else.

`DATABASE_URL`, `REDIS_URL` and `ARTIFACT_URL` point at servers of your own; unset, each falls back to the private
server that `expunge up` keeps under the data folder, so the rest of the code cannot tell the two apart.
"""

import hashlib
import os
import re
import tempfile
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from typing_extensions import override

from app.scopes import Scope
from expunge.evidence import notes

# A Unix socket path may have 107 bytes; Postgres appends "/.s.PGSQL.5432" to its folder.
SOCKET_FOLDER_LIMIT = 90


DATABASES = ("postgresql", "postgres", "postgresql+psycopg")
BROKERS = ("redis", "rediss", "redis+socket", "sentinel")
REGISTRIES = ("https", "http", "postgresql", "mysql", "mssql", "sqlite", "databricks", "databricks-uc")
STORES = ("file", "s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "https")


def reject_unknown(address: str, schemes: tuple[str, ...]) -> None:
    """An address is looked at when it is read, not at the first ticket that needs it; its text may hold a password."""
    scheme, separator, rest = address.partition("://")
    if scheme not in schemes or not separator or not rest:
        raise ValueError(f"must be an address that begins with {schemes[0]}:// (or {', '.join(schemes[1:])})")


def a_database(value: SecretStr) -> SecretStr:
    reject_unknown(value.get_secret_value(), DATABASES)
    try:
        make_url(value.get_secret_value())
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ValueError("must be an address such as postgresql://user@host:5432/expunge") from None
    return value


def a_broker(value: SecretStr) -> SecretStr:
    reject_unknown(value.get_secret_value(), BROKERS)
    return value


def a_store(value: str) -> str:
    reject_unknown(value, STORES)
    return value


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Asymmetric signatures alone: what verifies must not be able to sign."""


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets from files, as orchestrators mount them: `DATABASE_URL_FILE` names a file that holds `DATABASE_URL`."""

    @override
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        prefix = self.config.get("env_prefix", "")
        variable = str(field.validation_alias or (prefix + field_name).upper())
        path = os.environ.get(f"{variable}_FILE")
        if path is None or "SecretStr" not in str(field.annotation):
            return None, field_name, False
        if variable in os.environ:
            raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one")
        try:
            return Path(path).read_text().rstrip("\r\n"), str(field.validation_alias or field_name), False
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{variable}_FILE names a file that cannot be read ({type(error).__name__})") from None

    @override
    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        found = (self.get_field_value(field, name) for name, field in fields)
        return {key: value for value, key, _ in found if value is not None}


def a_registry(value: SecretStr) -> SecretStr:
    reject_unknown(value.get_secret_value(), REGISTRIES)
    return value


def a_web_address(value: SecretStr) -> SecretStr:
    reject_unknown(value.get_secret_value(), ("https", "http"))
    return value


def an_alias(value: str) -> str:
    """As MLflow has it: `latest` and `v2` are names of its own."""
    if not re.fullmatch(r"[\w-]{1,255}", value) or re.fullmatch(r"latest|v\d+", value, re.IGNORECASE):
        raise ValueError("must be letters, digits, `_` and `-`, and neither `latest` nor such as `v2`")
    return value


def a_secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 32:
        raise ValueError("must have 32 characters or more, such as `openssl rand -base64 32` prints")
    return value


LOOPBACK = ("127.0.0.1", "::1", "localhost")


def safe(address: str) -> bool:
    """Whether nobody on the way can read or change what goes there."""
    found = urlsplit(address)
    return found.scheme == "https" or found.hostname in LOOPBACK


def networks(value: str) -> str:
    for part in value.split(","):
        try:
            ip_network(part.strip())
        except ValueError:
            raise ValueError("must be networks with commas between them, such as 10.0.0.0/8,fd00::/8") from None
    return value


def ports(value: str) -> str:
    for part in value.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= 65535:
            raise ValueError("must be ports with commas between them, such as 443,8443")
    return value


class Settings(BaseSettings):
    """One process's settings. Secrets are `SecretStr`, so that neither a log line nor a traceback prints them."""

    model_config = SettingsConfigDict(
        env_prefix="EXPUNGE_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(default=Path(".expunge"), description="Folder that holds the private servers and artifacts")
    database_url: Annotated[SecretStr, AfterValidator(a_database)] | None = Field(
        default=None, validation_alias="DATABASE_URL"
    )
    redis_url: Annotated[SecretStr, AfterValidator(a_broker)] | None = Field(default=None, validation_alias="REDIS_URL")
    artifact_url: Annotated[str, AfterValidator(a_store)] | None = Field(default=None, validation_alias="ARTIFACT_URL")

    host: str = Field(default="127.0.0.1", description="Address the API listens on under `expunge up`")
    port: int = Field(default=8420, ge=1, le=65535, description="Port the API listens on under `expunge up`")
    api_url: str | None = Field(default=None, description="Where the command line finds the API")
    api_key: SecretStr | None = Field(default=None, description="Key the command line sends")

    max_ids: int = Field(default=100_000, ge=1, description="Sample and subject ids one ticket may name")
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, description="Largest JSON body; manifests stream past it")
    idempotency_days: int = Field(default=90, ge=1, description="How long an Idempotency-Key is remembered")

    refusals_per_minute: int = Field(
        default=20, ge=1, description="Refused keys from one address before it must wait; per API process"
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Requests of one client; per API process, and a key may have a limit of its own"
    )
    ids_per_day: int | None = Field(
        default=None,
        ge=0,
        description="Ids that one client's tickets may name a day (UTC); a key may have its own limit",
    )

    hsts_seconds: int = Field(
        default=0, ge=0, description="Strict-Transport-Security of every answer; 0: none. Set it where TLS is in front"
    )

    oidc_issuer: str | None = Field(default=None, description="Issuer whose tokens are let in; unset: keys alone are")
    oidc_audience: str | None = Field(default=None, description="Audience that a token must name")
    oidc_jwks_url: str | None = Field(default=None, description="Where the issuer's public keys are, over https")
    oidc_algorithms: tuple[Algorithm, ...] = Field(default=("RS256",), description="Signatures that are taken, as JSON")
    oidc_roles_claim: str = Field(default="roles", description="Claim that holds the roles; a path with dots")
    oidc_roles: dict[str, tuple[Scope, ...]] = Field(default={}, description="Scopes of each role, as JSON")
    oidc_longest_seconds: int = Field(default=3600, ge=60, description="Longest life of a token")

    oidc_client_id: str | None = Field(
        default=None, description="Client id for signing in with a browser; unset: by API key alone"
    )
    oidc_client_secret: SecretStr | None = Field(default=None, description="Its secret, where the issuer gave one")
    oidc_authorize_url: str | None = Field(default=None, description="Where the issuer asks who somebody is")
    oidc_token_url: str | None = Field(default=None, description="Where a code becomes a token, over https")
    oidc_scope: str = Field(default="openid", description="What is asked for when somebody signs in")

    session_seconds: int = Field(default=8 * 3600, ge=60, description="Longest that somebody stays signed in")
    session_idle_seconds: int = Field(
        default=1800, ge=60, description="So long without a page, and they are signed out"
    )
    public_url: str | None = Field(
        default=None, description="Where browsers find the service; unset: as each request says"
    )

    statement_seconds: float = Field(default=30.0, ge=0, description="Longest one statement of the API may take")
    lock_seconds: float = Field(
        default=10.0, ge=0, description="Longest that the API waits for a row that another holds"
    )
    idle_transaction_seconds: float = Field(
        default=300.0, ge=0, description="Longest a transaction of API or worker may idle before Postgres ends it"
    )
    worker_statement_seconds: float = Field(
        default=3600.0, ge=0, description="Longest one statement of a worker may take"
    )
    manifest_seconds: float = Field(default=4 * 3600.0, gt=0, description="Longest that loading a manifest may take")
    max_manifest_bytes: int = Field(default=64 * 2**30, ge=1024, description="Largest manifest over HTTP")
    body_seconds: float = Field(
        default=60.0, gt=0, description="Longest wait for a JSON body, or for the next part of a manifest"
    )

    sweep_seconds: float = Field(default=5.0, gt=0, description="How often beat wakes the sweep")
    lease_seconds: float = Field(default=60.0, gt=0, description="How long a claim holds without a heartbeat")
    stop_seconds: float = Field(
        default=10.0, ge=0, description="How long a worker told to stop may take to its next step"
    )
    max_attempts: int = Field(default=3, ge=1, description="Runs of one batch before it is quarantined or bisected")
    retry_seconds: float = Field(
        default=5.0, ge=0, description="Wait before the second run of a batch; doubles each time"
    )
    task_seconds: int = Field(default=24 * 3600, ge=60, description="Longest one run may take")
    store_seconds: float = Field(
        default=60.0, gt=0, description="How long a request to a bucket is tried again before the run fails"
    )
    store_http: bool = Field(
        default=False, validation_alias="AWS_ALLOW_HTTP", description="Whether a bucket may be spoken to without TLS"
    )
    otel_endpoint: str | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Where traces go, with the extra `otel`",
    )
    metrics_open: bool = Field(default=False, description="Whether `/metrics` needs no key: on private networks alone")
    metrics_models: int = Field(default=200, ge=1, description="Models with series of their own in `/metrics`")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Least level logged")

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)

    webhook_secret: Annotated[SecretStr, AfterValidator(a_secret)] | None = Field(
        default=None, description="What webhook secrets are derived from, 32 characters or more"
    )
    signing_secret: Annotated[SecretStr, AfterValidator(a_secret)] | None = Field(
        default=None, description="What the keys that sign evidence are derived from, 32 characters or more"
    )
    log_origin: Annotated[str, AfterValidator(notes.check_name)] | None = Field(
        default=None, description="What the log calls itself in checkpoints, such as `example.com/expunge`"
    )
    checkpoint_url: Annotated[str, AfterValidator(a_store)] | None = Field(
        default=None, description="Folder or bucket, apart from the database, where signed checkpoints are published"
    )
    checkpoint_seconds: float = Field(default=60.0, gt=0, description="How often the log's growth is checkpointed")
    salt_days: int | None = Field(
        default=None, ge=0, description="Days after a ticket has ended until its salt is destroyed; unset: kept"
    )
    webhook_allow: Annotated[str, AfterValidator(networks)] | None = Field(
        default=None, description="Private networks that webhooks may reach, such as `10.0.0.0/8,fd00::/8`"
    )
    webhook_http: bool = Field(default=False, description="Whether those may be reached without TLS")
    webhook_ports: Annotated[str, AfterValidator(ports)] = Field(
        default="443,8443", description="Ports that webhooks may reach"
    )
    webhook_seconds: float = Field(default=15.0, gt=0, le=60, description="Longest one webhook call may take")
    webhook_retry_seconds: float = Field(
        default=5.0, ge=0, description="Longest wait before the second call; four times as long each time, up to a day"
    )
    webhook_retry_days: float = Field(default=3.0, gt=0, le=30, description="How long a webhook is tried")
    webhook_keep_days: int = Field(default=30, ge=1, description="How long webhook deliveries are kept")
    export_seconds: float = Field(default=15.0, gt=0, description="How often beat wakes the exporters")
    mlflow_uri: Annotated[SecretStr, AfterValidator(a_registry)] | None = Field(
        default=None, description="MLflow registry that hears of versions, with the extra `mlflow`"
    )
    mlflow_alias: Annotated[str, AfterValidator(an_alias)] = Field(
        default="current", description="Alias in MLflow of the version that is published"
    )
    openlineage_url: Annotated[SecretStr, AfterValidator(a_web_address)] | None = Field(
        default=None, description="OpenLineage receiver that hears of runs, with the extra `lineage`"
    )
    openlineage_namespace: str = Field(
        default="expunge", min_length=1, description="Namespace of jobs and data sets in OpenLineage"
    )

    @model_validator(mode="after")
    def _knows_its_issuer(self) -> "Settings":
        if self.oidc_issuer is None:
            return self
        if not self.oidc_audience or not self.oidc_jwks_url or not self.oidc_roles or not self.oidc_algorithms:
            raise ValueError("with an OIDC issuer, set its audience, jwks_url, roles and algorithms too")
        if not safe(self.oidc_jwks_url):
            raise ValueError("oidc_jwks_url must be https: whoever changes the keys on their way opens every door")
        if self.oidc_client_id is None:
            return self
        if not self.oidc_authorize_url or not self.oidc_token_url:
            raise ValueError("with an OIDC client id, set authorize_url and token_url too")
        if not safe(self.oidc_authorize_url) or not safe(self.oidc_token_url):
            raise ValueError("oidc_authorize_url and oidc_token_url must be https: secrets and codes go there")
        return self

    @model_validator(mode="after")
    def _is_an_address(self) -> "Settings":
        if self.public_url is not None and urlsplit(self.public_url).scheme not in ("http", "https"):
            raise ValueError("public_url must be an address such as https://expunge.example.com")
        return self

    @property
    def webhook_networks(self) -> list[IPv4Network | IPv6Network]:
        """The private networks that webhooks may reach."""
        return [ip_network(part.strip()) for part in self.webhook_allow.split(",")] if self.webhook_allow else []

    @property
    def webhook_port_numbers(self) -> set[int]:
        """The ports that webhooks may reach."""
        return {int(part) for part in self.webhook_ports.split(",")}

    @property
    def tells_lineage(self) -> bool:
        """Whether runs are told to anybody: at the address above, or where the OpenLineage library's own variables say."""
        if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
            return False
        own = {"OPENLINEAGE_URL", "OPENLINEAGE_CONFIG"} & os.environ.keys()
        return (
            self.openlineage_url is not None
            or bool(own)
            or any(name.startswith("OPENLINEAGE__TRANSPORT__") for name in os.environ)
        )

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
