"""Real processes: the main job over HTTP, and what kill -9 leaves of it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from app.errors import ServiceError
from tests.plain import Api
from tests.servers import short_folder
from tests.service import LENIENT, service

pytestmark = pytest.mark.service


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def versions(api: Api, name: str = "net") -> list[str]:
    return [version["version"] for version in api.get(f"/models/{name}/versions")["versions"]]


def test_the_main_job_by_the_command_line(folder: Path) -> None:
    """As a newcomer would: keys, dataset, model, ticket, audit, retrain, policy, schedule; then Ctrl-C, and nothing is left."""
    with service(folder) as up:
        key = up.command("keys", "create", "me", "--scope", "admin").stdout.strip()
        mine = {"EXPUNGE_API_KEY": key}
        loaded = up.command("datasets", "load", "clusters", "--problem", "clusters", **mine).stdout
        assert "400 samples of 20 subjects" in loaded
        (folder / "policy.json").write_text(str(LENIENT).replace("'", '"').replace("True", "true"))
        registered = ("models", "register", "net", "--dataset", "clusters", "--problem", "clusters")
        assert "net-v1" in up.command(*registered, "--policy", str(folder / "policy.json"), **mine).stdout
        subject = ("--subject", "train-subject-000", "--subject", "train-subject-001")
        submitted = up.command("tickets", "submit", "--dataset", "clusters", *subject, "--watch", **mine).stdout
        assert "40 accepted" in submitted
        assert "fulfilled: net-v2" in submitted
        ticket = str(UUID(submitted.split()[1].rstrip(":")))
        assert "data removed from training" in up.command("tickets", "show", ticket, **mine).stdout
        assert ticket in up.command("tickets", "list", **mine).stdout
        shown = up.command("audit", "show", "net@current", **mine).stdout
        assert "iau: publish" in shown
        assert "Not promised" in shown
        assert "net-v3" in up.command("retrain", "net", "--why", "a test", **mine).stdout
        assert "Policy 2" in up.command("policy", "set", "net", "thresholds.ue=0.2", **mine).stdout
        assert '"ue": 0.2' in up.command("policy", "show", "net", **mine).stdout
        assert "Schedule 1" in up.command("schedules", "add", "net", "0 3 * * 0", **mine).stdout
        assert "net-v3" in up.command("models", "list", **mine).stdout
        assert "unbroken" in up.command("audit", "verify").stdout
        bad = up.command("tickets", "submit", "--dataset", "nowhere", "--sample", "x", check=False, **mine)
        assert (bad.returncode, bad.stdout) == (1, "")
        assert bad.stderr.strip().endswith("shows those that are loaded.")
        assert up.stop() == 0
        assert up.processes() == {}


def test_a_worker_killed_in_mid_batch_costs_an_attempt_and_nothing_else(folder: Path) -> None:
    with service(folder) as up:
        api = up.api()
        up.model(api)
        up.close_gate()
        ticket = up.submit(api, range(40))
        up.until(lambda: (up.gate / "reached").exists(), "the batch to be in its middle")
        assert up.kill("celery -A app.queue:celery worker") >= 2
        up.open_gate()
        found = up.fulfilled(api, ticket)
        assert versions(api) == ["net-v1", "net-v2"]
        batch = api.get(f"/batches/{found['obligations'][0]['batch']}")
        assert batch["attempt"] == 2
        kinds = [event["kind"] for event in batch["timeline"]]
        assert kinds.count("run.claimed") == 2
        assert kinds.count("version.published") == 1
        assert "unbroken" in up.command("audit", "verify").stdout


def test_a_worker_that_slept_past_its_lease_changes_nothing(folder: Path) -> None:
    """SIGSTOP in mid-batch; a second worker finishes; SIGCONT: the first one's publication meets a newer epoch."""
    with service(folder) as up:
        api = up.api()
        up.model(api)
        up.close_gate()
        ticket = up.submit(api, range(40))
        up.until(lambda: (up.gate / "reached").exists(), "the batch to be in its middle")
        asleep = [pid for pid, command in up.processes().items() if " worker " in command]
        for pid in asleep:
            os.kill(pid, signal.SIGSTOP)
        up.open_gate()
        second = up.second_worker()
        try:
            up.fulfilled(api, ticket)
            for pid in asleep:
                os.kill(pid, signal.SIGCONT)
            late = up.submit(api, range(100, 140))
            up.fulfilled(api, late)
        finally:
            second.kill()
            second.wait()
        assert versions(api) == ["net-v1", "net-v2", "net-v3"]
        assert "unbroken" in up.command("audit", "verify").stdout


def test_everything_survives_a_kill_of_the_parent(folder: Path) -> None:
    with service(folder) as up:
        api = up.api()
        up.model(api)
        up.close_gate()
        ticket = up.submit(api, range(40))
        up.until(lambda: (up.gate / "reached").exists(), "the batch to be in its middle")
        assert up.process is not None
        up.process.kill()
        up.process.wait()
        up.until(lambda: not up.processes(), "everything to be gone with the parent")
        up.open_gate()
        up.start()
        found = up.fulfilled(api, ticket)
        assert found["obligations"][0]["clean_version"] == "net-v2"
        assert versions(api) == ["net-v1", "net-v2"]


def test_the_sweep_waits_behind_no_run(folder: Path) -> None:
    """The one worker that trains is in mid-training; another model's batch closes all the same."""
    with service(folder, EXPUNGE_LEASE_SECONDS="60") as up:
        api = up.api()
        up.model(api)
        up.close_gate()
        api.post("/models", {"name": "other", "dataset": "clusters", "problem": "clusters", "policy": LENIENT})
        up.until(lambda: (up.gate / "reached").exists(), "the training to be in its middle")
        ticket = up.submit(api, range(40))
        up.until(lambda: api.get("/batches", model="net", kind="unlearn")["items"], "the sweep to close the batch")
        (batch,) = api.get("/batches", model="net", kind="unlearn")["items"]
        assert batch["state"] == "ready"
        workers = [command for command in up.processes().values() if "celery worker " in command]
        assert sorted("--queues light" in command for command in workers) == [False, False, True]
        up.open_gate()
        up.fulfilled(api, ticket)


def test_a_lost_broker_costs_latency_only(folder: Path) -> None:
    with service(folder) as up:
        api = up.api()
        up.model(api)
        assert up.kill("valkey-server") or up.kill("redis-server")
        ticket = up.submit(api, range(40))
        up.fulfilled(api, ticket)


def test_a_worker_killed_in_mid_reference_costs_an_attempt_and_nothing_else(folder: Path) -> None:
    with service(folder) as up:
        api = up.api()
        up.model(api)
        up.close_gate()
        mine = {"EXPUNGE_API_KEY": api.http.headers["Authorization"].removeprefix("Bearer ")}
        ordered = ("models", "bank", "net", "--references", "4", "--yes", "--no-wait")
        assert "4 trainings" in up.command(*ordered, **mine).stdout
        up.until(lambda: (up.gate / "reached").exists(), "a reference to be in its middle")
        assert up.kill("celery -A app.queue:celery worker") >= 2
        up.open_gate()
        assert "4 of them in the table" in up.command("models", "bank", "net", **mine).stdout.replace("\n", " ")
        bank = api.get("/models/net/bank")
        assert (bank["state"], bank["done"], bank["failed"]) == ("ready", 4, [])
        assert "unbroken" in up.command("audit", "verify").stdout


def test_two_on_one_folder_are_refused(folder: Path) -> None:
    with service(folder) as up:
        second = up.command("up", check=False)
        assert second.returncode == 1
        assert "Traceback" not in second.stderr
        assert str(up.process and up.process.pid) in second.stderr


def test_a_key_that_is_revoked_or_lacks_a_scope_opens_nothing(folder: Path) -> None:
    with service(folder) as up:
        follower = up.api("deletions:read", client="follower")
        with pytest.raises(ServiceError, match="deletions:write"):
            up.submit(follower, range(1))
        prefix = follower.http.headers["Authorization"].split("_")[1]
        up.command("keys", "revoke", prefix)
        with pytest.raises(ServiceError, match="neither expired nor revoked"):
            follower.get("/deletions")
        assert prefix in up.command("keys", "list").stdout
