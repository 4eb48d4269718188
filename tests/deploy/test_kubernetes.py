"""The Kubernetes manifests: valid as files and as built, and consistent."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from pexpolicy import __version__
from pexpolicy.config.schema.server import AdminTable
from tests.support import certificates, forked
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
WRITTEN = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "kustomization.yaml"})
OLDEST = "1.30"
"""The first version with every field that the manifests use."""
VERSIONS = (OLDEST, kubernetes_validate.latest_version())
SECRETS = ("password", "token")
"""Files that an administrator writes."""
KINDS = {
    "ConfigMap",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Namespace",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Secret",
    "Service",
}


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifests that kustomize builds from the folder with both secrets, by kind."""
    if shutil.which("kustomize") is None:
        pytest.skip("kustomize is not installed")
    folder = tmp_path_factory.mktemp("cluster") / "base"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(*SECRETS))
    for name in SECRETS:
        (folder / name).write_text("a long one")
    result = subprocess.run(["kustomize", "build", str(folder)], stdout=subprocess.PIPE, check=True)
    return {document["kind"]: document for document in yaml.safe_load_all(result.stdout)}


def pod(deployment: Mapping[str, Any]) -> Any:
    return deployment["spec"]["template"]["spec"]


def container(deployment: Mapping[str, Any]) -> Any:
    (only,) = pod(deployment)["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_each_file_matches_the_schema_of_kubernetes(path: Path, version: str) -> None:
    kubernetes_validate.validate(yaml.safe_load(path.read_text()), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_built_matches_it_too(built: dict[str, Any], version: str) -> None:
    assert built.keys() == KINDS
    for document in built.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_the_pods_get_the_configuration_and_the_secrets_that_were_built(
    built: dict[str, Any],
) -> None:
    config, secrets = pod(built["Deployment"])["volumes"][:2]
    assert config["configMap"]["name"] == built["ConfigMap"]["metadata"]["name"]
    assert secrets["secret"]["secretName"] == built["Secret"]["metadata"]["name"]
    assert built["ConfigMap"]["metadata"]["name"] != "pexpolicy"


def test_everything_selects_the_same_pods() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    selected = [
        manifest("deployment")["spec"]["selector"]["matchLabels"],
        manifest("service")["spec"]["selector"],
        manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"],
        manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"],
        pod(manifest("deployment"))["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selected)
    target = manifest("horizontalpodautoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "pexpolicy")


def test_an_upgrade_never_leaves_fewer_than_two() -> None:
    spec = manifest("deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert manifest("horizontalpodautoscaler")["spec"]["minReplicas"] == 2
    sleep = container(manifest("deployment"))["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep < pod(manifest("deployment"))["terminationGracePeriodSeconds"]


def test_probes_and_service_name_ports_that_the_server_has() -> None:
    it = container(manifest("deployment"))
    ports = {port["name"]: port["containerPort"] for port in it["ports"]}
    assert it["args"][it["args"].index("--port") + 1] == str(ports["policy"])
    assert manifest("service")["spec"]["ports"][0]["targetPort"] in ports
    paths = {name: it[name]["httpGet"] for name in it if name.endswith("Probe")}
    assert paths.keys() == {"startupProbe", "readinessProbe", "livenessProbe"}
    assert {probe["path"] for probe in paths.values()} == {"/readyz", "/livez"}
    assert {probe["port"] for probe in paths.values()} <= ports.keys()


def test_the_deployment_matches_the_image() -> None:
    image = (ROOT / "Dockerfile").read_text().splitlines()
    instructions = {word: rest for word, _, rest in (line.partition(" ") for line in image)}
    context = pod(manifest("deployment"))["securityContext"]
    assert instructions["USER"] == f"{context['runAsUser']}:{context['runAsGroup']}"
    it = container(manifest("deployment"))
    assert it["args"] == json.loads(instructions["CMD"])
    mounted = {volume["mountPath"] for volume in it["volumeMounts"]}
    assert "ENV PEXPOLICY_CONFIG=/etc/pexpolicy/config.toml" in image
    assert "ENV STATE_DIRECTORY=/var/lib/pexpolicy" in image
    assert {"/etc/pexpolicy", "/var/lib/pexpolicy"} <= mounted
    settings = tomllib.loads((FOLDER / "config.toml").read_text())
    files = {Path(settings["auth"]["password_file"]), Path(settings["admin"]["token_file"])}
    assert {file.name for file in files} == set(SECRETS)
    files |= {Path(settings["tls"]["certificate"]), Path(settings["tls"]["key"])}
    assert {str(file.parent) for file in files} <= mounted
    assert manifest("kustomization")["images"][0]["newTag"] == __version__


def test_the_configuration_of_the_pods_is_valid(tmp_path: Path) -> None:
    for name in SECRETS:
        (tmp_path / name).write_text("a secret of some length\n")
    certificates.write_pair(tmp_path)
    (tmp_path / "server.pem").rename(tmp_path / "tls.crt")
    (tmp_path / "server.key").rename(tmp_path / "tls.key")
    shipped = (FOLDER / "config.toml").read_text()
    config = tmp_path / "config.toml"
    config.write_text(re.sub(r"/run/secrets/[a-z-]+/", "", shipped))
    result = forked.run("check", "--config", str(config), merged=True)
    assert result.returncode == 0, result.stdout
    it = container(manifest("deployment"))
    ports = {port["name"]: port["containerPort"] for port in it["ports"]}
    assert ports["admin"] == AdminTable().port


def test_the_network_policy_admits_the_nodes_of_the_configuration_and_prometheus() -> None:
    spec = manifest("networkpolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []
    calls, metrics = spec["ingress"]
    settings = tomllib.loads((FOLDER / "config.toml").read_text())
    assert [source["ipBlock"]["cidr"] for source in calls["from"]] == settings["access"]["networks"]
    ports = {port["name"] for port in container(manifest("deployment"))["ports"]}
    assert [port["port"] for port in calls["ports"] + metrics["ports"]] == ["policy", "admin"]
    assert ports == {"policy", "admin"}


def test_credentials_are_never_sent_in_clear() -> None:
    settings = tomllib.loads((FOLDER / "config.toml").read_text())
    assert {"auth", "tls", "access"} <= settings.keys()
