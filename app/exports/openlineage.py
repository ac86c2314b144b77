"""Runs as OpenLineage events: one START for each that the log knows, and one of COMPLETE, FAIL and ABORT where the log tells of
its end.

Whether a run is open is asked of the log, not remembered: the batch's last event before this one is its claim, or the run has
ended. A run whose lease was taken away has no end of its own; the batch's next event ends it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.exports.shapes import Event, Refused, Tell, event_of
from app.policy import FEW
from app.tables import AuditEvent, Model, Verdict, VersionKind

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import RunEvent

MISSING = "The extra `lineage` is not installed: pip install 'expunge[lineage]'."
CLAIMED, PUBLISHED, FAILED = "run.claimed", "version.published", "run.failed"
ABORTED = {
    CLAIMED: "it was put off, or its lease was taken away",
    "run.given_back": "given back",
    "batch.cancelled": "nothing left to forget",
    "batch.deferred": "inconclusive: its tickets wait for more",
    "batch.withdrawn": "taken back by an operator",
    "batch.absorbed": "absorbed by another batch",
    "batch.split": "its worker was lost, and the batch split",
    "batch.quarantined": "its worker was lost, and the batch quarantined",
}
"""Why a run that is open at such an event did not come to an end of its own."""
SECONDS = 5.0
NO_RETRY = {"total": 0, "status_forcelist": []}
"""The next tick tries again."""


@dataclass(frozen=True)
class Weights:
    """A version as a data set: its name and its digest."""

    version: str
    sha256: str


@dataclass(frozen=True)
class Check:
    """What the verdict held against a threshold; `actual` is null where so few samples have no rate."""

    name: str
    status: str
    expected: str | None = None
    actual: str | None = None


@dataclass(frozen=True)
class Said:
    """One OpenLineage event, in plain values."""

    state: str
    at: str
    run: UUID
    model: str
    dataset: str
    manifest: str
    parent: Weights | None
    tags: dict[str, str]
    output: Weights | None = None
    failure: str | None = None
    checks: Sequence[Check] = field(default=())


class Lineage:
    """One receiver of OpenLineage events; without an address, the one that the library's own variables name."""

    name = "openlineage"
    kinds = frozenset({PUBLISHED, FAILED, *ABORTED})

    def __init__(self, address: str | None, namespace: str, api: str) -> None:
        self.address, self.namespace, self.api = address, namespace, api

    def prepare(self, session: Session, event: Event) -> Tell:
        return partial(self.emit, self.said(session, event))

    def said(self, session: Session, event: Event) -> list[Said]:
        """What an event of the log means: the end of the run that is open, the start of the next one."""
        claim = open_run(session, event)
        if event.kind == CLAIMED:
            ended = [about(session, claim, "ABORT", event, ended_by(event))] if claim else []
            return [*ended, about(session, event, "START", event, {})]
        if event.kind == PUBLISHED:
            return self.published(session, claim, event)
        if claim is None:
            return []
        if event.kind == FAILED:
            return [about(session, claim, "FAIL", event, {}, failure=event.data["why"])]
        return [about(session, claim, "ABORT", event, ended_by(event))]

    def published(self, session: Session, claim: Event | None, event: Event) -> list[Said]:
        """A version without a run was served again by hand: it starts and is complete at once."""
        verdict = session.get_one(Verdict, event.data["verdict"])
        tags = {
            "expunge.version": event.data["version"],
            "expunge.kind": event.data["version_kind"],
            "expunge.rung": verdict.rung,
            "expunge.verdict": verdict.decision.value,
            "expunge.audit": f"{self.api}/models/{event.data['version']}/audit",
            "expunge.tickets": str(len(event.data["tickets"])),
        }
        output = Weights(event.data["version"], event.data["weights"])
        checks = checks_of(verdict, VersionKind(event.data["version_kind"]))
        done = about(session, claim or event, "COMPLETE", event, tags, output=output, checks=checks)
        return [done] if claim else [about(session, event, "START", event, {}), done]

    def emit(self, said: Sequence[Said]) -> None:
        client = client_of(self.address)
        for each in said:
            taken(client, run_event(each, self.namespace))


def open_run(session: Session, event: Event) -> Event | None:
    """The claim of the batch's run that is open when this event comes."""
    earlier = select(AuditEvent).where(AuditEvent.batch_id == event.batch_id, AuditEvent.seq < event.seq)
    ends = earlier.where(AuditEvent.kind.in_(Lineage.kinds)).order_by(AuditEvent.seq.desc()).limit(1)
    last = session.scalar(ends)
    return event_of(last) if last is not None and last.kind == CLAIMED else None


def ended_by(event: Event) -> dict[str, str]:
    return {"expunge.ended": ABORTED[event.kind]}


def about(session: Session, claim: Event, state: str, event: Event, tags: dict[str, str], **more: Any) -> Said:
    """The run that began with the claim, as it was then: a batch's later runs may have another parent."""
    model = session.get_one(Model, claim.model_id)
    assert claim.batch_id is not None, "a run is of a batch"
    of_claim = {name: str(claim.data[name]) for name in ("epoch", "attempt") if name in claim.data}
    return Said(
        state=state,
        at=event.at,
        run=uuid5(claim.batch_id, claim.hash),
        model=model.name,
        dataset=model.dataset.name,
        manifest=model.dataset.manifest_digest,
        parent=parent_at(session, claim),
        tags={"expunge.batch": str(claim.batch_id)} | {f"expunge.{k}": v for k, v in of_claim.items()} | tags,
        **more,
    )


def parent_at(session: Session, claim: Event) -> Weights | None:
    """The version that was current when the run was claimed."""
    earlier = select(AuditEvent).where(AuditEvent.model_id == claim.model_id, AuditEvent.seq < claim.seq)
    last = session.scalar(earlier.where(AuditEvent.kind == PUBLISHED).order_by(AuditEvent.seq.desc()).limit(1))
    if last is None:
        return None
    data = event_of(last).data
    return Weights(data["version"], data["weights"])


def checks_of(verdict: Verdict, kind: VersionKind) -> list[Check]:
    """What decided: MU and UE against their thresholds, or that the version was trained without the samples."""
    if kind is not VersionKind.UNLEARNED:
        return [Check("trained_without_forgotten_samples", "pass")]
    return [
        check_of(name, verdict.statistics[name], verdict.thresholds.get(name))
        for name in ("mu", "ue")
        if name in verdict.statistics
    ]


def check_of(name: str, statistic: dict[str, Any], threshold: float | None) -> Check:
    if threshold is None or (name == "ue" and statistic["n"] < FEW):
        return Check(name, "skip")
    low, high = statistic["low"], statistic["high"]
    status = "pass" if -threshold <= low and high <= threshold else "fail"
    return Check(name, status, f"±{threshold:g}", f"{statistic['estimate']:.6g} [{low:.6g}, {high:.6g}]")


@lru_cache(maxsize=1)
def client_of(address: str | None) -> "OpenLineageClient":
    """This process's client, made when it is first needed. It says nothing of the repository that it happens to run in."""
    try:
        from openlineage.client import OpenLineageClient
        from openlineage.client.facet_v2 import set_producer
        from openlineage.client.transport.http import HttpConfig, HttpTransport
    except ImportError:
        raise Refused(MISSING) from None
    set_producer(f"urn:expunge:{installed('expunge')}")
    quiet = {"facets": {"source_code_location": {"disabled": True}}}
    if address is None:
        client = OpenLineageClient(config=quiet)
    else:
        config: dict[str, Any] = {"url": f"{address.rstrip('/')}/", "timeout": SECONDS, "retry": NO_RETRY}
        if key := os.environ.get("OPENLINEAGE_API_KEY"):
            config["auth"] = {"type": "api_key", "apiKey": key}
        client = OpenLineageClient(transport=HttpTransport(HttpConfig.from_dict(config)), config=quiet)
    if client.transport.kind == "async_http":
        raise Refused("The transport `async_http` takes events before anybody has received them. Use `http`.")
    return client


def taken(client: "OpenLineageClient", event: "RunEvent") -> None:
    """Send one event. Raises `Refused` where the receiver does not take it."""
    from requests import RequestException

    try:
        client.emit(event)
    except RequestException as error:
        status = f"status {error.response.status_code}" if error.response is not None else type(error).__name__
        raise Refused(f"The receiver did not take it: {status}.") from None


def run_event(said: Said, namespace: str) -> "RunEvent":
    """In the library's own shapes."""
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import dataset_version_dataset, job_type_job

    def version(digest: str) -> dict[str, Any]:
        return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(f"sha256:{digest}")}

    inputs = [InputDataset(namespace, f"datasets/{said.dataset}", facets=version(said.manifest))]
    if said.parent is not None:
        inputs.append(InputDataset(namespace, f"versions/{said.parent.version}", facets=version(said.parent.sha256)))
    outputs = []
    if said.output is not None:
        outputs.append(OutputDataset(namespace, f"versions/{said.output.version}", facets=version(said.output.sha256)))
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="EXPUNGE", jobType="MODEL")
    return RunEvent(
        eventType=RunState[said.state],
        eventTime=said.at,
        run=Run(str(said.run), facets=run_facets(said)),
        job=Job(namespace, said.model, facets={"jobType": kind}),
        inputs=inputs,
        outputs=outputs,
    )


def run_facets(said: Said) -> dict[str, Any]:
    from openlineage.client.facet_v2 import error_message_run, processing_engine_run, tags_run, test_run

    tags = [tags_run.TagsRunFacetFields(key, value, "EXPUNGE") for key, value in said.tags.items()]
    facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(installed("expunge"), "Expunge"),
        "tags": tags_run.TagsRunFacet(tags),
    }
    if said.failure is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(said.failure, "Python")
    if said.checks:
        executed = [
            test_run.TestExecution(each.name, each.status, "error", expected=each.expected, actual=each.actual)
            for each in said.checks
        ]
        facets["test"] = test_run.TestRunFacet(executed)
    return facets
