"""What the page about replays says, tried: each command of its table."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.support import doc_pages, live_server, wire

PAGE = doc_pages.DOCS / "replay.md"
CONFIG = """
[audit]
path = "audit.jsonl"
[plugins.rooms.settings.rooms.meet07]
name = "Meeting 07"
service_tag = ""
"""
ROWS = {row[0]: row[1] for row in doc_pages.rows(PAGE) if row[0].startswith("pexpolicy ")}
SUPPORT = 'Level="INFO" Name="support.externalpolicy" URL="https://policy.example.com{}"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two configurations, the audit of calls, and a support log."""
    made = tmp_path_factory.mktemp("replayed")
    (made / "config.toml").write_text(CONFIG)
    (made / "next.toml").write_text(CONFIG.replace("Meeting 07", "Seven"))
    target = f"{wire.SERVICE}?local_alias=meet07"
    (made / "support_log").write_text(SUPPORT.format(target))
    with live_server.running(made / "config.toml") as server:
        for _ in range(2):
            server.ask(target)
    return made


@pytest.mark.parametrize("command", ROWS)
def test_a_command_of_the_page_finds_the_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, shlex.split(command)[1:], catch_exceptions=False)
    assert done.exit_code == (0 if "--only" in command else 1), done.output
    if "--json" in command:
        keys = set(re.findall("`([a-z]+)`", ROWS[command]))
        assert keys <= json.loads(done.stdout).keys()
    elif "--only" not in command:
        assert "Meeting 07" in done.stdout
        assert "Seven" in done.stdout
    if ".html" in command:
        assert "Seven" in (folder / "page.html").read_text()
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "{" not in line)
