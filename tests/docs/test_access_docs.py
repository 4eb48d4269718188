"""What the page about access says, tried: its commands, and every figure in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pexpolicy.config import secrets as password_hash
from tests.support import certificates as made
from tests.support import doc_pages, live_server
from tests.support.waiting import HANG_S


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of the page, in a folder."""
    tools = str(Path(sys.executable).parent)
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={"PATH": os.pathsep.join([tools, os.environ["PATH"]])},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def commands(program: str) -> list[str]:
    return [
        text
        for language, text in doc_pages.blocks(doc_pages.ACCESS)
        if language == "sh"
        if text.startswith(program)
    ]


def test_both_passwords_of_a_change_are_good_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "password.txt").write_text("the old one\n")
    (tmp_path / "new-password.txt").write_text("the new one\n")
    passwords = (b"the old one", b"the new one")
    for command, password in zip(commands("pexpolicy hash-password"), passwords, strict=True):
        written = shell(command, tmp_path).stdout.strip()
        assert password_hash.PasswordHash.parse(written).matches(password)


def test_the_server_of_the_page_answers_as_the_page_asks(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    made.write_pair(tmp_path)
    made.write_authority(tmp_path)
    (tmp_path / "password.txt").write_text("a password\n")
    text = next(t for t in doc_pages.configurations(doc_pages.ACCESS) if "host =" in t)
    text = text.replace('"10.44.0.0/16"', '"127.0.0.1"')
    (tmp_path / "config.toml").write_text(f'{text}\n[audit]\npath = "audit.jsonl"\n')
    (command,) = commands("curl")
    with live_server.running(tmp_path / "config.toml") as server:
        said = shell(command.replace("8443", str(server.port)), tmp_path)
    assert (said.returncode, said.stdout) == (0, "ok\n"), said.stderr
