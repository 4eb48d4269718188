"""The container: consistency of image, compose file and first configuration."""

import tomllib
from typing import Any

import yaml

from pexpolicy.server.process import EXIT_TIMEOUT_S, SHUTDOWN_TIMEOUT_S
from tests.support.paths import ROOT

IMAGE = (ROOT / "Dockerfile").read_text().splitlines()
SETTINGS = tomllib.loads((ROOT / "deploy" / "config.toml").read_text())


def service() -> Any:
    (only,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    return only


def test_compose_mounts_the_configuration_where_the_image_looks_for_it() -> None:
    (path,) = (line.partition("PEXPOLICY_CONFIG=")[2] for line in IMAGE if "_CONFIG=" in line)
    (state,) = (line.partition("STATE_DIRECTORY=")[2] for line in IMAGE if "STATE_D" in line)
    mounted = [line.partition("  #")[0] for line in service()["volumes"]]
    assert mounted == [f"./deploy/config.toml:{path}:ro", f"state:{state}"]


def test_compose_passes_the_password_that_the_configuration_names() -> None:
    assert list(service()["environment"]) == [SETTINGS["auth"]["password_env"]]


def test_the_port_is_that_of_the_image() -> None:
    (exposed,) = (line.split()[1] for line in IMAGE if line.startswith("EXPOSE"))
    assert [port.partition(":")[2] for port in service()["ports"]] == [exposed]


def test_the_container_has_few_privileges() -> None:
    assert service()["read_only"] is True
    assert service()["tmpfs"] == ["/tmp:size=16m"]  # noqa: S108 - the only writable path
    assert service()["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service()["security_opt"]


def test_a_runaway_server_cannot_exhaust_the_machine() -> None:
    assert service()["mem_limit"] == service()["memswap_limit"] == "512m"
    assert service()["pids_limit"] == 512
    assert service()["ulimits"] == {"core": 0}
    assert service()["logging"]["options"].keys() == {"max-size", "max-file"}


def test_it_gets_the_time_that_it_needs_to_stop() -> None:
    seconds = int(service()["stop_grace_period"].removesuffix("s"))
    assert seconds > SHUTDOWN_TIMEOUT_S + EXIT_TIMEOUT_S
