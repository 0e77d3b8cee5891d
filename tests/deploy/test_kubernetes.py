"""deploy/kubernetes: valid by Kubernetes' own schemas, and in agreement with the command line and the settings."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.integration.test_commands_in_pages import problem_of
from tests.support.redis_server import needed_binary

from fetchq_worker.fetch.egress.ranges import SPECIAL_V4, SPECIAL_V6
from fetchq_worker.settings import Settings, unknown_variables

from .manifests import KUBERNETES, Manifest, container_of, find, plain_environment, pods, read_manifests

ALL = dict(read_manifests())
CORE = {place: one for place, one in ALL.items() if one["kind"] not in ("ScaledObject", "PodMonitor", "ServiceMonitor")}
VERSIONS = ("1.30", "1.37")
STOPPING_S = 10
"""What a worker needs after its grace time: to cancel runs, commit, sign off and close."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("place", CORE)
def test_each_object_is_valid(place: str, version: str) -> None:
    kubernetes_validate.validate(CORE[place], version, strict=True)


def test_a_misspelt_field_is_not_valid() -> None:
    wrong = find("PodDisruptionBudget", "fetchq-worker")
    wrong["spec"]["maxUnavailible"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("components", [[], ["prometheus-operator"], ["keda"], ["keda", "prometheus-operator"]])
def test_kustomize_builds_it_with_and_without_the_components(components: list[str], tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    folder = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    file = folder / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**kustomization, "components": components}), encoding="utf-8")
    built = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    objects = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(built)}
    assert ("ScaledObject", "fetchq-worker") in objects or "keda" not in components
    assert ("PodMonitor", "fetchq-worker") in objects or "prometheus-operator" not in components
    worker = objects["Deployment", "fetchq-worker"]["spec"]
    assert ("replicas" in worker) == ("keda" not in components), "KEDA alone sets the number"


@pytest.mark.parametrize(("name", "pod"), pods())
def test_a_pod_has_no_rights_that_it_does_not_need(name: str, pod: Manifest) -> None:
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    dockerfile = (KUBERNETES.parents[1] / "Dockerfile").read_text(encoding="utf-8")
    assert f"USER {spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}\n" in dockerfile
    assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize(("name", "pod"), pods())
def test_a_pod_gets_no_variables_of_services_which_would_look_like_settings(name: str, pod: Manifest) -> None:
    assert unknown_variables({"FETCHQ_GATEWAY_SERVICE_HOST": ""}), "what Kubernetes would add"
    assert pod["spec"]["enableServiceLinks"] is False, name


@pytest.mark.parametrize("name", ["fetchq-worker", "fetchq-gateway"])
def test_each_command_and_variable_exists(name: str) -> None:
    container = container_of(name)
    assert problem_of(" ".join(container["args"])) == ""
    assert unknown_variables(plain_environment(container)) == {}


@pytest.mark.parametrize(("name", "pod"), pods())
def test_the_address_of_redis_comes_from_a_secret(name: str, pod: Manifest) -> None:
    (container,) = pod["spec"]["containers"]
    (address,) = [one for one in container["env"] if one["name"] == "FETCHQ_REDIS_URL"]
    assert address["valueFrom"] == {"secretKeyRef": {"name": "fetchq-redis", "key": "url"}}, name


def test_the_workers_settings_are_accepted_and_its_grace_fits_into_that_of_the_pod() -> None:
    settings = Settings.from_env(plain_environment(container_of("fetchq-worker")))
    allowed_s = find("Deployment", "fetchq-worker")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert settings.processes == 1, "a supervisor kills a stuck process 15 s after its grace: more is needed"
    assert allowed_s >= settings.grace_s + STOPPING_S


def test_probes_scrapes_and_policies_name_the_port_that_the_process_listens_on() -> None:
    worker = container_of("fetchq-worker")
    listens_on = int(Settings.from_env(plain_environment(worker)).http.rpartition(":")[2])
    assert worker["ports"] == [{"name": "metrics", "containerPort": listens_on}]
    gateway = container_of("fetchq-gateway")
    listens_on = int(gateway["args"][gateway["args"].index("--listen") + 1].rpartition(":")[2])
    assert gateway["ports"] == [{"name": "http", "containerPort": listens_on}]
    for name, container in (("fetchq-worker", worker), ("fetchq-gateway", gateway)):
        (port,) = container["ports"]
        policy = find("NetworkPolicy", name)["spec"]
        assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port["name"]}]
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}


@pytest.mark.parametrize(
    ("place", "name", "path"),
    [
        ("Deployment/fetchq-worker", "fetchq-worker", "/metrics"),
        ("Service/fetchq-gateway", "fetchq-gateway", "/metrics/queue"),
    ],
)
def test_annotations_name_the_same_port(place: str, name: str, path: str) -> None:
    found = find(*place.split("/"))
    of = found["spec"]["template"] if found["kind"] == "Deployment" else found
    port = str(container_of(name)["ports"][0]["containerPort"])
    assert {key.rpartition("/")[2]: value for key, value in of["metadata"]["annotations"].items()} == {
        "scrape": "true",
        "port": port,
        "path": path,
    }


def test_the_queues_figures_are_scraped_once() -> None:
    monitors = [one for one in ALL.values() if one["kind"] in ("PodMonitor", "ServiceMonitor")]
    scraped = {
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]: endpoint
        for one in monitors
        for endpoint in one["spec"].get("podMetricsEndpoints", one["spec"].get("endpoints"))
    }
    assert {component: endpoint["path"] for component, endpoint in scraped.items()} == {
        "worker": "/metrics",
        "gateway": "/metrics/queue",
    }
    assert find("Deployment", "fetchq-gateway")["spec"]["replicas"] == 1


def test_every_selector_finds_its_pods() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods()}

    def selectors(value: Any) -> list[dict[str, str]]:
        if isinstance(value, dict):
            own = [value["matchLabels"]] if "matchLabels" in value else []
            return own + [one for inner in value.values() for one in selectors(inner)]
        return [one for inner in value for one in selectors(inner)] if isinstance(value, list) else []

    ours = [one for manifest in ALL.values() for one in selectors(manifest["spec"])]
    ours.append(find("Service", "fetchq-gateway")["spec"]["selector"])
    ours = [one for one in ours if one.get("app.kubernetes.io/name") == "fetchq"]
    assert len(ours) > 8
    assert all(one in labels.values() for one in ours)


@pytest.mark.parametrize(("version", "special"), [(4, SPECIAL_V4), (6, SPECIAL_V6)])
def test_a_worker_can_connect_to_no_range_that_its_own_guard_forbids(
    version: int, special: tuple[tuple[str, str], ...]
) -> None:
    egress = find("NetworkPolicy", "fetchq-worker")["spec"]["egress"]
    blocks = [to["ipBlock"] for rule in egress for to in rule["to"] if "ipBlock" in to]
    (block,) = [one for one in blocks if ip_network(one["cidr"]).version == version]
    allowed = ip_network(block["cidr"])
    excepted = [ip_network(cidr) for cidr in block["except"]]
    assert all(allowed.supernet_of(one) for one in excepted)  # type: ignore[arg-type]  # of one version
    for cidr, rule in special:
        forbidden = ip_network(cidr)
        inside = allowed.overlaps(forbidden)
        assert not inside or any(one.supernet_of(forbidden) for one in excepted), rule  # type: ignore[arg-type]


def test_the_scaled_object_scales_the_workers_by_demand() -> None:
    scaled = find("ScaledObject", "fetchq-worker")
    spec = scaled["spec"]
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert spec.keys() == {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "fallback",
        "advanced", "triggers",
    }  # fmt: skip
    assert find("Deployment", spec["scaleTargetRef"]["name"])
    assert 0 < spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    (trigger,) = spec["triggers"]
    settings = Settings.from_env(plain_environment(container_of("fetchq-worker")))
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"]["query"] == f'max(fetchq_demand{{queue="{settings.queue}"}})'
    assert float(trigger["metadata"]["threshold"]) == settings.concurrency * settings.processes
    assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_the_query_of_the_scaled_object_is_promql() -> None:
    promtool = needed_binary("promtool")
    query = find("ScaledObject", "fetchq-worker")["spec"]["triggers"][0]["metadata"]["query"]
    rules = {"groups": [{"name": "keda", "rules": [{"record": "keda:demand", "expr": query}]}]}
    checked = subprocess.run(
        [promtool, "check", "rules", "/dev/stdin"],
        input=yaml.safe_dump(rules),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_every_file_is_in_a_kustomization() -> None:
    named: set[Path] = set()
    for path in KUBERNETES.rglob("kustomization.yaml"):
        named |= {path.parent / name for name in yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]}
    assert named == set(KUBERNETES.rglob("*.yaml")) - set(KUBERNETES.rglob("kustomization.yaml"))
