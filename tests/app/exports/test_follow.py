"""How the log is followed: who may, how far, what a failure holds up, what a restoration means, and what people see of it."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
import structlog
from mlflow import MlflowClient
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from app import presence, runs
from app.cli import app as command_line
from app.config import Settings
from app.db import transaction
from app.errors import Conflict, NotFound
from app.exports import follow
from app.exports.shapes import Event, Refused, Tell
from app.recovery import replay
from app.tables import ExportCursor, Role
from tests.app import story
from tests.app.exports import scene
from tests.app.metrics.exported import scrape
from tests.app.test_recovery import Elsewhere, archive, back_up, elsewhere, restore
from tests.receiver import Receiver
from workers import tasks

__all__ = ["archive", "elsewhere"]
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # MLflow's own store


class Noted:
    """An exporter that notes what it is told."""

    kinds = frozenset({"run.claimed", "version.published"})

    def __init__(self, name: str = "mlflow") -> None:
        self.name = name
        self.told: list[int] = []
        self.before: Callable[[Event], None] = lambda _: None

    def prepare(self, session: Session, event: Event) -> Tell:
        def tell() -> None:
            self.before(event)
            self.told.append(event.seq)

        return tell


@pytest.fixture
def noted(database: str, monkeypatch: pytest.MonkeyPatch) -> Noted:
    made = Noted()
    monkeypatch.setattr(follow, "configured", lambda: [made])
    return made


def seqs(kinds: frozenset[str] = Noted.kinds) -> list[int]:
    return sorted(event.seq for kind in kinds for event in scene.events(kind))


def test_where_nothing_is_configured_nothing_happens(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXPUNGE_MLFLOW_URI", "EXPUNGE_OPENLINEAGE_URL"):
        monkeypatch.delenv(name, raising=False)
    scene.updated()
    assert follow.configured() == []
    tasks.export()
    assert story.all_of(ExportCursor) == []


@pytest.mark.parametrize("window", [1, 3, 1000])
def test_in_the_log_s_order_each_once_in_windows_of_any_size(
    noted: Noted, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(follow, "WINDOW", window)
    model_id = scene.updated()
    follow.export()
    assert noted.told == seqs()
    assert scene.cursor("mlflow").seq == scene.head()
    story.submit(5)
    story.work(model_id)
    follow.export()
    follow.export()
    assert noted.told == seqs()


def test_a_tick_that_took_its_time_ends_and_the_next_goes_on(noted: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SECONDS", -1.0)
    scene.updated()
    for count in range(1, 5):
        follow.export()
        assert len(noted.told) == count
    assert noted.told == seqs()


def test_one_that_fails_stays_where_it_is_and_the_others_go_on(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, well = Noted(), Noted("openlineage")
    monkeypatch.setattr(follow, "configured", lambda: [failing, well])
    scene.updated()
    second = seqs()[1]

    def refuse(event: Event) -> None:
        if event.seq == second:
            raise Refused("Not today.")

    failing.before = refuse
    with structlog.testing.capture_logs() as lines:
        follow.export()
    said = {
        "event": "export.failed",
        "exporter": "mlflow",
        "seq": second,
        "failure": "Not today.",
        "log_level": "warning",
    }
    assert lines == [said]
    assert (failing.told, well.told) == (seqs()[:1], seqs())
    row = scene.cursor("mlflow")
    assert (row.seq, row.failure) == (seqs()[0], "Not today.")
    assert row.failed_at is not None
    failing.before = lambda _: None
    follow.export()
    assert failing.told == seqs()
    assert scene.cursor("mlflow").failed_at is None


def test_what_a_library_raises_is_named_by_its_kind_alone(noted: Noted) -> None:
    scene.updated()

    def break_(_: Event) -> None:
        raise RuntimeError("http://ada:hunter2@registry")

    noted.before = break_
    follow.export()
    assert scene.cursor("mlflow").failure == "The client failed with RuntimeError."


def test_what_our_database_raises_is_no_failure_of_the_other_system(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.updated()

    def broken(session: Session, event: Event) -> Tell:
        raise OperationalError("SELECT", {}, Exception("gone"))

    with monkeypatch.context() as patched:
        patched.setattr(noted, "prepare", broken)
        with pytest.raises(OperationalError):
            follow.export()
    row = scene.cursor("mlflow")
    assert (row.seq, row.failed_at) == (0, None)
    follow.export()
    assert noted.told == seqs()


def test_two_processes_never_both_tell(noted: Noted) -> None:
    """While one is in the middle of a call, another finds the exporter held and goes away."""
    scene.updated()
    calling, go_on = threading.Event(), threading.Event()

    def wait(_: Event) -> None:
        calling.set()
        assert go_on.wait(30)

    noted.before = wait
    first = threading.Thread(target=follow.export)
    first.start()
    assert calling.wait(30)
    other = Noted()
    assert not follow.advance(other, until=float("inf"))
    with pytest.raises(Conflict, match="is telling just now"):
        scene.rewind("mlflow")
    go_on.set()
    first.join()
    assert (noted.told, other.told) == (seqs(), [])


def test_nothing_is_told_before_its_commit(noted: Noted) -> None:
    story.dataset()
    model_id = story.register()
    with transaction() as session:
        assert runs.claim(session, model_id, "w1") is not None
        follow.export()
        assert noted.told == []
    follow.export()
    assert noted.told == seqs() != []


def test_telling_anew_and_from_here_on(noted: Noted) -> None:
    scene.updated()
    runner = CliRunner()
    assert runner.invoke(command_line, ["export", "mlflow", "--from-here"]).exit_code == 0
    follow.export()
    assert noted.told == []
    assert runner.invoke(command_line, ["export", "mlflow", "--from-start"]).exit_code == 0
    follow.export()
    assert noted.told == seqs()
    assert runner.invoke(command_line, ["export", "mlflow", "--forget"]).exit_code == 0
    assert story.all_of(ExportCursor) == []
    follow.export()
    assert noted.told == seqs() * 2
    with pytest.raises(NotFound, match="There are: mlflow, openlineage"):
        scene.rewind("nobody")


def test_what_the_command_line_says(noted: Noted) -> None:
    scene.updated()
    said = CliRunner().invoke(command_line, ["export"]).output
    assert "mlflow" in said
    assert "0" in said

    def refuse(_: Event) -> None:
        raise Refused("Not today.")

    noted.before = refuse
    follow.export()
    assert "Not today." in CliRunner().invoke(command_line, ["export"]).output
    for arguments in (
        ["export", "mlflow"],
        ["export", "--from-start"],
        ["export", "mlflow", "--from-start", "--forget"],
    ):
        assert CliRunner().invoke(command_line, arguments).exit_code != 0, arguments


def test_health_says_what_fails_and_is_well_all_the_same(noted: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.updated()

    def refuse(_: Event) -> None:
        raise Refused("Not today.")

    noted.before = refuse
    follow.export()
    with transaction() as session:
        presence.write(session, Role.LIGHT, None, timedelta())
    done = CliRunner().invoke(command_line, ["health", "light"])
    assert done.exit_code == 0, done.output
    assert "mlflow does not get on: Not today." in " ".join(done.output.split())


def test_the_metric_says_how_far_behind_each_is(noted: Noted) -> None:
    scene.updated()
    assert not scrape().has("expunge_export_lag_events", exporter="mlflow")
    follow.export()
    assert scrape()("expunge_export_lag_events", exporter="mlflow") == 0
    scene.rewind("mlflow")
    assert scrape()("expunge_export_lag_events", exporter="mlflow") == scene.head()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EXPUNGE_MLFLOW_URI", "ada:hunter2@registry"),
        ("EXPUNGE_MLFLOW_URI", "ftp://ada:hunter2@registry"),
        ("EXPUNGE_OPENLINEAGE_URL", "kafka://ada:hunter2@marquez"),
        ("EXPUNGE_MLFLOW_ALIAS", "latest"),
        ("EXPUNGE_MLFLOW_ALIAS", "V2"),
        ("EXPUNGE_MLFLOW_ALIAS", "no spaces"),
        ("EXPUNGE_OPENLINEAGE_NAMESPACE", ""),
    ],
)
def test_settings_that_could_never_work(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable.removeprefix("EXPUNGE_").lower()) as refused:
        Settings()
    assert "hunter2" not in str(refused.value)


def test_an_address_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_MLFLOW_URI", "https://ada:hunter2@registry")
    monkeypatch.setenv("EXPUNGE_OPENLINEAGE_URL", "https://ada:hunter2@marquez")
    assert "hunter2" not in repr(Settings())


def declare() -> None:
    with transaction() as session:
        replay.declare(session, "ada", "the intake was closed")


@pytest.mark.service
def test_a_restored_database_goes_on_from_what_it_holds(
    archive: str, elsewhere: Elsewhere, mlflow: MlflowClient, marquez: Receiver
) -> None:
    """v2 was published, and told, after the back-up. The restored log knows nothing of it, and has other events at the same
    numbers: they are told as what they are, the alias goes back, and what is lost is marked."""
    story.dataset()
    model_id = story.trained()
    follow.export()
    back_up(archive)
    story.submit(1, 2)
    story.work(model_id)
    follow.export()
    told, numbers = len(marquez.calls), scene.head()
    assert served(mlflow) == "m-v2"
    elsewhere()
    restore(archive)
    follow.export()
    assert len(marquez.calls) == told, "nothing is told before it is known what came after the back-up"
    assert served(mlflow) == "m-v2"
    assert scene.cursor("mlflow").seq < numbers
    declare()
    follow.export()
    assert served(mlflow) == "m-v1"
    lost = mlflow.search_model_versions("tag.`expunge.version`='m-v2'")
    assert [each.tags["expunge.lost"] for each in lost] == ["restored from a back-up"]
    story.submit(3)
    story.work(model_id)
    follow.export()
    assert served(mlflow) == "m-v2"
    found = {
        each.tags["expunge.event"]: each.tags.get("expunge.lost") for each in mlflow.search_model_versions("name='m'")
    }
    ours = {event.hash for event in scene.events("version.published")}
    assert {event for event, gone in found.items() if gone is None} == ours
    assert len(found) == 3
    sent = [json.loads(call.body) for call in marquez.calls]
    assert Counter(event["run"]["runId"] for event in sent).most_common()[0][1] == 2
    assert [event["eventType"] for event in sent] == ["START", "COMPLETE"] * 3


@pytest.mark.service
def test_a_model_that_had_no_version_in_the_back_up_has_no_alias(
    archive: str, elsewhere: Elsewhere, mlflow: MlflowClient
) -> None:
    story.dataset()
    model_id = story.register()
    story.register("untold")
    back_up(archive)
    story.work(model_id)
    follow.export()
    elsewhere()
    restore(archive)
    declare()
    for _ in range(2):
        follow.export()
        (lost,) = mlflow.search_model_versions("name='m'")
        assert ("expunge.lost" in lost.tags, mlflow.get_registered_model("m").aliases) == (True, {})
        scene.rewind("mlflow")
    story.work(model_id)
    follow.export()
    assert mlflow.get_model_version_by_alias("m", "current").tags["expunge.version"] == "m-v1"


@pytest.mark.service
def test_a_run_of_the_same_batch_and_epoch_after_a_restoration_is_another(
    archive: str, elsewhere: Elsewhere, marquez: Receiver
) -> None:
    """Lost: epochs 1 (running in the back-up), 2 and 3. Restored: 1 is aborted, and the next claim is 3 once more."""
    story.dataset()
    model_id = story.register()
    lease = story.claimed(model_id)
    back_up(archive)
    for _ in range(2):
        story.expire(lease)
        lease = story.claimed(model_id)
    follow.export()
    elsewhere()
    restore(archive)
    declare()
    before = len(marquez.calls)
    assert story.claimed(model_id).epoch == lease.epoch == 3
    follow.export()
    sent = [json.loads(call.body) for call in marquez.calls]
    states = [event["eventType"] for event in sent]
    assert states == ["START", "ABORT", "START", "ABORT", "START", "START", "ABORT", "START"]
    ids = [event["run"]["runId"] for event in sent]
    assert ids[0] == ids[before] == ids[before + 1], "the run that the back-up knows is told again, and aborted"
    assert ids[before + 2] not in ids[:before]


def served(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias("m", "current").tags["expunge.version"])
