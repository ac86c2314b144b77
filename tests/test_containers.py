"""The container files, held against the code: settings that exist, commands that start, images that carry what they should.

No container engine is needed. The last tests run the very commands and health checks on private servers.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import Settings
from tests.servers import Servers

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
OURS = ("api", "worker", "light", "beat", "migrate")
FOREIGN = {"postgres": "pg_isready", "redis": "redis-cli"}
KNOWN_ELSEWHERE = re.compile(r"PGPASSWORD|POSTGRES_(USER|DB|PASSWORD)|PYTHON[A-Z]+|PIP_[A-Z_]+|PATH")
PASSED_ON = "as the host has it"
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY$")


class Loader(yaml.SafeLoader):
    """YAML with Compose's tag for taking a value away."""


def reset(_: yaml.SafeLoader, __: yaml.Node) -> None:
    """`!reset` leaves nothing, whatever stands behind it."""


Loader.add_constructor("!reset", reset)


@cache
def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / name).read_text(), Loader)
    return loaded


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"][name]
    return found


@cache
def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage of the Dockerfile, its FROM first."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    found: dict[str, list[tuple[str, str]]] = {"": []}
    current = ""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            current = rest.split()[-1]
            found[current] = []
        found[current].append((instruction, re.sub(r"\s+", " ", rest)))
    return found


def lineage(stage: str) -> set[str]:
    """The stage and every stage that it is built from or copies from."""
    needs = {stage}
    for instruction, rest in stages()[stage]:
        named = re.findall(r"--from=(\S+)", rest) if instruction == "COPY" else []
        base = rest.split()[0] if instruction == "FROM" else ""
        for other in [*named, base]:
            if other in stages() and other not in needs:
                needs |= lineage(other)
    return needs


def instructions(stage: str, *kinds: str) -> list[str]:
    """What a target's stages say, in these kinds of instruction."""
    return [rest for name in sorted(lineage(stage)) for kind, rest in stages()[name] if kind in kinds]


def environment(name: str) -> dict[str, str]:
    return {key: str(value or PASSED_ON) for key, value in (service(name).get("environment") or {}).items()}


def environments() -> Iterator[tuple[str, str]]:
    """Every environment setting of both files."""
    for name in compose()["services"]:
        yield from environment(name).items()
    for stage in stages().values():
        for instruction, rest in stage:
            if instruction == "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    yield name, value


def known_settings() -> set[str]:
    """The names under which the environment may set a field of `Settings`."""
    prefix = Settings.model_config["env_prefix"]
    return {str(field.validation_alias or f"{prefix}{name}".upper()) for name, field in Settings.model_fields.items()}


def commands() -> list[tuple[str, list[str]]]:
    """Every command of ours in both files, by where it stands."""
    found = [(f"compose {name}", service(name)["command"]) for name in OURS]
    for name, stage in stages().items():
        found += [(f"image {name}", yaml.safe_load(rest)) for kind, rest in stage if kind == "CMD"]
    return found


def installed(command: list[str]) -> list[str]:
    """The command as this environment has it; nothing else that happens to be on PATH will do."""
    program = BIN / command[0]
    assert program.exists(), f"{command[0]} is no command of the installed environment"
    return [str(program), *command[1:]]


def test_the_tool_knows_what_it_reads() -> None:
    assert {"DATABASE_URL", "REDIS_URL", "ARTIFACT_URL", "EXPUNGE_API_URL", "EXPUNGE_PORT"} <= known_settings()
    assert {"base", "api", "worker"} <= set(stages())
    assert "base" in lineage("api")


def test_targets_are_those_that_compose_builds() -> None:
    for name in OURS:
        build = service(name)["build"]
        assert build["target"] == ("worker" if name == "worker" else "api")
        assert service(name)["image"] == f"expunge-{build['target']}"
        assert (ROOT / build["context"] / build.get("dockerfile", "Dockerfile")).is_file()


def test_settings_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environments():
        if not name.startswith("EXPUNGE_") and not name.endswith("_URL"):
            assert KNOWN_ELSEWHERE.fullmatch(name), name
            continue
        assert name in known_settings(), f"{name} is no setting"
        if value != PASSED_ON:
            monkeypatch.setenv(name, value)
    made = Settings()
    assert made.webhook_secret is None
    assert made.database == "postgresql+psycopg://expunge@postgres:5432/expunge"
    assert made.broker == "redis://redis:6379/0"
    assert made.artifacts == "file:///var/lib/expunge/artifacts"
    assert made.url == "http://api:8420"


def test_all_of_ours_share_servers_and_artifacts() -> None:
    for name in OURS:
        shared = {key: environment(name)[key] for key in ("DATABASE_URL", "REDIS_URL", "ARTIFACT_URL", "PGPASSWORD")}
        assert shared == {key: environment("api")[key] for key in shared}
        assert "artifacts:/var/lib/expunge/artifacts" in service(name)["volumes"]


def test_no_secret_is_written_down() -> None:
    for name, value in environments():
        if SECRET.search(name):
            assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value) or value == PASSED_ON, f"{name} has a value of its own"
        assert not re.search(r"://[^/@]*:[^/@]*@", value), f"{name} holds a password"
    assert not [rest for name in stages() for rest in instructions(name, "ARG") if SECRET.search(rest)]


def test_the_api_image_has_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [need for need in project["dependencies"] if re.match(r"torch|scikit-learn|safetensors", need)]
    for said in instructions("api", "RUN", "CMD", "COPY"):
        assert "torch" not in said
        assert "worker'" not in said
        assert "[worker" not in said
    assert "worker-dependencies" not in lineage("api")
    assert any("['worker']" in said for said in instructions("worker", "RUN"))


@pytest.mark.parametrize("target", ["api", "worker"])
def test_images_run_as_nobody_in_particular(target: str) -> None:
    """The last USER is one that was made, and nothing is installed after it."""
    steps = stages()[target]
    users = [rest for kind, rest in steps if kind == "USER"]
    assert users == ["expunge"]
    after = steps[steps.index(("USER", "expunge")) :]
    assert not [kind for kind, _ in after if kind in {"RUN", "COPY", "ADD"}]
    assert any("useradd --uid 10001" in said for said in instructions(target, "RUN"))


@pytest.mark.parametrize("name", OURS)
def test_nothing_of_ours_may_write_to_its_image_or_gain_a_right(name: str) -> None:
    said = service(name)
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in said
    assert "user" not in said, "the image's own user, which is not root"
    mounts = {mount.partition(":")[0] for mount in said["tmpfs"]}
    assert "/tmp" in mounts
    home = "/var/lib/expunge"
    for mount in said["tmpfs"]:
        path, _, options = mount.partition(":")
        assert path == "/tmp" or (path.startswith(f"{home}/.") and "uid=10001" in options), mount
    kept = {f"{home}/artifacts", f"{home}/data"} if name == "worker" else {f"{home}/artifacts"}
    assert {volume.partition(":")[2] for volume in said["volumes"]} == kept


def test_a_volume_belongs_to_the_user_who_writes_there() -> None:
    """A new volume takes over the owner of the image's folder; without one it is root's."""
    for name in OURS:
        made = [rest for rest in instructions(service(name)["build"]["target"], "RUN") if "install -d" in rest]
        owned = {path for rest in made for path in rest.partition("install -d -o expunge -g expunge ")[2].split()}
        assert {volume.partition(":")[2] for volume in service(name)["volumes"]} <= owned, name


def test_the_worker_has_a_place_for_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_DATA_DIR", environment("worker")["EXPUNGE_DATA_DIR"])
    assert str(Settings().home) in {volume.partition(":")[2] for volume in service("worker")["volumes"]}


WRITES = """
import json, os, sys
import celery.apps.worker, multiprocessing  # noqa: F401
kept = []
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        kept.append(os.path.realpath(os.fsdecode(arguments[0])))
    if event in {"os.mkdir", "os.rename"}:
        kept.append(os.path.realpath(os.fsdecode(arguments[0])))
sys.addaudithook(note)
import numpy as np
import workers.tasks  # noqa: F401
from unlearning.splits import split_unseen
from unlearning.training import train
from workers.problems import load
problem = load("digits")
tuning, _ = split_unseen(problem)
train(problem, np.arange(64), tuning)
print(json.dumps(kept))
"""


@pytest.mark.service
def test_a_worker_that_trains_writes_only_where_its_container_lets_it(tmp_path: Path) -> None:
    """The mounts are enough for what Python and torch open themselves; native libraries are beyond this test."""
    surroundings = os.environ | {
        "HOME": "/var/lib/expunge",
        "PYTHONDONTWRITEBYTECODE": "1",
        "EXPUNGE_DATA_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", WRITES], env=surroundings, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    mounts = ("/dev/", "/tmp", "/proc/self/", *(mount.partition(":")[0] for mount in service("worker")["tmpfs"]))
    outside = [path for path in json.loads(done.stdout.splitlines()[-1]) if not path.startswith(mounts)]
    assert not outside


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in stages().values():
        for instruction, rest in stage:
            if instruction != "COPY" or "--from=" in rest:
                continue
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in kept, f".dockerignore leaves {source} out"
    for source in kept:
        assert (ROOT / source).exists(), source


def test_the_wheel_stage_has_all_that_the_wheel_holds() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {word for rest in instructions("wheel", "COPY") for word in rest.split()}
    assert set(built["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= copied
    assert {built["project"]["readme"], *built["project"]["license-files"]} <= copied


@pytest.mark.service
@pytest.mark.parametrize(("where", "command"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_commands_start(where: str, command: list[str], tmp_path: Path) -> None:
    """With all its options: a parser that does not know one says so before it shows its help."""
    asked = [*installed(command), "--help"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_an_unknown_option_would_be_seen(tmp_path: Path) -> None:
    asked = [*installed(["uvicorn", "app.main:app", "--no-such-option"]), "--help"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0


def test_what_services_refer_to_exists() -> None:
    made = compose()
    for name, said in made["services"].items():
        assert set(said.get("networks", [])) <= set(made["networks"]), name
        for volume in said.get("volumes", []):
            assert volume.partition(":")[0] in made["volumes"], name
        for other, how in said.get("depends_on", {}).items():
            needed = made["services"][other]
            if how["condition"] == "service_healthy":
                assert needed["healthcheck"]["test"], f"{name} waits for the health of {other}"
            if how["condition"] == "service_completed_successfully":
                assert needed["restart"] == "no", f"{name} waits for the end of {other}"
    used = {volume.partition(":")[0] for said in made["services"].values() for volume in said.get("volumes", [])}
    assert used == set(made["volumes"])


def test_servers_are_not_reachable_from_outside() -> None:
    assert compose()["networks"]["inside"] == {"internal": True}
    for name in FOREIGN:
        assert service(name)["networks"] == ["inside"]
        assert "ports" not in service(name)
    assert service("api")["ports"] == ["127.0.0.1:8420:8420"]


def test_every_service_tells_its_health() -> None:
    for name in compose()["services"]:
        check = service(name)["healthcheck"]
        assert check == {"disable": True} if name == "migrate" else check["test"][0] in {"CMD", "CMD-SHELL"}
    for name, program in FOREIGN.items():
        assert service(name)["healthcheck"]["test"][1] == program
        assert re.fullmatch(rf"{name}:\d+", service(name)["image"]), "the official image, of a chosen major version"


def test_the_api_image_checks_itself_as_compose_does() -> None:
    said = next(rest for kind, rest in stages()["api"] if kind == "HEALTHCHECK")
    assert yaml.safe_load(said.partition(" CMD ")[2]) == service("api")["healthcheck"]["test"][1:]


def test_a_host_without_a_gpu_reserves_none() -> None:
    devices = service("worker")["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]
    assert compose("docker-compose.cpu.yml") == {"services": {"worker": {"deploy": None}}}
    assert "docker-compose.cpu.yml" in (ROOT / "docker-compose.yml").read_text()


@contextmanager
def started(command: list[str], surroundings: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command of ours, running; told to stop at the end."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        child = subprocess.Popen(command, env=surroundings, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            yield child
        finally:
            child.terminate()
            child.wait(30)


@pytest.fixture
def surroundings(servers: Servers, tmp_path: Path) -> dict[str, str]:
    """A container's environment, with private servers in the place of Compose's."""
    passed = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return passed | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOSTNAME": socket.gethostname(),
        "DATABASE_URL": servers.database_url("containers"),
        "REDIS_URL": servers.redis_url,
        "ARTIFACT_URL": tmp_path.joinpath("artifacts").as_uri(),
    }


def healthy(check: list[str], surroundings: dict[str, str], seconds: float = 60) -> bool:
    """Whether a health check's command succeeds in time."""
    argv = ["sh", "-c", *check[1:]] if check[0] == "CMD-SHELL" else check[1:]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        argv_here = [word.replace("$$", "$") for word in argv]
        if subprocess.run(argv_here, env=surroundings, capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.service
def test_the_api_starts_and_its_health_check_passes(surroundings: dict[str, str], tmp_path: Path) -> None:
    subprocess.run(installed(service("migrate")["command"]), env=surroundings, cwd=tmp_path, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [word.replace("8420", port) for word in installed(service("api")["command"])]
    check = [word.replace("8420", port) for word in service("api")["healthcheck"]["test"]]
    assert not healthy(check, surroundings, seconds=0.5)
    with started(command, surroundings, tmp_path):
        assert healthy(check, surroundings)


@pytest.mark.service
def test_the_worker_starts_and_its_health_check_passes(surroundings: dict[str, str], tmp_path: Path) -> None:
    subprocess.run(installed(service("migrate")["command"]), env=surroundings, cwd=tmp_path, check=True)
    check = service("worker")["healthcheck"]["test"]
    with started(installed(service("worker")["command"]), surroundings, tmp_path):
        assert healthy(check, surroundings), (tmp_path / "celery.log").read_text()


@pytest.mark.service
def test_the_light_worker_starts_without_torch_and_its_health_check_passes(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    subprocess.run(installed(service("migrate")["command"]), env=surroundings, cwd=tmp_path, check=True)
    check = service("light")["healthcheck"]["test"]
    hidden = tmp_path / "hidden" / "torch.py"
    hidden.parent.mkdir()
    hidden.write_text("raise ImportError('the image of the light worker has no torch')")
    bare = surroundings | {"PYTHONPATH": str(hidden.parent)}
    with started(installed(service("light")["command"]), bare, tmp_path):
        assert healthy(check, bare), (tmp_path / "celery.log").read_text()


@pytest.mark.service
def test_beat_starts_and_its_health_check_passes(surroundings: dict[str, str], tmp_path: Path) -> None:
    subprocess.run(installed(service("migrate")["command"]), env=surroundings, cwd=tmp_path, check=True)
    command = [word.replace("/tmp/beat", str(tmp_path / "beat")) for word in installed(service("beat")["command"])]
    check = service("beat")["healthcheck"]["test"]
    assert not healthy(check, surroundings, seconds=0.5)
    with started(command, surroundings, tmp_path):
        assert healthy(check, surroundings), (tmp_path / "celery.log").read_text()
