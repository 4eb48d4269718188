"""Every sample in the page about testing, run as a reader would run it."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from pexpolicy import testing
from tests.support import live_server
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.slow

PAGE = (live_server.ROOT / "docs/testing.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICKER = {"PYTEST_ADDOPTS": "-p no:schemathesis -p no:hypothesispytest"}
"""Packages that take long to import, and that a reader has not installed."""
TIME = re.compile(r"\d+(\.\d+)? ?(ms|s)\b")


class Block(NamedTuple):
    """A sample: its language, and the file that its first line names where it is one."""

    language: str
    text: str

    @property
    def file(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")


BLOCKS = [Block(*found) for found in FENCE.findall(PAGE)]
FILES = [block for block in BLOCKS if block.language in ("python", "toml")]
CONSOLES = [block.text for block in BLOCKS if block.language == "console"]
TESTS = [block.file for block in FILES if block.file.startswith("test_")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page in a folder, with the package installed as its pyproject.toml says."""
    folder = tmp_path_factory.mktemp("doors")
    for block in FILES:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    installed = folder / f"{name}-{version}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    )
    points = project["entry-points"]["pexpolicy"]
    lines = ["[pexpolicy]", *(f"{name} = {target}" for name, target in points.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    return folder


def run(folder: Path, command: str, status: int = 0) -> tuple[int, str]:
    """A command behind one that ended with this status; its own status, and all that it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PEXPOLICY_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", f"(exit {status}); {command}"],
        cwd=folder,
        env={**kept, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "80", **QUICKER},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=HANG_S,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def without_times(text: str) -> list[str]:
    return [TIME.sub("SOME TIME", line.rstrip()) for line in text.splitlines()]


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    status, told = run(folder, f"pytest -q {' '.join(TESTS)}")
    assert status == 0, told
    cases = len(testing.load_cases(folder / "cases.toml"))
    written = sum(
        name.name.startswith("test_") and name.name != "test_case"
        for block in FILES
        if block.file in TESTS
        for name in ast.walk(ast.parse(block.text))
        if isinstance(name, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert f"{written + cases} passed" in told


@pytest.mark.parametrize("console", CONSOLES, ids=lambda text: text.partition("\n")[0][2:])
def test_the_commands_of_the_page_print_what_it_shows(folder: Path, console: str) -> None:
    status = 0
    for part in console.removeprefix("$ ").split("\n$ "):
        command, _, shown = part.partition("\n")
        status, told = run(folder, command, status)
        assert without_times(told) == without_times(shown)
