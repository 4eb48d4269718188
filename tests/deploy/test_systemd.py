"""The unit for systemd, as its own tools judge it."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pexpolicy.server.shutdown import EXIT_TIMEOUT_S, SHUTDOWN_TIMEOUT_S
from tests.support import live_server
from tests.support.live_server import ROOT

UNIT = ROOT / "deploy" / "systemd" / "pexpolicy.service"
EXPOSURE = 15
"""Tenths of what `systemd-analyze security` gives to a service that may do all: 100."""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The unit with the program where it is on this machine: its command is looked for."""
    unit = tmp_path / "pexpolicy.service"
    command = Path(sys.executable).with_name("pexpolicy")
    unit.write_text(UNIT.read_text().replace("/opt/pexpolicy/bin/pexpolicy", str(command)))
    return unit


def test_systemd_understands_every_line(here: Path) -> None:
    said = analyze("verify", str(here))
    # Of units that the machine has besides, nothing is asked here.
    ours = [line for line in said.stdout.splitlines() if "pexpolicy" in line]
    assert (said.returncode, ours) == (0, [])


def test_systemd_would_see_a_slip(here: Path) -> None:
    here.write_text(here.read_text().replace("ProtectClock", "ProtectClocks"))
    assert "ProtectClocks" in analyze("verify", str(here)).stdout


def test_the_service_may_do_little(here: Path) -> None:
    said = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(here))
    assert said.returncode == 0, said.stdout


def test_the_commands_of_the_unit_are_ours() -> None:
    commands = re.findall(
        r"^Exec\w+=/opt/pexpolicy/bin/pexpolicy (\w+)", UNIT.read_text(), re.MULTILINE
    )
    assert commands == ["serve", "reload"]
    for command in commands:
        said = subprocess.run(
            [sys.executable, "-m", "pexpolicy", command, "--help"], capture_output=True, check=False
        )
        assert said.returncode == 0, command


def test_the_server_tells_systemd_what_the_unit_waits_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(live_server.START)
        systemd.bind(str(tmp_path / "notify"))
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        said = []
        with live_server.running(live_server.SHIPPED, environment=told):
            said += [systemd.recv(100).decode() for _ in range(3)]
        while said[-1] != "STOPPING=1":
            said.append(systemd.recv(100).decode())
    assert set(said) == {"READY=1", "WATCHDOG=1", "STOPPING=1"}
    assert said.count("READY=1") == 1


def test_the_unit_gives_it_the_time_that_it_needs_to_stop() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)s$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) > SHUTDOWN_TIMEOUT_S + EXIT_TIMEOUT_S
