"""Versions in an MLflow registry: a model version for each that is published, and an alias on the one that is current.

The alias is moved after the model version is there, and never to a version that is no longer current: whoever catches up does
not lead deployments through the past. What tells one of ours from another is the tag with the event's hash.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.exports.shapes import Event, Refused, Tell
from app.policy import FEW
from app.tables import AuditEvent, Model, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVENT = "expunge.event"
MISSING = "The extra `mlflow` is not installed: pip install 'expunge[mlflow]'."
# The library's own settings, unless the operator has set them: it calls its makers with what it is used for, writes lines of
# its own into the log, and waits for two minutes seven times where a registry does not answer.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


@dataclass(frozen=True)
class Line:
    """A model, and which events published its versions; that of the current one, if it has one."""

    model: str
    current: str | None
    events: frozenset[str]


class Registry:
    """One MLflow registry."""

    name = "mlflow"
    kinds = frozenset({"version.published", "weights.withdrawn", "weights.purged", "installation.restored"})

    def __init__(self, address: str, alias: str, api: str) -> None:
        self.address, self.alias, self.api = address, alias, api

    def prepare(self, session: Session, event: Event) -> Tell:
        match event.kind:
            case "version.published":
                return self.published(session, event)
            case "installation.restored":
                return partial(self.restore, lines(session))
            case kind:
                return self.gone(session, event, f"expunge.{kind.replace('.', '_')}")

    def published(self, session: Session, event: Event) -> Tell:
        version = session.scalars(select(Version).where(Version.batch_id == event.batch_id)).one()
        is_current = version.model.current_version_id == version.id
        return partial(self.add, version.model.name, self.tags(event, version), is_current)

    def tags(self, event: Event, version: Version) -> dict[str, str]:
        """What stands beside the version. Counts and rates, and never who."""
        name, verdict = event.data["version"], version.verdict
        tags = {
            EVENT: event.hash,
            "expunge.version": name,
            "expunge.batch": str(version.batch_id),
            "expunge.kind": version.kind.value,
            "expunge.rung": verdict.rung,
            "expunge.verdict": verdict.decision.value,
            "expunge.weights": f"{self.api}/models/{name}/weights",
            "expunge.weights_sha256": version.weights_digest,
            "expunge.audit": f"{self.api}/models/{name}/audit",
            "expunge.tickets": str(len(event.data["tickets"])),
        }
        if version.parent is not None:
            tags["expunge.parent"] = f"{version.model.name}-v{version.parent.number}"
        return tags | estimates(verdict.statistics)

    def gone(self, session: Session, event: Event, tag: str) -> Tell:
        """Say of a version that nobody is given its weights any more."""
        model = session.get_one(Model, event.model_id)
        number = int(event.data["version"].rpartition("-v")[2])
        named = select(Version.batch_id).where(Version.model_id == model.id, Version.number == number)
        published = published_by(session, model).get(session.scalar(named))
        return partial(self.mark, model.name, published, {tag: event.at})

    def add(self, model: str, tags: dict[str, str], is_current: bool) -> None:
        with self.opened() as client:
            number = find(client, model, tags[EVENT])
            if number is None:
                ensure(client, model)
                number = create(client, model, tags)
            if is_current:
                client.set_registered_model_alias(model, self.alias, number)

    def mark(self, model: str, event: str | None, tags: dict[str, str]) -> None:
        """Put tags on a version. One that the registry does not have, since somebody deleted it there, needs none."""
        with self.opened() as client:
            number = None if event is None else find(client, model, event)
            for key, value in tags.items() if number is not None else ():
                client.set_model_version_tag(model, str(number), key, value)

    def restore(self, known: Sequence[Line]) -> None:
        """Go back to what the restored log knows: the alias to each model's current version, and a mark on those that were
        published after the back-up and are lost."""
        with self.opened() as client:
            for line in known:
                found = client.search_model_versions(f"name='{line.model}'")
                ours = {each.tags[EVENT]: str(each.version) for each in found if EVENT in each.tags}
                lost = ours.keys() - line.events
                for event in sorted(lost):
                    client.set_model_version_tag(line.model, ours[event], "expunge.lost", "restored from a back-up")
                if line.current in ours:
                    client.set_registered_model_alias(line.model, self.alias, ours[line.current])
                elif lost:  # it had no version yet, or one that was never told here
                    client.delete_registered_model_alias(line.model, self.alias)

    @contextmanager
    def opened(self) -> Iterator["MlflowClient"]:
        """A client of the registry. Raises `Refused` for whatever it answers but yes."""
        client = client_of(self.address)
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except MlflowException as error:
            raise Refused(f"The registry did not take it: {error.error_code}.") from None


@lru_cache(maxsize=1)
def client_of(address: str) -> "MlflowClient":
    """This process's client, made when it is first needed: the library takes seconds to import."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise Refused(MISSING) from None
    return MlflowClient(tracking_uri=address, registry_uri=address)


def find(client: "MlflowClient", model: str, event: str) -> str | None:
    """The number that the registry gave to the version which this event published."""
    found = client.search_model_versions(f"name='{model}' and tag.`{EVENT}`='{event}'")
    return str(found[0].version) if found else None


def create(client: "MlflowClient", model: str, tags: dict[str, str]) -> str:
    """Make the model version; its number. A server that has not been told otherwise takes no source on a host that it does not
    know: then the source is the weights' digest, and where to get them stands in the tag alone."""
    from mlflow.exceptions import MlflowException

    try:
        made = client.create_model_version(model, tags["expunge.weights"], tags=tags, await_creation_for=0)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        named = f"expunge:/weights/{tags['expunge.weights_sha256']}"
        made = client.create_model_version(model, named, tags=tags, await_creation_for=0)
    return str(made.version)


def ensure(client: "MlflowClient", model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def estimates(statistics: dict[str, Any]) -> dict[str, str]:
    """MU and UE with their intervals; not of so few samples that no rate is claimed of them."""
    tags: dict[str, str] = {}
    for name in ("mu", "ue"):
        found = statistics.get(name)
        if found is not None and (name == "mu" or found["n"] >= FEW):
            tags |= {f"expunge.{name}": f"{found['estimate']:.6g}"}
            tags |= {f"expunge.{name}_{end}": f"{found[end]:.6g}" for end in ("low", "high")}
    return tags


def published_by(session: Session, model: Model) -> dict[UUID | None, str]:
    """The hashes of the events that published the model's versions, by their batches."""
    query = select(AuditEvent.batch_id, AuditEvent.hash)
    query = query.where(AuditEvent.model_id == model.id, AuditEvent.kind == "version.published")
    return {row.batch_id: row.hash.hex() for row in session.execute(query)}


def lines(session: Session) -> list[Line]:
    """Every model as the log has it now."""
    found = []
    for model in session.scalars(select(Model).order_by(Model.id)):
        events = published_by(session, model)
        now = session.get_one(Version, model.current_version_id) if model.current_version_id is not None else None
        found.append(Line(model.name, events[now.batch_id] if now is not None else None, frozenset(events.values())))
    return found
