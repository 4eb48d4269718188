"""The commands for tokens and meetings, with a running server."""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from tests.support import live_server
from tests.support.server_process import free_port

CONFIG = """
[server]
state_dir = "state"
workers = 2
[admin]
port = {port}
[audit]
path = "audit.jsonl"
[plugins.meetings.settings.tenants.acme]
aliases = ["8*@acme.example.com"]
"""
TIMES = ("2030-06-01T10:00:00+02:00", "2030-06-01T11:00:00+02:00")
Run = Callable[..., Result]


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["meetings", *arguments, "-c", str(config)])


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Run]:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=free_port()))
    with live_server.running(config, own_admin_port=True):
        yield lambda *arguments: run(config, *arguments)


def test_token_is_printed_with_the_line_of_its_hash(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=0))
    found = run(config, "token", "acme", "--name", "crm")
    token, line = found.stdout.splitlines()[0], found.stdout.splitlines()[-1]
    (table,) = tomllib.loads(line)["tokens"]
    assert table["sha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert (table["name"], len(table["scopes"]), len(token)) == ("crm", 4, 43)
    config.write_text(config.read_text() + line)
    assert CliRunner().invoke(main, ["check", "-c", str(config)]).exit_code == 0
    further = run(config, "token", "acme", "--name", "erp").stdout
    assert "Add to tokens" in further
    assert further.splitlines()[0] != token
    assert (
        "no [plugins.meetings.settings.tenants.none]"
        in run(config, "token", "none", "--name", "x").stderr
    )
    assert run(config, "token", "acme", "--name", "a b").exit_code == 2


def test_meeting_is_added_shown_and_ended(ask: Run, tmp_path: Path) -> None:
    made: dict[str, Any] = json.loads(ask("add", "acme", "Review", *TIMES, "--json").stdout)
    assert (made["title"], made["state"]) == ("Review", "scheduled")
    shown = ask("show", "acme", made["id"]).stdout
    assert made["host_pin"] in shown
    assert made["host_pin"] not in ask("list").stdout + ask("list", "acme", "--json").stdout
    assert json.loads(ask("list", "acme", "--json").stdout)["items"][0]["id"] == made["id"]
    assert json.loads(ask("end", "acme", made["id"], "--json").stdout)["state"] == "ended"
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    actions = [(one["action"], one["token"]) for one in lines if one["event"] == "change"]
    assert sorted(actions) == [
        ("meeting_created", "[admin]"),
        ("meeting_ended", "[admin]"),
        *[("pins_shown", "[admin]")] * 2,
    ]
    assert ask("add", "acme", "", *TIMES).exit_code == ask("list").exit_code == 0


def test_mistakes_are_named(ask: Run) -> None:
    for arguments, text in (
        (("add", "acme", "Review", *reversed(TIMES)), "end is not after the start"),
        (("show", "acme", "none"), "there is no such meeting"),
        (("list", "none"), "there is no such tenant"),
    ):
        found = ask(*arguments)
        assert found.exit_code == 1
        assert text in found.stderr
