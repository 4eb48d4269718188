"""What the page about access says, tried: its commands, and every figure in it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pexpolicy.access import certificates, credentials, refusals
from pexpolicy.access.certificates import WARNING_DAYS
from pexpolicy.config import credentials as password_hash
from tests.support import certificates as made
from tests.support import doc_pages, live_server
from tests.support.waiting import HANG_S

PAGE = doc_pages.ACCESS.read_text()


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
    for command in commands("pexpolicy hash-password"):
        assert shell(command, tmp_path).stderr == ""
    for name, password in (("first", b"the old one"), ("second", b"the new one")):
        written = (tmp_path / f"{name}.hash").read_text()
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


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    assert f"ln={password_hash.COST},r=8,p=1" in PAGE
    for said in (
        f"answered after {credentials.FIRST_DELAY_S} s",
        f"at most {credentials.MAX_DELAY_S:.0f} s",
        "until ten minutes without",
    ):
        assert said in PAGE
    renewal = (doc_pages.DOCS / "tasks" / "renew-a-certificate.md").read_text()
    assert "checks them once a second" in renewal
    assert f"From {WARNING_DAYS:.0f} days before" in renewal
    assert credentials.RESET_AFTER_S == 600
    assert certificates.CERTIFICATE_POLL_INTERVAL_S == 1.0
    assert credentials.MAX_RUNNING * 128 * 8 * 2**password_hash.COST == 64 * 2**20


def test_every_reason_of_a_refusal_is_explained() -> None:
    reasons = {
        value
        for name, value in vars(refusals).items()
        if re.fullmatch(r"[A-Z_]+", name) and isinstance(value, str)
    }
    assert len(reasons) > 8
    explained = {row[0] for row in doc_pages.rows(doc_pages.AUDIT_LINES)}
    assert reasons <= explained
