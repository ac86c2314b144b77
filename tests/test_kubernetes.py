"""The Kubernetes manifests: sound by the API server's own schemas, and of one mind with Compose and with the settings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.config import Settings
from tests.test_containers import known_settings, service

ROOT = Path(__file__).parent.parent
IN_ORDER = (
    "kubectl create secret",
    "kubectl delete job",
    "kubectl apply --kustomize deploy/kubernetes --selector",
    "kubectl wait --for=condition=complete",
    "kubectl apply --kustomize deploy/kubernetes",
)
FOLDER = ROOT / "deploy" / "kubernetes"
RELEASES = ("1.31", kubernetes_validate.latest_version())
Object = dict[str, Any]


def objects() -> list[Object]:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return [found for name in kustomization["resources"] for found in yaml.safe_load_all((FOLDER / name).read_text())]


def named(found: Object) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


def pods() -> dict[str, Object]:
    """Pod templates by component."""
    found = [each for each in objects() if each["kind"] in ("Deployment", "Job")]
    return {each["metadata"]["name"].removeprefix("expunge-"): each["spec"]["template"] for each in found}


def container(name: str) -> Object:
    (only,) = pods()[name]["spec"]["containers"]
    return only


PODS = ("api", "beat", "light", "migrate", "worker")
BUCKET = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
SIGNATURES = {"EXPUNGE_WEBHOOK_SECRET", "EXPUNGE_SIGNING_SECRET"}
OPTIONAL: dict[str, set[str]] = {
    "api": BUCKET | SIGNATURES,
    "light": BUCKET | SIGNATURES,
    "worker": BUCKET,
    "beat": set(),
    "migrate": set(),
}
"""What the secret may hold, by the pods that use it: the light worker signs webhooks and checkpoints, and the API
shows webhooks' secrets and signs evidence."""


def test_the_kustomization_names_every_file() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert {*kustomization["resources"], "kustomization.yaml"} == {path.name for path in FOLDER.iterdir()}
    assert {image["name"] for image in kustomization["images"]} == {container(name)["image"] for name in PODS}
    assert sorted(pods()) == sorted(PODS)
    names = [named(each) for each in objects()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("found", objects(), ids=named)
def test_an_object_is_sound_by_the_schema_of_a_release(found: Object, release: str) -> None:
    kubernetes_validate.validate(found, release, strict=True)


def test_a_wrong_field_is_noticed() -> None:
    wrong = next(each for each in objects() if each["kind"] == "Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["image_"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


@pytest.mark.parametrize("name", PODS)
class TestPods:
    def test_it_runs_as_nobody_on_a_file_system_that_it_cannot_write(self, name: str) -> None:
        pod, inside = pods()[name]["spec"], container(name)["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001  # the image's user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inside["allowPrivilegeEscalation"] is False
        assert inside["readOnlyRootFilesystem"] is True
        assert inside["capabilities"] == {"drop": ["ALL"]}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all("emptyDir" in volume for volume in pod["volumes"])
        assert {mount["name"] for mount in container(name)["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert "/tmp" in {mount["mountPath"] for mount in container(name)["volumeMounts"]}

    def test_secrets_come_by_reference_and_every_setting_exists(self, name: str) -> None:
        here = container(name)
        assert [each["configMapRef"]["name"] for each in here["envFrom"]] == ["expunge-settings"]
        for variable in here["env"]:
            named_alike = {"name": "expunge-secrets", "key": variable["name"]}
            more = {"optional": True} if variable["name"] in OPTIONAL[name] else {}
            assert variable["valueFrom"]["secretKeyRef"] == named_alike | more
        (settings,) = (each["data"] for each in objects() if each["kind"] == "ConfigMap")
        given = {variable["name"] for variable in here["env"]} | set(settings)
        wanted = {"DATABASE_URL", "REDIS_URL", "ARTIFACT_URL"} | OPTIONAL[name]
        assert wanted <= given <= known_settings() | {"AWS_REGION"} | BUCKET

    def test_it_asks_for_what_it_needs_and_has_a_bound(self, name: str) -> None:
        resources = container(name)["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"])
        assert "memory" in resources["limits"]

    def test_its_account_exists(self, name: str) -> None:
        accounts = {each["metadata"]["name"] for each in objects() if each["kind"] == "ServiceAccount"}
        assert pods()[name]["spec"]["serviceAccountName"] in accounts

    def test_it_runs_what_compose_runs(self, name: str) -> None:
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        assert container(name)["args"] == services[name]["command"]
        assert container(name)["image"] == services[name]["image"]


def test_selectors_meet_their_pods() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods().items()}
    for found in objects():
        spec = found.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        if selector is None:
            continue
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= there.items() for there in labels.values()), named(found)
    deployments = {each["metadata"]["name"] for each in objects() if each["kind"] == "Deployment"}
    for found in objects():
        if found["kind"] == "HorizontalPodAutoscaler":
            assert found["spec"]["scaleTargetRef"]["name"] in deployments
            assert found["spec"]["minReplicas"] >= 2
    assert {each["metadata"]["name"] for each in objects() if each["kind"] == "PodDisruptionBudget"} == {
        "expunge-api",
        "expunge-light",
        "expunge-worker",
    }


def test_probes_and_time_to_end() -> None:
    api = container("api")
    assert api["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {api[probe]["httpGet"]["path"] for probe in ("livenessProbe", "startupProbe")} == {"/livez"}
    for name in ("worker", "light", "beat"):
        assert container(name)["livenessProbe"]["exec"]["command"] == service(name)["healthcheck"]["test"][1:]
    # Whoever is killed after that loses time, no ticket; the API answers what is under way after its pause.
    ends = {name: pods()[name]["spec"]["terminationGracePeriodSeconds"] for name in ("api", "worker", "light", "beat")}
    assert min(ends.values()) >= 30
    graceful = int(api["args"][api["args"].index("--timeout-graceful-shutdown") + 1])
    assert ends["api"] > api["lifecycle"]["preStop"]["sleep"]["seconds"] + graceful


def test_the_worker_has_a_gpu_and_a_place_for_checkpoints() -> None:
    resources = container("worker")["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == 1
    (settings,) = (each["data"] for each in objects() if each["kind"] == "ConfigMap")
    assert settings["EXPUNGE_DATA_DIR"] in {mount["mountPath"] for mount in container("worker")["volumeMounts"]}


def ports_outside() -> Iterator[int]:
    """The ports that every pod may call on any host but the cloud's metadata."""
    (default,) = (each["spec"] for each in objects() if named(each) == "NetworkPolicy/expunge-default")
    for rule in default["egress"]:
        if any("ipBlock" in to for to in rule["to"]):
            yield from (port["port"] for port in rule["ports"])


def test_what_the_service_calls_by_default_may_be_called() -> None:
    """Webhooks' ports too: a delivery that the network policy swallows times out, again and again."""
    webhooks = {int(port) for port in str(Settings.model_fields["webhook_ports"].default).split(",")}
    assert set(ports_outside()) == {5432, 6379} | webhooks


def chapter() -> str:
    """What the documentation says of Kubernetes."""
    return (ROOT / "docs" / "operations.md").read_text().partition("### Kubernetes")[2].partition("\n## ")[0]


def test_the_documented_patch_opens_a_port() -> None:
    """It names the rule by its place in the list."""
    (patch,) = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", chapter(), flags=re.DOTALL))
    (only,) = patch["patches"]
    (found,) = (each for each in objects() if each["kind"] == only["target"]["kind"] if named(each).endswith("default"))
    assert found["metadata"]["name"] == only["target"]["name"]
    (step,) = yaml.safe_load(only["patch"])
    *path, last = step["path"].strip("/").split("/")
    for part in path:
        found = found[int(part) if part.isdecimal() else part]
    assert (step["op"], last) == ("add", "-")
    assert {port["port"] for port in found} == set(ports_outside())
    assert step["value"] == {"protocol": "TCP", "port": 4318}


def test_the_documented_commands_migrate_before_the_rest() -> None:
    said = re.findall(r"```console\n(.*?)```", chapter(), flags=re.DOTALL)[0].replace("\\\n", "").splitlines()
    order = [line for line in said if line.startswith(IN_ORDER)]
    assert [line.startswith(start) for line, start in zip(order, IN_ORDER, strict=True)] == [True] * len(IN_ORDER)
    first, rest = (line for line in said if line.startswith("kubectl apply"))
    (chosen,) = re.findall(r"--selector 'app\.kubernetes\.io/component in \(([a-z, ]+)\)'", first)
    labels = {named(each): each["metadata"]["labels"].get("app.kubernetes.io/component") for each in objects()}
    applied = {name for name, component in labels.items() if component in chosen.split(", ")}
    needed = {name for name in labels if name.partition("/")[0] in ("ConfigMap", "ServiceAccount")}
    assert applied == needed | {"NetworkPolicy/expunge-default", "Job/expunge-migrate"}
    assert "--selector" not in rest
    assert next(line for line in said if "create secret" in line).count("--from-literal=EXPUNGE_WEBHOOK_SECRET=") == 1


def test_nobody_may_call_anybody_unless_it_is_said() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in objects() if each["kind"] == "NetworkPolicy"}
    default = policies["expunge-default"]
    assert default["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in default
    assert all(
        default["podSelector"]["matchLabels"].items() <= pods()[name]["metadata"]["labels"].items() for name in PODS
    )
    blocks = [to["ipBlock"] for rule in default["egress"] for to in rule["to"] if "ipBlock" in to]
    assert all("169.254.169.254/32" in block["except"] for block in blocks)
