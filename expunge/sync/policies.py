"""The operator's seat, first half: thresholds and limits, read with an ETag and replaced under it."""

from collections.abc import Mapping
from typing import Any

import httpx

from expunge.address import part
from expunge.answers import parsed
from expunge.bodies import checked
from expunge.models import DecisionRequest, DryRunView, PolicyBody, PolicyView, ProposalView
from expunge.policies import Policy, written
from expunge.sync.http import Http


class Policies:
    """The policy that judges each model's updates."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def get(self, model: str) -> Policy:
        """The policy in force, with the ETag that `replace` needs."""
        return policy(self.http.call("GET", f"/policies/{part(model)}"))

    def replace(self, model: str, body: PolicyBody | Mapping[str, Any], etag: str) -> Policy | ProposalView:
        """Put a whole new policy in force, if the one that was read is still the one in force.

        One that loosens what guards the model comes back as a proposal, and waits for somebody else's approval. Raises
        `PreconditionFailed` where somebody changed it in the meantime: read it again.
        """
        path, headers = f"/policies/{part(model)}", {"If-Match": etag}
        response = self.http.call("PUT", path, json=written(body), headers=headers)
        return parsed(response, ProposalView) if response.status_code == httpx.codes.ACCEPTED else policy(response)

    def dry_run(self, model: str, body: PolicyBody | Mapping[str, Any]) -> DryRunView:
        """What another policy would have made of past batches. Nothing is put in force."""
        return self.http.post(DryRunView, f"/policies/{part(model)}/dry-run", written(body), timeout=self.http.long)

    def history(self, model: str) -> list[PolicyView]:
        """Every policy the model ever had, newest first."""
        return self.http.get(list[PolicyView], f"/policies/{part(model)}/history")

    def proposals(self, model: str, limit: int = 50) -> list[ProposalView]:
        """Policies that wait, or waited, for somebody else's approval, newest first; 200 at most."""
        return self.http.get(list[ProposalView], f"/policies/{part(model)}/proposals", limit=limit)

    def approve(self, model: str, proposal: int, why: str) -> Policy:
        """Put a proposed policy in force. Its author cannot."""
        with checked():
            asked = DecisionRequest(why=why).model_dump(mode="json")
        path = f"/policies/{part(model)}/proposals/{part(proposal)}/approve"
        return policy(self.http.call("POST", path, json=asked))

    def refuse(self, model: str, proposal: int, why: str) -> ProposalView:
        """Refuse a proposed policy, or take one's own back."""
        with checked():
            asked = DecisionRequest(why=why)
        return self.http.post(ProposalView, f"/policies/{part(model)}/proposals/{part(proposal)}/refuse", asked)


def policy(response: httpx.Response) -> Policy:
    """A proxy that compresses marks the ETag as weak, which the service does not take back."""
    found = parsed(response, PolicyView)
    return Policy(**dict(found), etag=response.headers.get("etag", "").removeprefix("W/"))
