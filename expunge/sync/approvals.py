"""The approver's seat: the second person's consent that a model needs before it forgets much."""

from expunge.address import part
from expunge.bodies import checked
from expunge.models import ApprovalView, ApproveRequest, Instead, RefuseRequest
from expunge.sync.http import Http


class Approvals:
    """What waits for approval because it passes a model's cap."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def newest(self, model: str, limit: int = 50) -> list[ApprovalView]:
        """What waits for approval, or did, newest first; 200 at most."""
        return self.http.get(list[ApprovalView], f"/models/{part(model)}/approvals", limit=limit)

    def approve(
        self,
        model: str,
        approval: int,
        *,
        samples: int,
        why: str,
        hours: float = 168,
        tickets_sha256: str | None = None,
    ) -> ApprovalView:
        """Let what the request names be forgotten: once, at most `samples`, and within `hours`."""
        with checked():
            asked = ApproveRequest(samples=samples, why=why, hours=hours, tickets_sha256=tickets_sha256)
        return self.http.post(ApprovalView, f"/models/{part(model)}/approvals/{part(approval)}/approve", asked)

    def refuse(self, model: str, approval: int, *, why: str, instead: Instead | str = Instead.WAIT) -> ApprovalView:
        """Refuse an update. The data stay removed: a retrain answers the tickets, or they wait."""
        with checked():
            asked = RefuseRequest(why=why, instead=instead)
        return self.http.post(ApprovalView, f"/models/{part(model)}/approvals/{part(approval)}/refuse", asked)
