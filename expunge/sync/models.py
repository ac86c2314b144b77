"""The reviewer's seat, and the ML engineer's second half: models, versions, weights."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from expunge.address import part
from expunge.bodies import checked, listed
from expunge.models import (
    DeletionAccepted,
    ExposureView,
    FlushRequest,
    ModelDetail,
    ModelRequest,
    ModelView,
    OutlierDeletionRequest,
    PolicyBody,
    ResumeRequest,
    RollbackRequest,
    VersionView,
)
from expunge.policies import written
from expunge.retries import idempotency
from expunge.sync.http import Http
from expunge.weights import Download, Weights, promised


class Models:
    """Models and their versions. A `reference` is `<model>-v<number>`, `<model>@current` or `<model>@<ISO time>`."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def register(
        self, name: str, dataset: str, problem: str, policy: PolicyBody | Mapping[str, Any] | None = None
    ) -> ModelView:
        """Register a model on a dataset and order its first training; without a policy, under the service's default."""
        with checked():
            asked = ModelRequest(name=name, dataset=dataset, problem=problem)
        body = asked.model_dump(mode="json", exclude_unset=True)
        if policy is not None:
            body["policy"] = written(policy)
        return self.http.post(ModelView, "/models", body)

    def all(self) -> list[ModelView]:
        """All models, by name."""
        return self.http.get(list[ModelView], "/models")

    def get(self, name: str) -> ModelDetail:
        """One model with all its versions and the batch being worked on."""
        return self.http.get(ModelDetail, f"/models/{part(name)}/versions")

    def flush(self, name: str) -> ModelView:
        """Let the model's next batch close at once."""
        return self.http.post(ModelView, f"/models/{part(name)}/flush", FlushRequest())

    def resume(self, name: str, why: str) -> ModelView:
        """Let approximate updates of a model that was stopped be published again."""
        with checked():
            asked = ResumeRequest(why=why)
        return self.http.post(ModelView, f"/models/{part(name)}/resume", asked)

    def rollback(self, name: str, to: str, why: str) -> VersionView:
        """Serve an earlier training's weights again, as a new version. Raises `Conflict` where they hold what was forgotten."""
        with checked():
            asked = RollbackRequest(to=to, why=why)
        return self.http.post(VersionView, f"/models/{part(name)}/rollback", asked)

    def exposure(self, name: str) -> ExposureView:
        """Which training samples of the current version have outlying gradients, by id. Needs an admin's key."""
        return self.http.get(ExposureView, f"/models/{part(name)}/exposure")

    def delete_outliers(
        self, name: str, samples: Iterable[str], why: str, *, idempotency_key: str | None = None
    ) -> DeletionAccepted:
        """Say yes to the deletion of samples that `exposure` names at present; the answer is a ticket like any other.

        Raises `Conflict` where one is not named any more: then nothing is deleted. Why it is done stays in the audit log.
        """
        with checked():
            asked = OutlierDeletionRequest(sample_ids=listed(samples), why=why)
        path = f"/models/{part(name)}/exposure/deletions"
        return self.http.post(DeletionAccepted, path, asked, headers=idempotency(idempotency_key))

    def version(self, reference: str) -> VersionView:
        """One version."""
        return self.http.get(VersionView, f"/models/{part(reference)}")

    def weights(self, reference: str, to: Path | str, *, sha256: str | None = None) -> Weights:
        """Download a version's weights into a file that appears only when all of it has come and matches its digest.

        The digest is the one that the answer names; give `sha256`, from an audit report for example, to take no other.
        Raises `Corrupt` where they differ: then what stood at `to` before is still there.
        """

        def take(response: httpx.Response) -> Weights:
            download = Download(Path(to), promised(response, sha256))
            try:
                for chunk in response.iter_bytes():
                    download.write(chunk)
                return download.finish()
            finally:
                download.discard()

        return self.http.send("GET", f"/models/{part(reference)}/weights", take, timeout=self.http.long)
