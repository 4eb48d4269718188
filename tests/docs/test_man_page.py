"""The manual page is made from the help of the commands."""

import os
import shutil
import subprocess

import pytest

from docs.generate_man_page import PAGE, man_page
from pexpolicy.cli.main import COMMANDS
from tests.support.waiting import HANG_S


def test_the_manual_page_is_that_of_the_commands() -> None:
    assert PAGE.read_text() == man_page(), "run make reference"


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man")
def test_the_manual_page_is_shown_without_a_warning() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
        env=os.environ | {"MANWIDTH": "100", "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    for name in COMMANDS:
        assert f"pexpolicy {name}" in done.stdout
