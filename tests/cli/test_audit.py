"""`pexpolicy audit`, on the audit file of a server."""

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner, Result
from multidict import MultiDict

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.cli.audit import audit
from pexpolicy.config.schema.audit import AuditTable
from pexpolicy.explain.request_forms import parse_moment
from tests.audit.places import body, chained
from tests.support import wire
from tests.support.fake_plugins import always, plugin, raises, serve, settings
from tests.support.fake_plugins import policy as made
from tests.support.paths import ROOT

Run = Callable[..., Result]
ROOM = {"name": "Room", "service_tag": "room", "service_type": "conference"}


@pytest.fixture
async def run(tmp_path: Path) -> Run:
    """Return a function that runs the command in a folder with an audit of a few calls."""
    classes = {
        "rooms": plugin(service_configuration=always(ROOM)),
        "broken": plugin(registration_alias=raises(ValueError("no"))),
    }
    async with serve(made(classes), tmp_path / "audit.jsonl") as server:
        await server.ask(
            f"{wire.SERVICE}?local_alias=sip:Engineering%40Example.com%3B%74ransport=tls"
        )
        await server.ask(
            f"{wire.SERVICE}?local_alias=sales&remote_alias=alice%40example.com&node_ip=10.44.7.5"
        )
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
        (["--alias", "Engineering"], ["sip:Engineering@Example.com;transport=tls"]),
        (["--alias", "alice"], ["sales"]),
        (["--alias", "sales@example.com"], []),
        (["--where", "node_ip=10.44.7.5"], ["sales"]),
        (["--where", "node_ip=10.44.7"], []),
        (["--where", "peer=127.0.0.1", "--where", "event=refused"], [None]),
        (["--where", "peer=10.44.7.5"], []),
        (["--since", "yesterday", "--where", "decided_by=default"], ["bob@example.com"]),
        (["--until", "yesterday"], []),
        (["--where", "endpoint=registration_alias"], ["bob@example.com"]),
        (["--where", "outcome=failed"], ["bob@example.com"]),
        (["--where", "outcome=failed", "--where", "plugin=rooms"], []),
        (["--where", "plugin=rooms", "SALES"], ["sales"]),
        (["--where", "decided_by=default"], ["bob@example.com"]),
        (["--where", "action=reject"], []),
        (["--where", "event=refused"], [None]),
        (["--until", "1h"], []),
        (["--since", "2020-01-01", "--where", "endpoint=registration_alias"], ["bob@example.com"]),
        (["--since", "2999-01-01T00:00Z"], []),
    ],
)
def test_grep_finds_what_fits(run: Run, options: list[str], aliases: list[str | None]) -> None:
    result = run("grep", "--json", *options)
    requests = [line.get("request", {}) for line in found(result)]
    assert [one.get("local_alias", one.get("alias")) for one in requests] == aliases
    assert result.exit_code == (0 if aliases else 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--alias", "sales"), "sales ← alice@example.com continue by rooms"),
        (("--alias", "bob@example.com"), "broken failed: ValueError: no ("),
        (("--where", "event=refused"), " status=404 peer=127.0.0.1 path=/nowhere"),
    ],
)
def test_grep_shows_a_line_for_each_call(run: Run, options: tuple[str, ...], said: str) -> None:
    (line,) = run("grep", *options).stdout.splitlines()
    assert said in line


WRONG_USAGE = """
tail -n -1
grep --where event
grep --since 2026-01-02 --until 2026-01-01
grep --since tomorrow
grep --since 25:00
grep --since 99999999999d
grep --since 999999999999999999999999999d
grep --until 0001-01-01T00:00+14:00
verify --anchor 5
verify --public-key FOLDER/config.toml
"""


@pytest.mark.parametrize("line", WRONG_USAGE.strip().splitlines())
def test_what_could_find_nothing_is_wrong_usage(run: Run, line: str, tmp_path: Path) -> None:
    result = run(*shlex.split(line.replace("FOLDER", str(tmp_path))))
    assert (result.exit_code, result.stdout, bool(result.stderr)) == (2, "", True)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("node_pi=10.44.7.5", "no line has a field 'node_pi'; did you mean 'node_ip'?"),
        ("caller=alice", "no line has a field 'caller'; there are action, "),
        ("node-ip=10.44.7.9", "did you mean 'node_ip'?"),
        ("node_ip=10.44.7.9", "no line matches (4 searched"),
    ],
)
def test_a_field_that_no_line_has_is_named(run: Run, where: str, said: str) -> None:
    assert said in run("grep", "--where", where).stderr


def test_tail_shows_the_last_lines(run: Run) -> None:
    assert len(run("tail").stdout.splitlines()) == 4
    assert "unknown path" in run("tail", "-n", "1").stdout


@pytest.mark.parametrize("number", [1, 3, 5])
def test_tail_names_the_place_of_damage(run: Run, tmp_path: Path, number: int) -> None:
    path = tmp_path / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[: number - 1], b"garb\rge\n", *lines[number - 1 :]]))
    message = f"{path}:{number}: not an audit line (7 bytes)"
    assert message in run("verify").stdout
    assert run("tail").stderr == f"{message}\n"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path}:5: " in run("tail", "-n", "1").stderr


FORGED: list[dict[str, Any]] = [
    {"request": 5},
    {"request": {"local_alias": [5, None, {}]}},
    {"steps": 5},
    {"steps": [5, {"plugin": []}, {"outcome": {}}]},
    {"ms": 10**400},
    {"ms": "soon"},
    {"status": None, "decided_by": {}},
    {"endpoint": None},
    {"timestamp": [], "lost_count": "many"},
    {"timestamp": "2026-11-18T11:07:47"},
    {"steps": [{"changes": {"name": {}}, "fields": 5}, {"fields": 5}]},
]


@pytest.mark.parametrize("forged", FORGED, ids=str)
@pytest.mark.parametrize(
    "command",
    [
        ("tail",),
        ("grep", "--alias", "alice@example.com"),
        ("grep", "--where", "plugin=rooms", "--where", "outcome=decided"),
        ("grep", "alice"),
        ("grep", "--since", "2020-01-01"),
    ],
    ids=" ".join,
)
def test_a_line_that_another_program_wrote_ends_no_search(
    run: Run, tmp_path: Path, command: tuple[str, ...], forged: dict[str, Any]
) -> None:
    path = tmp_path / "audit.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(json.dumps(json.loads(first) | forged).encode() + b"\n" + b"".join(others))
    result = run(*command)
    assert result.exit_code == 0, result.exception
    assert "sales" in result.stdout


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
    fault, summary = found(run("verify", "--json"))
    assert fault["text"].endswith("missing before this line: 2")
    assert summary["faults"] == 1


def test_verify_says_where_a_chain_begins_whose_first_files_are_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    chain = HashChain()
    first = chained(chain, *(body(number) for number in range(10)))
    chain.starts_file = True
    for written, reported in ((first, False), (chained(chain, body(10)), True)):
        path.write_bytes(written)
        result = CliRunner().invoke(audit, ["verify", "--file", str(path)])
        assert result.exit_code == 0
        assert ("starts at line 11, as files were rotated" in result.stdout) is reported


def test_garbage_is_named_and_read_past(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"\x00\xff garbage\n" + path.read_bytes() + b'{"timestamp":"torn')
    result = run("grep", "--where", "event=decision", "--json")
    assert len(found(result)) == 3
    assert f"{path}:1: not an audit line" in result.stderr
    assert f"{path}:6: a torn line" in result.stderr
    assert run("verify").exit_code == 1


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
    result = CliRunner().invoke(audit, ["grep", "--json", "--alias", "A@b.c", "-c", str(config)])
    assert len(found(result)) == 1


def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    for text, message in (("", "standard output"), ('[audit]\npath = "a"', "there is no file")):
        config.write_text(text)
        for command in ("tail", "verify", "grep"):
            result = CliRunner().invoke(audit, [command, "-c", str(config)])
            assert result.exit_code == 2
            assert message in result.stderr


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", "2026-11-26T11:58:30"),
        ("1.5h", "2026-11-26T10:30"),
        ("2d", "2026-11-24T12:00"),
        ("today", "2026-11-26T00:00"),
        ("yesterday", "2026-11-25T00:00"),
        ("09:00", "2026-11-26T09:00"),
        ("2026-11-26", "2026-11-26T00:00"),
        ("2026-11-26T09:00", "2026-11-26T09:00"),
        ("2026-11-26T09:00+02:00", "2026-11-26T07:00"),
        ("2026-11-26 09:00 Europe/Oslo", "2026-11-26T08:00"),
        ("09:00 Asia/Tokyo", "2026-11-26T00:00"),
    ],
)
def test_a_time_has_many_forms(text: str, at: str) -> None:
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert parse_moment(text, now, UTC) == datetime.fromisoformat(at).replace(tzinfo=UTC)
    local = now.astimezone()
    assert parse_moment("09:30", now).astimezone().strftime("%H:%M") == "09:30"
    assert parse_moment("today", now).astimezone().date() == local.date()


@pytest.fixture
def oslo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1")
        time.tzset()
        yield
    time.tzset()


def one_line(folder: Path, **fields: object) -> str:
    """Write a file of one line, and return its path."""
    line = {"timestamp": "2026-11-25T23:30:01.5Z", "event": "decision", "decision_id": "01a2"}
    path = folder / "one.jsonl"
    path.write_text(json.dumps({**line, **fields}, ensure_ascii=False) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.usefixtures("oslo")
def test_times_are_local_and_have_their_offset(tmp_path: Path) -> None:
    call = ("--file", one_line(tmp_path, endpoint="media_location", event="shadow", steps=[]))
    for command in (("tail",), ("grep",)):
        local = CliRunner().invoke(audit, [*command, *call]).stdout
        assert "2026-11-26 00:30:01+0100" in local, command


@pytest.mark.usefixtures("oslo")
def test_where_nothing_matches_grep_says_what_it_searched(run: Run, tmp_path: Path) -> None:
    call = ("grep", "--alias", "x", "--file", one_line(tmp_path))
    at = "2026-11-26 00:30:01+0100"
    assert run(*call).stderr == f"no line matches (1 searched, {at} to {at})\n"
    assert run(*call).exit_code == 1
    (tmp_path / "one.jsonl").write_bytes(b"")
    assert run(*call).stderr == "no line matches (0 searched)\n"


MARKUP = "[/] [link=http://evil.example]x[/link] [conceal]y :smile:"


@pytest.mark.parametrize("command", [["tail"], ["grep"], ["show", "019F3c7e"]])
def test_text_of_callers_and_plugins_is_no_markup(tmp_path: Path, command: list[str]) -> None:
    fields = {
        "decision_id": "019f3c7e-0000-7000-8000-000000000000",
        "endpoint": MARKUP,
        "request": {"local_alias": MARKUP, MARKUP: MARKUP},
        "steps": [{"plugin": MARKUP, "outcome": "failed", "ms": 0.1, "detail": MARKUP}],
        "decided_by": MARKUP,
        "action": MARKUP,
        "status": 200,
        "ms": 0.1,
        "reason": MARKUP,
    }
    path = one_line(tmp_path, **fields)
    result = CliRunner().invoke(audit, [*command, "--file", path])
    assert result.exit_code == 0
    assert result.stdout.count(MARKUP) >= 2


@pytest.mark.parametrize(("name", "code"), [("019f3c7e", 1), ("019", 2), ("meet", 2), ("", 2)])
def test_a_line_that_cannot_be_shown(tmp_path: Path, name: str, code: int) -> None:
    result = CliRunner().invoke(audit, ["show", name, "--file", one_line(tmp_path)])
    assert (result.exit_code, "decision ID" in result.stderr) == (code, True)


def test_json_on_a_terminal_has_no_control_characters(tmp_path: Path) -> None:
    text = "a\x9b31m\u202eb\u2028"
    result = CliRunner().invoke(
        audit, ["grep", "--json", "--file", one_line(tmp_path, reason=text)]
    )
    assert not set("\x9b\u202e\u2028") & set(result.stdout)
    assert found(result)[0]["reason"] == text


def test_verify_prints_counts_and_heads_as_json(run: Run, tmp_path: Path) -> None:
    last = json.loads((tmp_path / "audit.jsonl").read_bytes().splitlines()[-1])
    (summary,) = found(run("verify", "--json"))
    (chain,) = summary.pop("chains")
    assert summary == {"lines": 4, "faults": 0}
    assert (chain["boot_id"], chain["lines"]) == (last["boot_id"], 4)
    assert run("verify", "--anchor", chain["head"]).exit_code == 0


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
