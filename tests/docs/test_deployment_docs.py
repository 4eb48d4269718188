"""The commands of the deployment page, as far as a machine without a cluster can run them."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import doc_pages
from tests.support.paths import ROOT

TRIED = ("haproxy", "systemd-analyze")
COMMANDS = [
    line
    for language, text in doc_pages.blocks(doc_pages.DEPLOYMENT)
    if language == "sh"
    for line in text.splitlines()
]
"""Every command of the page."""


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith(TRIED)])
def test_a_command_that_is_shown_succeeds(command: str) -> None:
    program, *arguments = shlex.split(command)
    elsewhere = [argument for argument in arguments if argument.startswith("/etc/")]
    if shutil.which(program) is None or not all(Path(file).exists() for file in elsewhere):
        pytest.skip(f"{program} is not installed")
    said = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout


def test_what_the_commands_name_is_there() -> None:
    named = [word for line in COMMANDS for word in shlex.split(line) if word.startswith("deploy/")]
    assert len(named) >= len(TRIED)
    assert all((ROOT / word).exists() for word in named)
