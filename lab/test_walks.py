"""A call, a reload, a plugin and ``explain`` enter few files of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.walks import WALKS
from tests.support.paths import ROOT


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_enters_few_files(name: str) -> None:
    command = [sys.executable, "-m", "lab.walks", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"{name}: "), done.stderr
    assert done.returncode == 0, done.stdout
