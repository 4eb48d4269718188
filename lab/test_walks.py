"""A call, a reload, a plugin and ``explain`` enter few files of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.walks import WALKS
from tests.support.paths import ROOT

ATTEMPTS = 3
"""Where a walk takes a second, a timer may be in both of its recordings."""


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_enters_few_files(name: str) -> None:
    command = [sys.executable, "-m", "lab.walks", name]
    found = ""
    for _ in range(ATTEMPTS):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found = done.stdout
        assert found.startswith(f"{name}: "), done.stderr
        if done.returncode == 0:
            return
    pytest.fail(found)
