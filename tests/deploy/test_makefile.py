"""The targets of the Makefiles, and processes that ``make run`` starts."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import changed
from tests.support.paths import ROOT
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow

TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
TARGETS = set(TARGET.findall((ROOT / "Makefile").read_text()))
EXPERIMENTS = set(TARGET.findall((ROOT / "lab/Makefile").read_text()))
NAMED = re.compile(r"(?:`|^|^ *- run: )make (-C lab )?([a-z][a-z-]*)\b(?! [a-z])", re.MULTILINE)
"""A target at the begin of code or of a line."""


def consoles(marker: str) -> list[int]:
    """Return the processes whose command line has a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if marker in words and "console" in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("arguments", ["--help", "--no-such-option", "--port {taken}"])
def test_no_console_outlives_the_server_of_make_run(tmp_path: Path, arguments: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[console]\nport = {free_port()}\nfolder = "{tmp_path}/console"\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = arguments.format(taken=taken.getsockname()[1])
        # The commands only: an environment that is out of date would be installed again.
        make = ["make", "-n", "run", f"VENV={sys.prefix}", f"CONFIG={config}", f"ARGS={options}"]
        printed = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        recipe = printed[printed.index(f"{sys.prefix}/bin/pexpolicy console") :]
        done = subprocess.run(
            ["sh", "-c", recipe.partition("make[")[0]],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=HANG_S,
        )
    try:
        wait_until(lambda: not consoles(str(config)))
    finally:
        for process in consoles(str(config)):
            os.kill(process, signal.SIGKILL)
    assert (done.returncode == 0) is (arguments == "--help")


def test_targets_that_pages_and_workflows_name_exist() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.md", "*.yml", ".ci/run", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wrong = []
    for name in listed.splitlines():
        path = ROOT / name
        text = path.read_text() if path.is_file() else ""
        for where, target in NAMED.findall(text):
            if target not in (EXPERIMENTS if where else TARGETS):
                wrong.append(f"{name}: make {where}{target}")
    assert wrong == []


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("pexpolicy/chain/chain.py", "tests/chain"),
        ("pexpolicy/server/http/app.py", "tests/server"),
        ("pexpolicy/errors.py", "tests/test_errors.py"),
        ("plugins/rooms/src/pexpolicy_rooms/plugin.py", "plugins/rooms/tests"),
        ("console/src/pexpolicy_console/app.py", "console/tests"),
        ("docs/audit.md", "tests/docs"),
        ("lab/reloads/breakage.py", "lab/reloads"),
        ("tests/support/changed.py", "tests/deploy/test_makefile.py"),
    ],
)
def test_the_tests_of_a_changed_file_are_selected(file: str, tests: str) -> None:
    assert tests in changed.selected([file])
