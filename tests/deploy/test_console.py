"""The console as a service, in a container and in a cluster, and the configuration for it."""

import copy
import re
import shlex
import signal
import stat
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from click.testing import CliRunner

from pexpolicy.access.warnings import console_exposure
from pexpolicy.cli.main import main
from pexpolicy.config.schema.console import ConsoleTable
from tests.support import certificates, doc_pages, forked
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
SERVER_UNIT = DEPLOY / "systemd" / "pexpolicy.service"
UNIT = DEPLOY / "systemd" / "pexpolicy-console.service"
ONLY_OF_SERVERS = {"Type", "WatchdogSec", "ExecStart", "ExecReload", "LoadCredential"}


def documented() -> list[dict[str, Any]]:
    """Return the tables that the section of the page lists: those for all, and those for TLS."""
    text = doc_pages.DEPLOYMENT.read_text()
    section = text[text.index("\n## The console") : text.index("\n## A load balancer")]
    return [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", section, re.DOTALL)]


def merged(base: Any, patch: Any) -> Any:
    """Apply a strategic merge patch; entries of lists are matched by their name or mount path."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{k: merged(base.get(k), value) for k, value in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list) and isinstance(patch[0], dict):
        result, key = copy.deepcopy(base), "mountPath" if "mountPath" in patch[0] else "name"
        for entry in patch:
            place = next((n for n, one in enumerate(result) if one[key] == entry[key]), None)
            if place is None:
                result.append(entry)
            else:
                result[place] = merged(result[place], entry)
        return result
    return patch


def settings(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_the_unit_shares_user_and_audit_with_the_server_and_its_restrictions() -> None:
    server, console = settings(SERVER_UNIT.read_text()), settings(UNIT.read_text())
    assert console["User"] == SERVER_UNIT.stem  # the name of a dynamic user that is not named
    assert console["DynamicUser"] == "yes"
    assert console["LogsDirectory"] == server["LogsDirectory"]
    restrictions = {name for name in server if name.startswith(("Protect", "Restrict", "System"))}
    assert {name: console.get(name) for name in restrictions} == {
        name: server[name] for name in restrictions
    }
    assert ONLY_OF_SERVERS.isdisjoint(set(console) - {"ExecStart"})


def test_the_folders_of_the_configuration_are_those_of_unit_image_and_volumes() -> None:
    tables, _ = documented()
    audit, folder = Path(tables["audit"]["path"]).parent, tables["console"]["folder"]
    unit = settings(UNIT.read_text())
    assert f"/var/log/{unit['LogsDirectory']}" == str(audit)
    assert f"/var/lib/{unit['StateDirectory'].split()[-1]}" == folder
    (made,) = re.findall(
        r"install -d -o 10001 -g 10001 -m 0700 (.+)", (ROOT / "Dockerfile").read_text()
    )
    assert {str(audit), folder} <= set(made.split())
    services = yaml.safe_load((DEPLOY / "console" / "compose.yaml").read_text())["services"]
    assert f"audit:{audit}" in services["pexpolicy"]["volumes"]
    assert {f"audit:{audit}:ro", f"console:{folder}"} <= set(services["console"]["volumes"])
    patch = yaml.safe_load((DEPLOY / "kubernetes/console/deployment.yaml").read_text())
    _, console = patch["spec"]["template"]["spec"]["containers"]
    assert {str(audit), folder} <= {one["mountPath"] for one in console["volumeMounts"]}


def test_the_unit_starts_with_the_configuration_that_init_writes(tmp_path: Path) -> None:
    folder, found = tmp_path / "pexpolicy", settings(UNIT.read_text())
    options = ("--yes", str(folder), "--systemd")
    made = CliRunner().invoke(main, ["init", *options], catch_exceptions=False)
    assert made.exit_code == 0, made.output
    config = folder / "config.toml"
    text = config.read_text()
    # The folders that systemd makes, and the files of the machine, below another root.
    (tmp_path / "var/log/pexpolicy").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir(parents=True)
    console = f'[console]\nport = 0\nfolder = "/var/lib/{found["StateDirectory"].split()[-1]}"\n'
    config.write_text((text + console).replace('"/var/', f'"{tmp_path}/var/'))
    program, *arguments = shlex.split(found["ExecStart"])
    assert program == "/opt/pexpolicy/bin/pexpolicy"
    shown = [argument.replace("/etc/pexpolicy", str(folder)) for argument in arguments]
    with forked.Process(*shown, cwd=Path("/")) as process:
        try:
            first = process.stderr.readline()
            assert first.startswith("console: http://127.0.0.1:"), first + process.stderr.read()
            process.stderr.readline()
            made_in = tmp_path / "var/lib" / found["StateDirectory"].split()[-1]
            assert stat.S_IMODE(made_in.stat().st_mode) == 0o700
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
    assert (process.wait(), said) == (0, "")


def test_the_container_of_the_console_is_as_restricted_as_that_of_the_server() -> None:
    (server,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    added = yaml.safe_load((DEPLOY / "console" / "compose.yaml").read_text())
    console = added["services"]["console"]
    for name in (
        "image",
        "environment",
        "read_only",
        "tmpfs",
        "cap_drop",
        "security_opt",
        "ulimits",
    ):
        assert console[name] == server[name], name
    assert console["mem_limit"] == console["memswap_limit"]
    used = {
        volume.partition(":")[0] for one in added["services"].values() for volume in one["volumes"]
    }
    assert {name for name in used if "/" not in name} == {*added["volumes"], "state"}
    (port,) = added["services"]["pexpolicy"]["ports"]
    assert port == f"127.0.0.1:{ConsoleTable().port}:{ConsoleTable().port}"


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_the_pods_with_a_console_match_the_schema(version: str) -> None:
    base = yaml.safe_load((DEPLOY / "kubernetes/deployment.yaml").read_text())
    patch = yaml.safe_load((DEPLOY / "kubernetes/console/deployment.yaml").read_text())
    deployment = merged(base, patch)
    kubernetes_validate.validate(deployment, version, strict=True)
    pod = deployment["spec"]["template"]["spec"]
    server, console = pod["containers"]
    assert console["securityContext"] == server["securityContext"]
    assert console["image"] == server["image"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    component = yaml.safe_load((DEPLOY / "kubernetes/console/kustomization.yaml").read_text())
    assert component["patches"] == [{"path": "deployment.yaml"}]


@pytest.mark.parametrize("kind", ["service", "container", "cluster"])
def test_the_configuration_of_the_page_is_valid(kind: str, tmp_path: Path) -> None:
    tables, for_tls = documented()
    tables = merged(tables, for_tls) if kind == "container" else tables
    base = DEPLOY / ("kubernetes/config.toml" if kind == "cluster" else "config.toml")
    text = base.read_text().replace("/run/secrets/pexpolicy-tls", "/run/secrets/pexpolicy")
    for name, table in tables.items():
        lines = [f"{key} = {value!r}" for key, value in table.items() if value is not True]
        lines += [f"{key} = true" for key, value in table.items() if value is True]
        text += "\n".join([f"\n[{name}]", *lines, ""])
    text = text.replace("/run/secrets/pexpolicy/", "").replace("/var/log/pexpolicy/", "")
    certificates.write_pair(tmp_path)
    (tmp_path / "server.pem").rename(tmp_path / "tls.crt")
    (tmp_path / "server.key").rename(tmp_path / "tls.key")
    for secret in ("password", "token"):
        (tmp_path / secret).write_text("a secret of some length\n")
    config = tmp_path / "config.toml"
    config.write_text(text)
    environment = {"PATH": "/usr/bin:/bin", "PEXPOLICY_PASSWORD": "a secret of some length"}
    said = forked.run("check", "--config", str(config), env=environment, merged=True)
    assert said.returncode == 0, said.stdout
    assert not console_exposure(ConsoleTable.model_validate(tables["console"]))
