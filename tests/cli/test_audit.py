"""`pexpolicy audit`, on what a server has written."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner, Result
from multidict import MultiDict

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.cli.audit.command import EVENTS, audit
from pexpolicy.cli.audit.filters import moment
from pexpolicy.config.schema.audit import AuditTable
from tests.audit.places import body
from tests.support import wire
from tests.support.fake_plugins import always, plugin, raises, serve, settings
from tests.support.fake_plugins import policy as made
from tests.support.paths import ROOT

Run = Callable[..., Result]
ROOM = {"name": "Room", "service_tag": "room", "service_type": "conference"}


@pytest.fixture
async def run(tmp_path: Path) -> Run:
    """The command, in a folder whose audit has a few calls."""
    classes = {
        "rooms": plugin(service_configuration=always(ROOM)),
        "broken": plugin(registration_alias=raises(ValueError("no"))),
    }
    async with serve(made(classes), tmp_path / "audit.jsonl") as server:
        await server.ask(
            f"{wire.SERVICE}?local_alias=sip:Engineering%40Example.com%3B%74ransport=tls"
        )
        await server.ask(f"{wire.SERVICE}?local_alias=sales&remote_alias=alice%40example.com")
        await server.ask(f"{wire.REGISTRATION}bob%40example.com")
        await server.ask("/nowhere")
    config = tmp_path / "config.toml"
    config.write_text('[audit]\npath = "audit.jsonl"\n')

    def call(*arguments: str) -> Result:
        here = () if "--file" in arguments else ("-c", str(config))
        return CliRunner(env={"COLUMNS": "200"}).invoke(audit, [*arguments, *here])

    return call


def found(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "aliases"),
    [
        (["--alias", "engineering@example.com"], ["sip:Engineering@Example.com;transport=tls"]),
        (
            ["--alias", "sip:ENGINEERING@example.com:5060"],
            ["sip:Engineering@Example.com;transport=tls"],
        ),
        (["--alias", "alice@example.com"], ["sales"]),
        (["--alias", "bob@example.com"], ["bob@example.com"]),
        (["--alias", "nobody"], []),
        (["--endpoint", "registration_alias"], ["bob@example.com"]),
        (["--outcome", "failed"], ["bob@example.com"]),
        (["--outcome", "failed", "--plugin", "rooms"], []),
        (["--plugin", "rooms", "SALES"], ["sales"]),
        (["--decided-by", "default"], ["bob@example.com"]),
        (["--action", "reject"], []),
        (["--event", "refused"], [None]),
        (["--until", "1h"], []),
        (["--since", "2020-01-01", "--endpoint", "registration_alias"], ["bob@example.com"]),
        (["--since", "2999-01-01T00:00Z"], []),
    ],
)
def test_grep_finds_what_fits(run: Run, options: list[str], aliases: list[str | None]) -> None:
    result = run("grep", "--json", *options)
    requests = [line.get("request", {}) for line in found(result)]
    assert [one.get("local_alias", one.get("alias")) for one in requests] == aliases
    assert result.exit_code == (0 if aliases else 1)
    assert run("grep", "--count", *options).stdout == f"{len(aliases)}\n"


def test_grep_shows_a_line_for_each_call(run: Run) -> None:
    (line,) = run("grep", "--alias", "sales").stdout.splitlines()
    assert "sales ← alice@example.com continue by rooms" in line


def test_a_line_says_what_went_wrong_and_from_where(run: Run) -> None:
    (failed,) = run("grep", "--alias", "bob@example.com").stdout.splitlines()
    assert "broken failed: ValueError: no (" in failed
    (refused,) = run("grep", "--event", "refused").stdout.splitlines()
    assert refused.endswith(" 404 unknown path /nowhere from 127.0.0.1")


def test_show_has_all_of_a_call_by_the_beginning_of_its_id(run: Run) -> None:
    (line,) = found(run("grep", "--json", "--alias", "bob@example.com"))
    for given in (line["decision_id"], line["decision_id"][:-4], line["decision_id"].upper()):
        said = run("show", given).stdout
        assert "bob@example.com" in said
        assert "broken" in said
        assert "ValueError: no" in said
        assert line["hash"] in said
    assert found(run("show", "--json", line["decision_id"])) == [line]
    assert run("show", "ffff").exit_code == 1


def test_several_calls_are_shown_with_a_line_between_them(run: Run) -> None:
    calls = found(run("grep", "--json", "--event", "decision"))
    prefix = calls[0]["decision_id"][:4]
    assert len(calls) == 3
    shown = run("show", prefix).stdout
    assert shown.count("\n\n") == 2
    assert not shown.startswith("\n")


def test_what_is_shown_is_not_folded_and_written_as_in_the_file(tmp_path: Path) -> None:
    event = {
        "timestamp": "2026-11-26T01:02:03Z",
        "event": "shadow",
        "decision_id": "01a2",
        "endpoint": "media_location",
        "steps": [{"plugin": "new", "outcome": "failed", "ms": 0.1, "detail": "word " * 40 + "."}],
        "reason": None,
        "differs": True,
        "seq": 7,
        "hash": "ab" * 32,
    }
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(event) + "\n")
    call = ["show", "01A2", "--file", str(path)]
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(audit, call).stdout.splitlines()
    rows = {row.partition(" ")[0]: row.partition(" ")[2].strip() for row in shown}
    assert rows["reason"] == "null"
    assert rows["differs"] == "true"
    assert rows["anchor"] == f"7:{event['hash']}"
    assert rows["new"].endswith("word " * 40 + ".")
    assert len(shown) == 10


@pytest.mark.parametrize(
    "arguments", [("show", ""), ("show", " "), ("tail", "-n", "-1"), ("grep", "--event", "refsed")]
)
def test_what_could_find_nothing_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_every_kind_of_line_on_the_page_can_be_looked_for() -> None:
    page = (ROOT / "docs" / "operations.md").read_text() + (ROOT / "docs" / "audit.md").read_text()
    assert set(re.findall(r'"event":"(\w+)"', page)) == set(EVENTS)


def test_tail_shows_the_last_lines(run: Run) -> None:
    assert len(run("tail").stdout.splitlines()) == 4
    assert [line["event"] for line in found(run("tail", "--json", "-n", "2"))] == [
        "decision",
        "refused",
    ]


@pytest.mark.parametrize("number", [1, 3, 5])
def test_tail_names_the_place_of_damage(run: Run, tmp_path: Path, number: int) -> None:
    path = tmp_path / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[: number - 1], b"garb\rge\n", *lines[number - 1 :]]))
    said = f"{path}:{number}: no line of an audit (7 bytes)"
    assert said in run("verify").stdout
    assert run("tail").stderr == f"{said}\n"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path}:5: " in run("tail", "-n", "1").stderr


def test_stats_count(run: Run) -> None:
    (figures,) = found(run("stats", "--json"))
    assert figures["lines"] == 4
    assert figures["events"] == {"decision": 3, "refused": 1}
    assert figures["refusals"] == {"unknown path": 1}
    assert {"plugin": "broken", "outcome": "failed", "count": 1} in figures["steps"]
    assert sum(one["count"] for one in figures["decisions"]) == 3
    assert "4 lines from" in run("stats").stdout


def test_verify_says_what_is_wrong_and_where(run: Run, tmp_path: Path) -> None:
    whole = run("verify")
    assert whole.exit_code == 0
    assert "4 lines, 1 chain, faults: 0" in whole.stdout
    path = tmp_path / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    end = json.loads(lines[-1])
    anchor = f"{end['seq']}:{end['hash']}"
    assert anchor in whole.stdout
    assert run("verify", "--anchor", anchor).exit_code == 0
    path.write_bytes(b"".join(lines[:-1]))
    assert run("verify").exit_code == 0
    cut = run("verify", "--anchor", anchor)
    assert cut.exit_code == 1
    assert f"there is no line 4 with the hash {end['hash']}" in cut.stdout
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    assert (
        f"{path}:2: chain {end['boot_id']}: missing before this line: 2\n" in run("verify").stdout
    )
    assert len(found(run("verify", "--json"))) == 1


def test_verify_says_where_a_chain_begins_whose_first_files_are_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    seal = HashChain()
    first, position = seal.lines([body(number) for number in range(10)])
    seal.advance_to(position)
    seal.introduce()
    for written, is_told in ((first, False), (seal.line(body(10)), True)):
        path.write_bytes(written)
        result = CliRunner().invoke(audit, ["verify", "--file", str(path)])
        assert result.exit_code == 0
        told = ", begins at 11: the lines up to 10 are elsewhere\n"
        assert (told in result.stdout) is is_told
        assert ("begins at" in result.stdout) is is_told


def test_garbage_is_named_and_read_past(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"\x00\xff garbage\n" + path.read_bytes() + b'{"timestamp":"torn')
    result = run("grep", "--event", "decision", "--json")
    assert len(found(result)) == 3
    assert f"{path}:1: no line of an audit" in result.stderr
    assert f"{path}:6: a torn line" in result.stderr
    assert run("verify").exit_code == 1
    (figures,) = found(run("stats", "--json"))
    assert figures["damaged"] == 2


def test_a_hashed_alias_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key\n")
    table = {"personal": "hashed", "key_file": str(tmp_path / "key")}
    config = tmp_path / "config.toml"
    config.write_text(
        f"[audit]\npath = 'audit.jsonl'\n[privacy]\npersonal = 'hashed'\n"
        f"key_file = '{tmp_path / 'key'}'\n"
    )
    personal = redaction_of(settings(privacy=table))
    facts, _ = personal.request("service_configuration", MultiDict(local_alias="sip:a@b.c"), "")
    line = {"timestamp": "2026-11-26T01:02:03Z", "event": "decision", "request": facts}
    (tmp_path / "audit.jsonl").write_text(json.dumps(line) + "\n")
    result = CliRunner().invoke(audit, ["grep", "--count", "--alias", "A@b.c", "-c", str(config)])
    assert result.stdout == "1\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("grep", "--since", "yesterday"),
        ("grep", "--since", "99999999999d"),
        ("grep", "--since", "999999999999999999999999999d"),
        ("grep", "--until", "0001-01-01T00:00+14:00"),
        ("verify", "--anchor", "5"),
        ("stats", "--until", "noon"),
    ],
)
def test_what_is_not_understood_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "write " in result.stderr or "is no " in result.stderr


def test_a_public_key_that_is_none_is_told_by_what_makes_one(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    result = run("verify", "--public-key", str(path))
    assert result.exit_code == 2
    assert result.stderr == (
        f"{path} is no public key in PEM; make it of the one that signs: "
        "openssl pkey -in sign.pem -pubout -out public.pem\n"
    )


def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    for text, said in (("", "standard output"), ('[audit]\npath = "a"', "there is no file")):
        config.write_text(text)
        for command in ("tail", "stats", "verify", "grep"):
            result = CliRunner().invoke(audit, [command, "-c", str(config)])
            assert result.exit_code == 2
            assert said in result.stderr


def test_a_time_may_be_so_long_ago_or_a_date() -> None:
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert moment("90s", now) == now - timedelta(seconds=90)
    assert moment("1.5h", now) == now - timedelta(minutes=90)
    assert moment("2d", now) == now - timedelta(days=2)
    assert moment("2026-11-26T09:00+02:00", now) == now.replace(hour=7)
    assert moment("2026-11-26", now).astimezone().hour == 0


def test_every_command_and_each_option_of_the_page_exists() -> None:
    page = (ROOT / "docs" / "audit.md").read_text()
    named = set(re.findall(r"pexpolicy audit (\w+)", page))
    assert named == set(audit.commands)
    options = {
        option
        for command in audit.commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    assert set(re.findall(r"(?<!\w)--[a-z][a-z-]+", page)) <= {*options, "--only"}


@pytest.mark.parametrize("level", get_args(AuditTable.model_fields["level"].annotation))
def test_every_level_is_on_the_page(level: str) -> None:
    assert f"\n| `{level}` | " in (ROOT / "docs" / "audit.md").read_text()
