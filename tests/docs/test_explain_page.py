"""What the page about operations says of `pexpolicy explain`, tried: each command of its table."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.support import doc_pages, live_server, wire

CONFIG = """
[audit]
path = "audit.jsonl"
[plugins.rooms.settings.rooms.meet07]
name = "Meeting 07"
"""
ROWS = {
    command: text
    for command, text in (row for row in doc_pages.rows(doc_pages.OPERATIONS) if len(row) == 2)
    if command.startswith("pexpolicy explain")
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, and the audit of a call."""
    made = tmp_path_factory.mktemp("explained")
    (made / "config.toml").write_text(CONFIG)
    with live_server.running(made / "config.toml") as server:
        server.ask(f"{wire.SERVICE}?local_alias=meet07")
        (made / "line.json").write_text(json.dumps(server.last_line()))
    return made


@pytest.mark.parametrize("command", ROWS)
def test_a_command_of_the_page_explains_a_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder)
    line = (folder / "line.json").read_text()
    decision_id = json.loads(line)["decision_id"]
    words = shlex.split(command.replace("DECISION_ID", decision_id[:8]).partition(" < ")[0])
    done = CliRunner().invoke(main, words[1:], input=line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "meet07" in done.stdout
    if "media_location" not in command:
        assert "Meeting 07" in done.stdout


def test_the_keys_of_the_page_are_those_of_the_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    command = next(command for command in ROWS if command.endswith("--json"))
    keys = set(
        re.findall(
            r"`([a-z_]+)`", doc_pages.OPERATIONS.read_text().split(command)[1].split("\n")[0]
        )
    )
    words = shlex.split(command)[1:]
    shown = json.loads(CliRunner().invoke(main, words, catch_exceptions=False).stdout)
    assert len(keys) > 10
    assert keys <= shown.keys()


def test_every_option_is_on_the_page() -> None:
    done = CliRunner().invoke(main, ["explain", "--help"])
    named = {word for word in done.stdout.split() if word.startswith("--")}
    shown = {word for command in ROWS for word in command.split() if word.startswith("--")}
    known_elsewhere = {"--config", "--show-secrets", "--traceback", "--help"}
    assert {word.rstrip(",.;") for word in named} - known_elsewhere == shown
