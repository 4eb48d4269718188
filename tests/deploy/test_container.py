"""The container: image, compose file and first configuration are in step."""

import subprocess
import tomllib
from typing import Any

import yaml

from pexpolicy.server.shutdown import EXIT_TIMEOUT_S, SHUTDOWN_TIMEOUT_S
from tests.support.live_server import ROOT

IMAGE = (ROOT / "Dockerfile").read_text().splitlines()
SETTINGS = tomllib.loads((ROOT / "deploy" / "config.toml").read_text())


def service() -> Any:
    (only,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    return only


def test_compose_mounts_the_configuration_where_the_image_looks_for_it() -> None:
    (place,) = (line.partition("PEXPOLICY_CONFIG=")[2] for line in IMAGE if "_CONFIG=" in line)
    assert service()["volumes"] == [f"./deploy/config.toml:{place}:ro"]


def test_compose_hands_over_the_password_that_the_configuration_asks_for() -> None:
    assert list(service()["environment"]) == [SETTINGS["auth"]["password_env"]]


def test_the_port_is_that_of_the_image() -> None:
    (exposed,) = (line.split()[1] for line in IMAGE if line.startswith("EXPOSE"))
    assert [port.partition(":")[2] for port in service()["ports"]] == [exposed]


def test_the_container_may_do_little() -> None:
    assert service()["read_only"] is True
    assert service()["tmpfs"] == ["/tmp"]  # noqa: S108 - the only place that can be written to
    assert service()["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service()["security_opt"]


def test_it_is_given_the_time_that_it_needs_to_stop() -> None:
    seconds = int(service()["stop_grace_period"].removesuffix("s"))
    assert seconds > SHUTDOWN_TIMEOUT_S + EXIT_TIMEOUT_S


def test_the_installer_says_how_it_is_called() -> None:
    for arguments in ((), ("packages",), ("packages", "a", "b")):
        command = (ROOT / "deploy" / "install", *arguments)
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert said.returncode == 2
        assert said.stderr == "usage: deploy/install dependencies|packages DIRECTORY\n"
