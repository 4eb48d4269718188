"""The systemd units, checked by systemd's own tools."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pexpolicy.server.process import EXIT_TIMEOUT_S, SHUTDOWN_TIMEOUT_S
from tests.support import doc_pages, live_server
from tests.support.paths import ROOT

UNIT = ROOT / "deploy" / "systemd" / "pexpolicy.service"
EXPOSURE = 15
"""Maximum exposure in tenths; `systemd-analyze security` rates an unrestricted service 100."""


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


UNITS = [path.name for path in sorted(UNIT.parent.glob("*.service"))]


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit with the path of the program on this machine, because systemd looks it up."""
    path = tmp_path / str(request.param)
    command = Path(sys.executable).with_name("pexpolicy")
    path.write_text(
        UNIT.with_name(request.param)
        .read_text()
        .replace("/opt/pexpolicy/bin/pexpolicy", str(command))
    )
    return path


def test_systemd_understands_every_line(unit: Path) -> None:
    result = analyze("verify", str(unit))
    # Other units of the machine may have faults of their own.
    faults = [line for line in result.stdout.splitlines() if "pexpolicy" in line]
    assert (result.returncode, faults) == (0, [])


def test_the_service_has_few_privileges(unit: Path) -> None:
    result = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(unit))
    assert result.returncode == 0, result.stdout


def test_the_server_sends_the_notifications_that_the_unit_waits_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(live_server.START_TIMEOUT_S)
        systemd.bind(str(tmp_path / "notify"))
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        messages = []
        with live_server.running(live_server.SHIPPED, environment=variables):
            messages += [systemd.recv(100).decode() for _ in range(3)]
        while messages[-1] != "STOPPING=1":
            messages.append(systemd.recv(100).decode())
    assert set(messages) == {"READY=1", "WATCHDOG=1", "STOPPING=1"}
    assert messages.count("READY=1") == 1


def test_a_runaway_server_cannot_exhaust_the_machine() -> None:
    limits = dict(
        re.findall(r"^(MemoryMax|TasksMax|LimitCORE)=(\w+)$", UNIT.read_text(), re.MULTILINE)
    )
    assert limits == {"MemoryMax": "1G", "TasksMax": "512", "LimitCORE": "0"}


def test_a_drop_in_for_keys_leaves_the_unit_valid(unit: Path) -> None:
    page = UNIT.with_name("README.md")
    drop_ins = [text for language, text in doc_pages.blocks(page) if language == "ini"]
    assert len(drop_ins) == 1
    for drop_in in drop_ins:
        unit.write_text(unit.read_text() + drop_in)
    result = analyze("verify", str(unit))
    faults = [line for line in result.stdout.splitlines() if "pexpolicy" in line]
    assert (result.returncode, faults) == (0, [])


def test_the_unit_gives_it_the_time_that_it_needs_to_stop() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)s$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) > SHUTDOWN_TIMEOUT_S + EXIT_TIMEOUT_S
