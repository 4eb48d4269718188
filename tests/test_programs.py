"""Programs that tests start: installed where apt may, else named in the last lines of a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.paths import ROOT

MISSING = """
from tests.support import programs

programs.PACKAGES["noserver"] = "usr/sbin/there-is-no-such-server"

def test_one(): programs.require("noserver")
def test_two(): programs.require("noserver")
def test_other(): pass
"""


@pytest.mark.parametrize(("variables", "code"), [({}, 0), ({"CI": "true"}, 1)])
def test_what_is_left_out_is_named_in_the_last_lines_and_fails_ci(
    tmp_path: Path, variables: dict[str, str], code: int
) -> None:
    file = tmp_path / "test_missing.py"
    file.write_text(MISSING)
    names = ("tests.conftest", "no:cacheprovider", "no:schemathesis")
    options = ("--rootdir", str(tmp_path), *(f"-p{name}" for name in names))
    done = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", *options, str(file)),
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k != "CI"}, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    named, command = done.stdout.splitlines()[-2:]
    assert named.startswith("LEFT OUT: 2 tests need noserver")
    assert command.endswith("-m tests.support.programs")


@pytest.mark.parametrize("fails", [False, True])
def test_a_missing_program_is_installed_without_starting_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    server, policy, log = (tmp_path / name for name in ("server", "policy", "log"))
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    does = "echo no network; exit 100" if fails else f"touch {server}"
    apt.write_text(f"#!/bin/sh\ntest -x {policy} && echo $* >> {log}\n{does}\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "_POLICY", policy)
    monkeypatch.setattr(programs, "PACKAGES", {"noserver": str(server)})
    monkeypatch.setattr(programs, "COMPILED", {})
    assert programs.main() == int(fails)
    asked = log.read_text().splitlines()
    assert asked[0] == "-qq update"
    assert fails or asked[1:] == ["-qq install --yes --no-install-recommends noserver"]
    assert ("apt-get -qq failed: no network" in capsys.readouterr().out) is fails
    assert not policy.exists()
    assert fails or programs.main() == 0, "nothing is installed twice"
    assert len(log.read_text().splitlines()) == len(asked)
