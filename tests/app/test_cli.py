"""The command line against the API in this process: what it sends, what it shows, and a sentence where it cannot go on."""

import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from typer.testing import CliRunner, Result

from app import checkpoints, cli
from app.cli import approvals, audit, console, datasets, models, policies, schedules, service, tickets, webhooks
from app.config import settings
from app.db import transaction
from app.errors import ServiceError
from app.policy import PolicyBody
from app.tables import Bank, Model, Policy, Ticket, Verdict, Version, WebhookEndpoint
from expunge import Client, ExpungeError, Quarantined, Retry, TooMany, Unauthenticated, Unavailable
from expunge.evidence.keys import SigningKeys, pem
from expunge.models import BankView
from expunge.sync import paging
from tests.app import story, test_banks, test_exposure
from tests.app.signing import signing
from tests.app.webhooks.conftest import configured

__all__ = ["configured", "signing"]  # fixtures
Run = Callable[..., Result]


@pytest.fixture
def run(database: str, http: TestClient, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `expunge` with these arguments; what it refuses is raised."""
    service = Client("http://service", story.key("admin"), http=http)
    narrow = console.Plain(width=80)
    for module in (approvals, audit, datasets, models, policies, schedules, tickets, webhooks):
        monkeypatch.setattr(module, "api", lambda: service)
        monkeypatch.setattr(module, "console", narrow)

    def call(*arguments: str, stdin: str | bytes = "") -> Result:
        done = CliRunner().invoke(cli.app, arguments, input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    story.dataset()
    story.trained()
    return call


SUBMIT = ("tickets", "submit", "--dataset", "people")


def test_a_ticket_with_a_deadline(run: Run) -> None:
    run(*SUBMIT, "--sample", "s-0001", "--deadline", "2027-01-01T00:00:00Z")
    (ticket,) = story.all_of(Ticket)
    assert ticket.deadline_at is not None
    assert ticket.deadline_at.year == 2027
    with pytest.raises(ExpungeError, match="deadline"):
        run(*SUBMIT, "--sample", "s-0002", "--deadline", "tomorrow")


def test_ids_come_from_a_file_or_a_pipe(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text("s-0001\n\n s-0002 \ns-0001\n", encoding="utf-8")
    assert "2 accepted" in run(*SUBMIT, "--file", str(file)).output
    assert "1 accepted" in run(*SUBMIT, "--file", "-", stdin="s-0003\n").output


def test_files_that_cannot_be_read_end_in_a_sentence(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00")
    register = ("models", "register", "n", "--dataset", "people", "--problem", "digits", "--policy")
    for command in ((*SUBMIT, "--file"), register):
        for path in (file, tmp_path / "nowhere"):
            with pytest.raises(ServiceError, match=path.name):
                run(*command, str(path))
    with pytest.raises(ServiceError, match="UTF-8"):
        run(*SUBMIT, "--file", "-", stdin=b"\xff\xfe\x00")
    assert story.all_of(Ticket) == []
    file.write_text("[1]", encoding="utf-8")
    with pytest.raises(ServiceError, match="binary holds no JSON object"):
        run(*register, str(file))


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet", "MANIFEST.PARQUET"])
def test_a_manifest_comes_from_a_file(run: Run, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name.endswith("csv"):
        file.write_text("id,subject\na,x\nb,x\n")
    else:
        pyarrow.parquet.write_table(pyarrow.table({"id": ["a", "b"], "subject": ["x", "x"]}), file)
    assert "2 samples of 1 subjects" in run("datasets", "load", "d", "--file", str(file)).output


def test_a_manifest_that_cannot_be_read_is_a_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "m.csv").write_text("id\na\n")
    with pytest.raises(ServiceError, match="There is no file"):
        run("datasets", "load", "d", "--file", str(tmp_path / "nowhere.csv"))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ServiceError, match="cannot be read: Permission denied"):
        run("datasets", "load", "d", "--file", str(tmp_path / "m.csv"))


def test_a_narrow_terminal_shows_a_ticket_s_whole_id(run: Run) -> None:
    ticket = story.submit(1, client="admin")
    shown = run("tickets", "list").output
    cells = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert "".join(cells) == str(ticket)


def test_a_stopped_model_is_shown_and_resumed(run: Run) -> None:
    (model,) = story.all_of(Model)
    story.stop(model.id, "coverage is short")
    assert "coverage" in run("models", "list").output
    run("models", "resume", "m", "--why", "mended")
    assert story.model(model.id).stopped is None
    with pytest.raises(ExpungeError, match="not stopped"):
        run("models", "resume", "m", "--why", "again")


class TestOutliers:
    def test_they_are_shown(self, run: Run) -> None:
        assert "m-v1: The policy does not ask for it" in run("models", "exposure", "m").output
        test_exposure.look(test_exposure.found((7, 12.0), (3, 9.0), more=98, most=2))
        story.submit(3)
        shown = " ".join(run("models", "exposure", "m").output.split())
        assert (
            "m-v1: the gradients of 20 of 20 training samples; 100 above z = 6. The 2 most outlying are kept." in shown
        )
        assert "Named by a ticket since: 1." in shown
        assert "s-0007 │ 120 │ 12.0" in shown
        assert "s-0003" not in shown
        output = run("models", "exposure", "m", "--json").output
        told = json.loads(output[output.index("{\n") :])  # after the log's lines
        assert told["look"]["outliers"] == [{"sample_id": "s-0007", "norm": 120.0, "z": 12.0}]
        test_exposure.look(test_exposure.found(unjudged="more than half are equal"))
        assert "more than half are equal." in run("models", "exposure", "m").output

    def test_ids_are_shown_as_they_are(self, run: Run) -> None:
        story.load("odd", [(f"[bold]{i}", None) for i in range(3)])
        story.trained("n", "odd")
        test_exposure.look(test_exposure.found((1, 9.0)))
        assert "[bold]1" in run("models", "exposure", "n").output

    def test_a_yes_makes_a_ticket(self, run: Run, tmp_path: Path) -> None:
        test_exposure.look(test_exposure.found((7, 12.0), (3, 9.0), (4, 8.0)))
        file = tmp_path / "ids"
        file.write_text("s-0003\ns-0007\n", encoding="utf-8")
        asked = ("models", "confirm", "m", "--sample", "s-0007", "--file", str(file), "--why", "unreadable")
        first = run(*asked, "--key", "k").output
        (ticket,) = story.all_of(Ticket)
        assert f"ticket {ticket.id}: 2 accepted; 1 model(s) owe it" in " ".join(first.split())
        assert run(*asked, "--key", "k").output.splitlines()[-1] == first.splitlines()[-1]
        assert len(story.all_of(Ticket)) == 1
        with pytest.raises(ExpungeError, match="2 of 2 samples are not among the 1"):
            run(*asked)
        with pytest.raises(ExpungeError, match="sample_ids"):
            run("models", "confirm", "m", "--why", "unreadable")


def test_a_policy_s_single_values_are_set(run: Run) -> None:
    run("policy", "set", "m", "thresholds.ue=0.1", 'ladder=["retrain"]')
    shown = run("policy", "show", "m").output
    assert '"ue": 0.1' in shown
    for wrong in ("thresholds.zz=1", "thresholds=1.0.0", "ladder.first=1"):
        with pytest.raises((ServiceError, ExpungeError)):
            run("policy", "set", "m", wrong)


def test_what_trainings_keep_and_further_methods_are_set(run: Run) -> None:
    ladder = ['ladder=["scrub", "retrain"]', 'methods={"scrub": {"rewind": true}}']
    run("policy", "set", "m", "recorder.journal=true", "recorder.limit_bytes=1000", *ladder)
    body = PolicyBody.model_validate(story.all_of(Policy)[-1].body)
    assert (body.recorder.journal, body.recorder.limit_bytes) == (True, 1000)
    assert body.methods == {"scrub": {"rewind": True}}


def test_versions_show_what_is_kept_of_their_training(run: Run) -> None:
    assert "bytes" not in run("models", "show", "m").output
    with transaction() as session:
        session.execute(update(Version).values(records_digest="ab" * 32, records={"bytes": 816_000}))
    assert "816,000" in run("models", "show", "m").output


class TestFollowing:
    """What a command waits for, with a worker that does the next thing each time it does."""

    @staticmethod
    def meanwhile(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
        left = iter(steps)
        monkeypatch.setattr(models.api().http, "sleep", lambda _: next(left)())

    @staticmethod
    def named(name: str) -> int:
        return next(row.id for row in story.all_of(Model) if row.name == name)

    def test_a_first_training(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.meanwhile(monkeypatch, lambda: story.work(self.named("n")))
        done = run("models", "register", "n", "--dataset", "people", "--problem", "digits")
        assert "n has its first version: n-v1" in done.output

    def test_a_first_training_that_is_held(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.meanwhile(monkeypatch, lambda: story.exhaust(self.named("n")))
        with pytest.raises(Quarantined, match="held for an operator: it broke"):
            run("models", "register", "n", "--dataset", "people", "--problem", "digits")

    def test_a_retrain(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.meanwhile(monkeypatch, lambda: story.work(self.named("m")))
        assert "published: m-v2" in run("retrain", "m", "--why", "quarterly").output

    def test_a_retrain_that_is_taken_back(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        service = models.api()
        self.meanwhile(
            monkeypatch, lambda: [service.batches.cancel(row.id, "no") for row in service.batches.each(state="ready")]
        )
        with pytest.raises(ServiceError, match=r"^Batch \S{36} is cancelled: cancelled by admin: no\.$"):
            run("retrain", "m", "--why", "quarterly")

    def test_a_ticket_that_is_taken_back(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        ticket, service = story.submit(1, client="admin"), tickets.api()
        self.meanwhile(monkeypatch, lambda: service.tickets.cancel(ticket))
        with pytest.raises(ServiceError, match=f"^Ticket {ticket} was cancelled: no model answers it"):
            run("tickets", "watch", str(ticket))


def timed() -> None:
    with transaction() as session:
        session.execute(update(Verdict).values(seconds={"train": 100.0}))


def test_a_bank_says_what_it_costs_and_asks_first(run: Run) -> None:
    timed()
    asked = run("models", "bank", "m", "--references", "4", "--no-wait", stdin="n\n")
    assert asked.exit_code == 1
    told = " ".join(asked.output.split())
    assert "4 trainings on three quarters of the data" in told
    assert "about 300 s on one worker" in told
    assert "260 bytes" in told
    assert story.all_of(Bank) == []
    run("models", "bank", "m", "--references", "4", "--no-wait", stdin="y\n")
    assert [made.wanted for made in story.all_of(Bank)] == [4]
    assert "reference bank: building" in run("models", "show", "m").output


def test_a_bank_that_is_there_is_not_asked_for_again(run: Run) -> None:
    run("models", "bank", "m", "--references", "4", "--yes", "--no-wait")
    again = run("models", "bank", "m", "--no-wait")
    assert again.exit_code == 0
    assert "building, 0 of 4 references" in again.output
    run("models", "bank", "m", "--references", "8", "--yes", "--no-wait")
    assert [made.wanted for made in story.all_of(Bank)] == [8]


def test_a_bank_is_followed_to_its_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time the command waits, a worker gets one reference done; the last of them puts the table together."""
    waits: list[float] = []

    def worker(seconds: float) -> None:
        waits.append(seconds)
        test_banks.complete(test_banks.claimed())
        if len(waits) == 4:
            test_banks.assembled(story.all_of(Bank)[0].model_id)

    monkeypatch.setattr(models.time, "sleep", worker)
    done = run("models", "bank", "m", "--references", "4", "--yes")
    assert len(waits) == 4
    assert "ready, 4 of 4 references, 4 of them in the table" in " ".join(done.output.split())


def test_a_bank_is_followed_through_an_outage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it was seen; before that, whoever waits is told at once."""
    service, waits = models.api(), list[float]()
    get = service.banks.get

    def worker(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 2:
            test_banks.complete(test_banks.claimed())
        if len(waits) == 6:
            test_banks.assembled(story.all_of(Bank)[0].model_id)

    def away(*arguments: Any) -> BankView:
        if len(waits) in (1, 2):
            raise Unavailable("No service answers.") if len(waits) == 1 else TooMany("Slowly.")
        return get(*arguments)

    monkeypatch.setattr(models.time, "sleep", worker)
    monkeypatch.setattr(service.banks, "get", away)
    done = run("models", "bank", "m", "--references", "4", "--yes")
    assert "ready, 4 of 4 references" in " ".join(done.output.split())
    del waits[1:]
    with pytest.raises(Unavailable):
        models.follow_bank(service, "m")


def test_a_bank_whose_reference_failed_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def worker(_: float) -> None:
        for again in range(4):
            lease = test_banks.claimed()
            test_banks.fail(lease, again=False) if again == 2 else test_banks.complete(lease)

    monkeypatch.setattr(models.time, "sleep", worker)
    done = run("models", "bank", "m", "--references", "4", "--yes")
    assert "failed: 2 (it broke)" in " ".join(done.output.split())


def test_a_bank_that_a_training_ends_is_not_followed_for_ever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def worker(_: float) -> None:
        model_id = story.all_of(Bank)[0].model_id
        story.retrain(model_id)
        story.work(model_id)

    monkeypatch.setattr(models.time, "sleep", worker)
    with pytest.raises(ServiceError, match="no bank any more"):
        run("models", "bank", "m", "--references", "4", "--yes")


def test_an_audit_becomes_one_file_for_a_browser(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "audit.html"
    run("audit", "show", "m@current", "--html", str(file))
    text = file.read_text(encoding="utf-8")
    assert "Audit of" in text
    assert "m-v1" in text
    assert "<style>" in text
    assert "<link" not in text
    head = text.partition("</head>")[0]
    assert ".contents ul" in head, "the page's own style"
    assert ".chart .forget" in head, "and that of its charts, though it is linked from the body"
    with pytest.raises(ServiceError, match="cannot be written"):
        run("audit", "show", "m@current", "--html", str(tmp_path / "no" / "folder"))
    with pytest.raises(ExpungeError, match="No such version"):
        run("audit", "show", "m-v7", "--html", str(tmp_path / "none.html"))
    assert not (tmp_path / "none.html").exists()


@pytest.mark.parametrize("name", ["../models", "..", "m/versions", "?x=1", "#", "a%2Fb", "m\0", "%", ""])
def test_a_name_leads_nowhere_else(run: Run, name: str) -> None:
    commands = (("tickets", "show"), ("tickets", "cancel"), ("models", "show"), ("policy", "show"), ("audit", "show"))
    for command in commands:
        with pytest.raises(ExpungeError):
            run(*command, "--", name)


def test_a_ticket_is_followed_to_its_end(run: Run) -> None:
    (model,) = story.all_of(Model)
    answered = story.submit(1, client="admin")
    story.work(model.id)
    assert "fulfilled: m-v2" in run("tickets", "watch", str(answered)).output
    shown = run("tickets", "show", str(answered)).output
    assert "ticket.accepted" in shown
    assert "m-v2" in shown
    held = story.submit(2, client="admin")
    story.close(model.id)
    story.exhaust(model.id)
    with pytest.raises(Quarantined, match="held for an operator: it broke"):
        run("tickets", "watch", str(held))


def test_a_list_may_be_longer_than_a_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "LARGEST", 3)
    made = [str(story.submit(i, client="admin")) for i in range(8)]
    shown = "".join(run("tickets", "list", "--limit", "7").output.split())
    assert [ticket[:8] in shown for ticket in made] == [False] + [True] * 7
    assert run("tickets", "list", "--limit", "0").exit_code == 2


def test_a_report_is_read_and_kept_word_for_word(run: Run, http: TestClient) -> None:
    shown = run("audit", "show", "m@current").output
    assert "Not promised:" in shown
    assert "retrain: publish" in shown
    kept = run("audit", "show", "m@current", "--json").output
    assert json.loads(kept[kept.index("{\n") :]) == http.get("/models/m@current/audit").json()


def test_a_schedule_comes_and_goes(run: Run) -> None:
    added = run("schedules", "add", "m", "0 3 * * 0").output
    (number,) = re.findall(r"Schedule (\d+); next on ", added)
    assert "0 3 * * 0" in run("schedules", "list").output
    assert "Removed." in run("schedules", "remove", number).output
    assert "0 3 * * 0" not in run("schedules", "list").output


@pytest.mark.usefixtures("configured")
def test_an_endpoint_is_kept_by_command(run: Run) -> None:
    added = run("webhooks", "add", "https://hooks.example/in", "--event", "ticket.fulfilled", "--description", "desk")
    (webhook,) = re.findall(r"webhook ([0-9a-f-]{36})", added.output)
    assert added.output.split()[-1].startswith("whsec_")
    run("webhooks", "change", webhook, "--url", "https://hooks.example/other", "--all-events")
    (made,) = story.all_of(WebhookEndpoint)
    assert (made.url, made.events, made.description) == ("https://hooks.example/other", None, "desk")
    run("webhooks", "disable", webhook)
    assert "disabled" in run("webhooks", "list").output
    run("webhooks", "enable", webhook)
    assert "old secret until" in run("webhooks", "rotate", webhook).output
    assert "delivery" in run("webhooks", "deliveries", webhook, "--state", "pending").output
    run("webhooks", "remove", webhook)
    assert story.all_of(WebhookEndpoint) == []


def test_a_service_that_is_not_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("EXPUNGE_API_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("EXPUNGE_API_KEY", "exp_0123456789ab_secret")
        monkeypatch.setattr(console, "SOON", Retry(tries=2, first=0))
        settings.cache_clear()
        monkeypatch.setattr(sys, "argv", ["expunge", "models", "list"])
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            settings.cache_clear()
    assert ended.value.code == 1
    assert "No service answers at http://127.0.0.1" in capsys.readouterr().err


def test_an_unknown_ticket_is_a_sentence(run: Run) -> None:
    with pytest.raises(ExpungeError, match="No ticket of that id"):
        run("tickets", "show", str(uuid4()))


@pytest.mark.parametrize("key", ["", "  ", "with space", "ключ", "line\nfeed"])
def test_what_is_no_key_is_not_sent(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("EXPUNGE_API_KEY", key)
    settings.cache_clear()
    try:
        with pytest.raises(Unauthenticated, match="EXPUNGE_API_KEY"):
            console.api()
    finally:
        settings.cache_clear()


def test_an_address_that_somebody_listens_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their answers would be taken for ours, and two services would seem to be up."""
    monkeypatch.setattr(service, "VACATE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=f"127.0.0.1:{port}.*--port"):
            service.find_free("127.0.0.1", port)
    service.find_free("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_this_machines_is_refused(host: str) -> None:
    with pytest.raises(ServiceError, match=f"{host}:8420 cannot be listened on"):
        service.find_free(host, 8420)


def test_a_worker_without_its_packages_is_refused() -> None:
    service.check_installed()
    with pytest.raises(ServiceError, match=r"\(no_such_package\).*pip install 'expunge\[worker\]'"):
        service.check_installed(("typer", "no_such_package"))


def test_a_data_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="cannot be made: Not a directory"):
        service.make_home(tmp_path / "file" / "home")
    with pytest.raises(ServiceError, match="cannot be made: File exists"):
        service.make_home(tmp_path / "file")
    service.make_home(tmp_path / "home")
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_an_api_that_is_just_ending_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr(service, "is_free", lambda *_: next(answers))
    service.find_free("127.0.0.1", 8420)
    assert next(answers, None) is None


class TestEvidence:
    def test_a_bundle_is_written_and_checked(self, run: Run, signing: SigningKeys, tmp_path: Path) -> None:
        file = tmp_path / "evidence.zip"
        assert "expunge verify" in run("audit", "bundle", "m-v1", "--to", str(file)).output
        checked = run("verify", str(file), "--key", signing.public.fingerprint)
        assert (checked.exit_code, checked.output.count("holds  ")) == (0, 8)
        file.write_bytes(file.read_bytes()[:-1])
        broken = run("verify", str(file))
        assert (broken.exit_code, "DOES NOT HOLD" in broken.output) == (1, True)

    def test_what_cannot_be_read_is_said(self, run: Run, signing: SigningKeys, tmp_path: Path) -> None:
        assert run("verify", str(tmp_path / "nowhere.zip")).exit_code == 1
        with pytest.raises(ServiceError, match="cannot be read"):
            run("verify", str(tmp_path / "nowhere.zip"), "--checkpoint", str(tmp_path / "none"))
        (tmp_path / "head").write_bytes(b"\xff")
        with pytest.raises(ServiceError, match=r"head: this is no text in UTF-8\.$"):
            run("verify", str(tmp_path / "nowhere.zip"), "--checkpoint", str(tmp_path / "head"))
        (tmp_path / "key.pem").write_text("no key")
        with pytest.raises(ServiceError, match=r"key\.pem"):
            run("verify", str(tmp_path / "nowhere.zip"), "--key", str(tmp_path / "key.pem"))

    def test_a_checkpoint_is_shown_or_kept(self, run: Run, signing: SigningKeys, tmp_path: Path) -> None:
        shown = run("audit", "checkpoint").output
        run("audit", "checkpoint", "--to", str(tmp_path / "head"))
        assert (tmp_path / "head").read_text() in shown
        assert signing.public.fingerprint in run("audit", "keys").output

    def test_two_checkpoints_are_held_against_each_other(self, run: Run, signing: SigningKeys, tmp_path: Path) -> None:
        old, new, key, proof = (str(tmp_path / name) for name in ("old", "new", "key.pem", "proof.json"))
        run("audit", "checkpoint", "--to", old)
        run(*SUBMIT, "--sample", "s-0001")
        with transaction() as session:
            Path(new).write_text(checkpoints.sign(session).note)
        Path(key).write_bytes(pem(signing.public.statements))
        sizes = [int(Path(file).read_text().split("\n")[1]) for file in (old, new)]
        with transaction() as session:
            path = [step.hex() for step in checkpoints.consistency(session, *sizes)]
        Path(proof).write_text(json.dumps({"first": sizes[0], "second": sizes[1], "path": path}))
        held = run("audit", "compare", old, new, "--key", key, "--proof", proof)
        assert (held.exit_code, f"{new} goes on from {old}" in held.output) == (0, True)
        unproven = run("audit", "compare", old, new, "--key", key)
        assert (unproven.exit_code, f"first={sizes[0]}&second={sizes[1]}" in unproven.output) == (1, True)
        with pytest.raises(ServiceError, match="PEM file"):
            run("audit", "compare", old, new, "--key", signing.public.fingerprint)

    def test_what_was_served(self, run: Run) -> None:
        assert "held nothing" in run("audit", "serving", "m").output
        run(*SUBMIT, "--sample", "s-0001")
        assert "m-v1 was served from" in run("audit", "serving", "m").output
        with pytest.raises(ServiceError, match="needs a zone"):
            run("audit", "serving", "m", "--at", "2026-01-01T00:00:00")
        with pytest.raises(ServiceError, match="ISO 8601"):
            run("audit", "serving", "m", "--at", "yesterday")

    def test_a_ticket_s_papers(self, run: Run, signing: SigningKeys, tmp_path: Path) -> None:
        run(*SUBMIT, "--sample", "s-0001")
        (ticket,) = story.all_of(Ticket)
        run("tickets", "receipt", str(ticket.id), "--to", str(tmp_path / "receipt.json"))
        assert "payloadType" in (tmp_path / "receipt.json").read_text()
        run("tickets", "receipt", str(ticket.id), "--to", str(tmp_path / "receipt.pdf"))
        assert (tmp_path / "receipt.pdf").read_bytes().startswith(b"%PDF-")
        with pytest.raises(ExpungeError, match="when it has ended"):
            run("tickets", "statement", str(ticket.id), "--to", str(tmp_path / "statement.json"))
        with pytest.raises(ServiceError, match="cannot be written"):
            run("tickets", "receipt", str(ticket.id), "--to", str(tmp_path / "nowhere" / "receipt.json"))
