"""What pages show of commands, tried: errors, and each command of the tables about explain and
replay.
"""

import json
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
service_tag = ""
"""
EXPLAIN, REPLAY = (
    [row[0] for row in doc_pages.rows(page) if row[0].startswith(f"pexpolicy {name}")]
    for page, name in ((doc_pages.OPERATIONS, "explain"), (doc_pages.DOCS / "replay.md", "replay"))
)
TASKS = [
    pytest.param(page, command, id=f"{page.stem}-{number}")
    for name in ("let-guests-wait", "ask-external-callers-for-a-pin", "serve-several-platforms")
    for page in (doc_pages.DOCS / f"tasks/{name}.md",)
    for language, text in doc_pages.blocks(page)
    if language == "sh"
    for number, command in enumerate(text.splitlines())
]
SUPPORT = 'Level="INFO" Name="support.externalpolicy" URL="https://policy.example.com{}"\n'


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two configurations, the audit of calls, and a support log."""
    made = tmp_path_factory.mktemp("recorded")
    (made / "config.toml").write_text(CONFIG)
    (made / "next.toml").write_text(CONFIG.replace("Meeting 07", "Seven"))
    target = f"{wire.SERVICE}?local_alias=meet07"
    (made / "support_log").write_text(SUPPORT.format(target))
    with live_server.running(made / "config.toml") as server:
        for _ in range(2):
            server.ask(target)
        (made / "line.json").write_text(json.dumps(server.last_line()))
    return made


@pytest.fixture
def folder(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(recorded)
    return recorded


@pytest.mark.parametrize("command", EXPLAIN)
def test_a_command_of_the_page_explains_a_call(folder: Path, command: str) -> None:
    line = (folder / "line.json").read_text()
    decision_id = json.loads(line)["decision_id"]
    words = shlex.split(command.replace("DECISION_ID", decision_id).partition(" < ")[0])
    done = CliRunner().invoke(main, words[1:], input=line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert ("meet07" if "media_location" in command else "Meeting 07") in done.stdout


@pytest.mark.parametrize(("page", "command"), TASKS)
def test_a_call_is_decided_by_what_the_page_configures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(doc_pages.block(page, "toml"))
    words = [*shlex.split(command)[1:], "--json"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["decided_by"].startswith(("rooms", "rules"))


@pytest.mark.parametrize("command", REPLAY)
def test_a_command_of_the_page_finds_the_change(folder: Path, command: str) -> None:
    done = CliRunner().invoke(main, shlex.split(command)[1:], catch_exceptions=False)
    assert done.exit_code == (0 if "--only" in command else 1), done.output
    if "--json" in command:
        assert json.loads(done.stdout)
    elif "--only" not in command:
        assert "Meeting 07" in done.stdout
        assert "Seven" in done.stdout
    if ".html" in command:
        assert "Seven" in (folder / "page.html").read_text()


def test_an_error_is_printed_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text("[server]\nprot = 8001\n")
    section = doc_pages.OPERATIONS.read_text().partition("## The command line\n")[2]
    shown = section.partition("```text\n")[2].partition("```")[0]
    assert CliRunner().invoke(main, ["check"]).stderr == shown
