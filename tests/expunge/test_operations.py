"""Every operation of the service, done through the client against the service itself."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app import store
from app.main import app
from expunge import Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from expunge.evidence.verify import verify
from expunge.models import BankState, Condition, Instead, PolicyBody, ProposalState, ProposalView, Reason, TicketState
from tests.app import story, test_exposure
from tests.app.signing import signing
from tests.app.webhooks.conftest import configured
from tests.expunge.conftest import Seat

__all__ = ["configured", "signing"]  # fixtures
OPERATIONS = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
WEIGHTS = b"weights of a version" * 5000
HELD = story.EAGER | {"window": {"days": 30, "max_share": 0.25}}
URL = "https://hooks.example/in"


class Heard:
    """Which operations were asked for, as a hook of an HTTP client."""

    def __init__(self) -> None:
        self.calls: set[tuple[str, str]] = set()

    def blocking(self, request: httpx.Request) -> None:
        self.calls.add((request.method, request.url.path))

    async def awaited(self, request: httpx.Request) -> None:
        self.blocking(request)

    def operations(self) -> set[str]:
        return {name for method, path in self.calls for name in OPERATIONS if fits(name, method, path)}


def fits(operation: str, method: str, path: str) -> bool:
    wanted, _, template = operation.partition(" ")
    return wanted == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


@pytest.mark.usefixtures("configured", "signing")
def test_every_operation_has_its_method(seat: Seat, driver: Any, tmp_path: Path) -> None:
    """The story of an installation, told by the client alone; afterwards no operation of the schema is left over."""
    heard = Heard()
    hook = heard.awaited if driver.awaits else heard.blocking
    hooks = {"request": [hook], "response": []}
    client, second = seat("admin", event_hooks=hooks), seat("second", event_hooks=hooks)
    system(client)
    datasets_and_models(client)
    tickets(client)
    versions(client, tmp_path)
    approvals(client, second)
    policies(client, second)
    outliers(client)
    retrains(client)
    webhooks(client)
    keys(client)
    assert OPERATIONS - heard.operations() == set()


def system(client: Any) -> None:
    assert client.system.live() is None
    assert client.system.ready() is None
    assert [worker for worker in client.system.workers() if worker.condition == Condition.LOST] == []
    assert "expunge_up 1" in client.system.metrics()


def datasets_and_models(client: Any) -> None:
    rows = "".join(f"{story.sample(i)},p-{i // 2}\n" for i in range(20))
    made = client.datasets.load("people", b"id,subject\n" + rows.encode())
    assert (made.samples, made.subjects) == (20, 10)
    assert client.datasets.get("people") == made
    assert client.datasets.all() == [made]
    with pytest.raises(Conflict, match="loaded once"):
        client.datasets.load("people", [b"id\n", b"a\n"])
    model = client.models.register("m", "people", "digits", PolicyBody.model_validate(HELD))
    assert (model.name, model.current_version) == ("m", None)
    client.models.register("n", "people", "digits", story.EAGER)
    client.models.register("o", "people", "digits")
    assert [each.name for each in client.models.all()] == ["m", "n", "o"]
    assert client.policies.get("n").policy.batching.max_wait_seconds == 0
    for row in story.all_of(story.Model):
        story.work(row.id)


def tickets(client: Any) -> None:
    made = client.tickets.submit("people", samples=[story.sample(0)], subjects=["p-1"], external_id="case-1")
    assert (made.counts.accepted, made.models) == (3, 3)
    assert client.tickets.get(made.id).external_id == "case-1"
    assert [each.id for each in client.tickets.each(external_id="case-1")] == [made.id]
    assert client.tickets.page(dataset="people", limit=1).items[0].id == made.id
    again = client.tickets.submit("people", samples=[story.sample(19)])
    assert client.tickets.cancel(again.id).state == TicketState.CANCELLED
    assert client.models.flush("m").pending_obligations == 1
    client.models.flush("o")
    for row in story.all_of(story.Model):
        if row.name == "m":
            story.publish(story.closed(row.id), WEIGHTS)
            store.put(WEIGHTS)
        else:
            story.work(row.id)
    assert client.tickets.statement(again.id)["payloadType"].endswith("statement+json")
    assert client.tickets.wait(made.id).state == TicketState.FULFILLED
    assert client.tickets.receipt(made.id)["payloadType"].endswith("receipt+json")
    assert client.tickets.in_print(made.id, "receipt").startswith(b"%PDF-")
    assert client.tickets.in_print(made.id).startswith(b"%PDF-")


def versions(client: Any, folder: Path) -> None:
    model = client.models.get("m")
    assert sorted(each.version for each in model.versions) == ["m-v1", "m-v2"]
    version = client.models.version("m@current")
    assert (version.version, version.weights_bytes) == ("m-v2", len(WEIGHTS))
    got = client.models.weights("m@current", folder / "m.safetensors", sha256=version.weights_sha256)
    assert (got.path.read_bytes(), got.sha256, got.size) == (WEIGHTS, version.weights_sha256, len(WEIGHTS))
    report = client.audit.report("m-v2")
    assert report.version.version == "m-v2"
    assert report.not_promised
    assert json.loads(client.audit.json("m-v2"))["summary"] == report.summary
    page = client.audit.page("m-v2")
    assert "<style>" in page
    assert "<link" not in page
    evidence(client)
    with pytest.raises(Conflict, match="not served again"):
        client.models.rollback("m", "m-v1", "the update disappoints")
    bank = client.banks.get("m", references=8)
    assert (bank.state, bank.cost.references) == (None, 8)
    assert client.banks.order("m", 4).state == BankState.BUILDING


def evidence(client: Any) -> None:
    assert len(list(verify(client.audit.bundle("m-v2")))) == 8
    assert client.audit.pdf("m-v2").startswith(b"%PDF-")
    assert client.audit.bom("m-v2")["bomFormat"] == "CycloneDX"
    assert client.audit.attestation("m-v2", "provenance")["payloadType"] == "application/vnd.in-toto+json"
    assert client.audit.signature("m-v2")["dsseEnvelope"]
    assert client.audit.compare("m-v2", "m-v1").earlier.version.version == "m-v1"
    assert client.audit.serving("m").version == "m-v2"
    published = client.models.version("m-v1").published_at
    assert client.audit.serving("m", published, ids=True).sample_ids == []
    size = int(client.audit.checkpoint().split("\n")[1])
    assert client.audit.inclusion(1, size).seq == 1
    assert client.audit.consistency(1, size).path
    assert [key.current for key in client.audit.signing_keys()] == [True]


def approvals(client: Any, second: Any) -> None:
    """A mass deletion is refused first, and approved when somebody has looked again."""
    made = client.tickets.submit("people", samples=[story.sample(i) for i in range(4, 12)])
    (model,) = [row for row in story.all_of(story.Model) if row.name == "m"]
    assert story.close(model.id) is None
    (asked,) = second.approvals.newest("m")
    with pytest.raises(Forbidden):
        client.approvals.approve("m", asked.id, samples=asked.samples, why="mine")
    refused = second.approvals.refuse("m", asked.id, why="too many")
    assert (refused.instead, refused.why) == (Instead.WAIT, "too many")
    approved = second.approvals.approve("m", asked.id, samples=asked.samples, why="genuine", hours=1)
    assert approved.decided_by == "second"
    story.work(model.id)
    assert client.tickets.get(made.id).obligations[0].model in ("m", "n")
    story.stop(model.id, "coverage is short")
    assert client.models.resume("m", "mended").stopped is None


def policies(client: Any, second: Any) -> None:
    found = client.policies.get("m")
    found.policy.thresholds.ue = 0.1
    kept = client.policies.replace("m", found.policy, found.etag)
    assert (kept.number, kept.policy.thresholds.ue) == (found.number + 1, 0.1)
    with pytest.raises(PreconditionFailed):
        client.policies.replace("m", found.policy, found.etag)
    assert client.policies.dry_run("m", kept.policy).batches
    kept.policy.thresholds.ue = 0.3
    proposed = client.policies.replace("m", kept.policy, kept.etag)
    assert isinstance(proposed, ProposalView)
    assert second.policies.refuse("m", proposed.id, "too wide").state == ProposalState.REFUSED
    again = client.policies.replace("m", kept.policy, kept.etag)
    put = second.policies.approve("m", again.id, "twice what retrains differ by")
    assert (put.approved_by, put.etag) == ("second", client.policies.get("m").etag)
    assert len(client.policies.proposals("m")) == 2
    assert client.policies.history("m")[0].number == put.number
    assert client.request("GET", "/policies/m").json()["number"] == put.number


def outliers(client: Any) -> None:
    found = client.models.exposure("o")
    assert (found.look, found.asked) == (None, False)
    test_exposure.look(test_exposure.found((15, 9.0), (16, 8.0)))
    (first, _) = client.models.exposure("o").look.outliers
    assert (first.sample_id, first.z) == (story.sample(15), 9.0)
    made = client.models.delete_outliers("o", [first.sample_id], "unreadable")
    assert client.tickets.get(made.id).reason == Reason.OUTLIER
    with pytest.raises(Conflict, match="1 of 1 samples are not among the 1"):
        client.models.delete_outliers("o", [first.sample_id], "unreadable")


def retrains(client: Any) -> None:
    batch = client.batches.retrain("n", "quarterly")
    assert client.batches.get(batch.id).why == "quarterly"
    assert client.batches.page(model="n", kind="retrain", limit=1).items == [batch]
    assert batch.id in [each.id for each in client.batches.each(model="n", most=3)]
    with pytest.raises(Conflict):
        client.batches.retry(batch.id)
    assert client.batches.cancel(batch.id, "not this quarter").state == "cancelled"
    made = client.schedules.add("m", "0 3 * * 0")
    assert client.schedules.all() == [made]
    assert client.schedules.occurrences(made.id) == []
    assert client.schedules.remove(made.id) is None
    with pytest.raises(Unprocessable, match="Five fields"):
        client.schedules.add("m", "whenever")


def webhooks(client: Any) -> None:
    made = client.webhooks.add(URL, events=["ticket.fulfilled"], description="the desk")
    assert made.secret.startswith("whsec_")
    changed = client.webhooks.change(made.id, events=None, enabled=True)
    assert (changed.events, changed.description, changed.url) == (None, "the desk", URL)
    assert client.webhooks.get(made.id) == changed
    assert client.webhooks.page().items == [changed]
    assert [each.id for each in client.webhooks.each()] == [made.id]
    assert client.webhooks.rotate(made.id, overlap_hours=1).secret != made.secret
    sent = client.webhooks.test(made.id)
    assert sent.id in [each.id for each in client.webhooks.deliveries(made.id, state="pending")]
    assert sent.id in [each.id for each in client.webhooks.page_of_deliveries(made.id).items]
    assert client.webhooks.redeliver(made.id, sent.id).id == sent.id
    assert client.webhooks.remove(made.id) is None
    with pytest.raises(NotFound):
        client.webhooks.get(made.id)


def keys(client: Any) -> None:
    made = client.keys.create("desk", ["deletions:read"], days=30, ids_per_day=100)
    assert made.key.startswith(f"exp_{made.prefix}_")
    turned = client.keys.rotate(made.prefix, overlap_days=0)
    assert client.keys.revoke(turned.prefix) is None
    assert {each.prefix for each in client.keys.all(client="desk")} == {made.prefix, turned.prefix}


def test_a_refusal_says_what_to_do_and_repeats_no_id(seat: Seat) -> None:
    story.dataset()
    with pytest.raises(Unprocessable) as refused:
        seat().tickets.submit("people", samples=["nobody-knows-17"])
    assert (refused.value.code, refused.value.status) == ("nothing_known", 422)
    assert refused.value.request_id
    assert "nobody-knows-17" not in str(refused.value)
    with pytest.raises(Unprocessable) as empty:
        seat().tickets.submit("people")
    assert (empty.value.code, empty.value.errors[0]["pointer"]) == ("invalid", "/body")
    with pytest.raises(Unprocessable, match="deadline"):
        seat().tickets.submit("people", samples=["s-0001"], deadline="tomorrow")
    with pytest.raises(NotFound, match="No ticket of that id"):
        seat().tickets.get(uuid4())


def test_a_ticket_sent_again_is_the_same(seat: Seat) -> None:
    story.dataset()
    client = seat()
    first = client.tickets.submit("people", samples=["s-0001"], idempotency_key="case-7")
    assert client.tickets.submit("people", samples=["s-0001"], idempotency_key="case-7") == first
    with pytest.raises(Unprocessable) as other:
        client.tickets.submit("people", samples=["s-0002"], idempotency_key="case-7")
    assert other.value.code == "idempotency_key_reused"


def test_pages_follow_each_other_and_hold_each_ticket_once(seat: Seat) -> None:
    story.dataset(samples=30)
    client = seat()
    made = [client.tickets.submit("people", samples=[story.sample(i)]).id for i in range(5)]
    page = client.tickets.page(limit=2)
    rest = client.tickets.page(limit=2, cursor=page.next)
    assert [each.id for each in (*page.items, *rest.items)] == made[:0:-1]
    assert [each.id for each in client.tickets.each()] == made[::-1]
    assert [each.id for each in client.tickets.each(most=3)] == made[:1:-1]
    assert list(client.tickets.each(most=0)) == []
    with pytest.raises(Unprocessable, match="another list"):
        client.tickets.page(state="fulfilled", cursor=page.next)


@pytest.mark.parametrize("name", ["../models", "..", ".", "m/versions", "?x=1", "#", "a%2Fb", "m\0", "%", "", "\ud800"])
def test_a_name_leads_nowhere_else(seat: Seat, name: str) -> None:
    client = seat()
    for call in (client.tickets.get, client.models.get, client.policies.get, client.audit.report, client.keys.revoke):
        with pytest.raises((NotFound, Unprocessable)):
            call(name)
