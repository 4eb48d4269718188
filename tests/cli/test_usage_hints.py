"""Command lines with a mistake: each message says what to write instead."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main

COMMAND_LINES: list[tuple[str, str]] = [
    ("--port 8000", "it is an option of serve: pexpolicy serve --port 8000"),
    ("-v", "-V prints the version"),
    ("check -f new.toml", "'-f'; write -c FILE"),
    ("check --stict", "did you mean '--strict'?"),
    ("explain", "Write for example: pexpolicy explain "),
    ("explain --alias board", "write the alias alone"),
    ("explain --from alice board", "write --set remote_alias=ALIAS"),
    ("explain --remote-address 10.0.0.1 board", "write --set remote_address=VALUE"),
    ("explain board alice", "the caller is named with --set remote_alias=alice"),
    ("explain local_alias=board", "pexpolicy explain ALIAS --set local_alias=board"),
    ("replay --file a.jsonl", "write the names of the files alone"),
    ("replay --against p.example.com", "the URL of a server begins with https:// or http://"),
    ("replay", "name the file that has it, as in: "),
    ("audit veryfy", "Did you mean 'verify'?"),
    ("audit search board", "Commands: grep, show, stats, tail, verify."),
    ("audit grep --last 1h", "write --since, and --until for the end"),
    ("audit grep -i board", "case does not matter: leave it out"),
    ("audit verify audit.jsonl", "; write --file audit.jsonl"),
    ("audit verify --since yesterday", "a chain is verified as a whole"),
    ("audit verify --key k.pem", "write --public-key"),
    ("audit tail 20", "; write --lines 20"),
    ("audit tail -20", "write -n and the number"),
    ("audit tail", "write --file FILE with the file that has it"),
    ("conformance http://127.0.0.1:1 --insecure", "--cacert FILE"),
    ("conformance --url http://127.0.0.1:1", "write the URL alone"),
    ("status http://127.0.0.1:9107", "; write --url http://127.0.0.1:9107"),
    ("status --port 9107", "write --url http://127.0.0.1:PORT"),
    ("reload --url http://127.0.0.1:1", "write -c FILE"),
    ("serve 8000", "; write --port 8000"),
    ("serve -p 8000", "write --port"),
    ("serve --daemon", "start it with systemd or in a container"),
    ("serve --reload", "a changed configuration is loaded anyway"),
    ("hash-password --password x", "the password is asked for"),
    ("export domains config.toml", "Commands: rooms, rules."),
    ("export rooms config.toml rooms.csv", "it prints: append > rooms.csv"),
    ("export rooms config.toml -o rooms.csv", "it prints: append > FILE"),
    ("import settings.py", "Commands: domains, rooms, router, rules, subnets."),
    ("import rooms config.toml --into rooms.csv", "not the name of a TOML file"),
    ("import subnets subnets.csv", "needs no import: name it as csv of the plugin locations"),
]


@pytest.mark.parametrize(("line", "words"), COMMAND_LINES)
def test_a_mistake_in_a_command_line_has_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").touch()
    Path("subnets.csv").write_text("subnet,location\n10.0.0.0/8,Oslo\n")
    said = CliRunner().invoke(main, line.split())
    assert said.exit_code in (2, 65)
    assert words in " ".join(said.stderr.split()), said.stderr


@pytest.mark.parametrize("line", ["check --fix", "audit grep --date x"])
def test_no_option_of_another_meaning_is_suggested(line: str) -> None:
    said = CliRunner().invoke(main, line.split()).stderr
    for wrong in ("--config", "--node"):
        assert wrong not in said
