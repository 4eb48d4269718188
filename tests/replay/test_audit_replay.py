"""Replay of an audit file: what is the same, what changes, and how it is told."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.test_main import invoked
from tests.replay import audits
from tests.replay.audits import replayed
from tests.support import live_server, wire

ROOMS = """
[plugins.rules]
priority = 10
[[plugins.rules.settings.rules]]
name = "After hours"
endpoint = "service_configuration"
when.local_alias.prefix = "office"
when.time = {{ zone = "Europe/Oslo", between = ["20:00", "06:00"] }}
then = {{ action = "reject", reason = "closed" }}

[plugins.rooms]
priority = 20
[plugins.rooms.settings.rooms.office]
name = "{office}"
service_tag = "office"
pin = "{pin}"
[plugins.rooms.settings.rooms.lobby]
name = "Lobby"
service_tag = "lobby"
"""
HERE = """
[[plugins.rules.settings.rules]]
name = "here"
endpoint = "service_configuration"
when.local_alias = "here"
then.result = {{ name = {name}, service_tag = "" }}
"""
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def service(alias: str, at: datetime, **more: str) -> audits.Asked:
    pairs = [("local_alias", alias), ("call_direction", "dial_in"), *more.items()]
    return "service_configuration", "", pairs, at


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "old.toml"
    path.write_text(ROOMS.format(office="Office", pin="47114711"))
    return path


def test_the_configuration_that_a_server_had_changes_nothing(tmp_path: Path) -> None:
    path = live_server.with_audit(live_server.SHIPPED, tmp_path)
    with live_server.running(path) as server:
        for target in (
            f"{wire.SERVICE}?local_alias=engineering&call_tag=&third_party_passcode=1234",
            f"{wire.SERVICE}?local_alias=caf%C3%A9+x%2By%E2%80%AE&remote_alias=sip:a:b@c.example",
            wire.PARTICIPANT,
            wire.LOCATION,
            f"{wire.DIRECTORY}?q=a",
            f"{wire.REGISTRATION}sip%3Aalice%40example.com",
            f"{wire.REGISTRATION}alice@example.org",
            f"{wire.AVATAR}a%2Bb+c?width=1",
        ):
            server.ask(target)
        server.ask("/policy/v1/nothing")
    found = replayed("--config", path)
    assert found["changed"] == 0
    assert found["same"] == 8
    assert found["records"] == {"exact": 8, "partial": 0, "not_replayable": 1, "unreadable": 0}


def test_calls_are_asked_at_their_own_times(config: Path, tmp_path: Path) -> None:
    calls = [service("office", NOON + timedelta(hours=hour)) for hour in range(48)]
    audit = audits.written(config, calls, tmp_path / "audit.jsonl")
    found = replayed(audit, "--config", config)
    assert (found["same"], found["changed"]) == (48, 0)
    actions = {row["to"]: row["count"] for row in found["matrix"]}
    assert actions == {"continue with result": 28, "reject": 20}


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("here", "Here"),
        ("here", "{decision_id}"),  # another answer to each call
        ("office", "Here"),  # a rule reads the time
    ],
)
def test_equal_requests_have_the_answers_that_each_of_them_got(
    config: Path, tmp_path: Path, alias: str, name: str
) -> None:
    with config.open("a") as file:
        file.write(HERE.format(name=json.dumps(name)))
    calls = [service(alias, NOON + timedelta(hours=n)) for n in range(10)]
    audit = audits.written(config, calls, tmp_path / "audit.jsonl")
    found = replayed(audit, "--config", config)
    assert (found["same"], found["changed"]) == (10, 0)


def test_a_change_is_a_group_with_its_example_and_without_pins(
    config: Path, tmp_path: Path
) -> None:
    calls = [service(("office", "lobby")[n % 2], NOON + timedelta(minutes=n)) for n in range(20)]
    audit = audits.written(config, calls, tmp_path / "audit.jsonl")
    new = tmp_path / "new.toml"
    new.write_text(ROOMS.format(office="Head Office", pin="47124712"))
    found = replayed(audit, "--config", new, code=1)
    assert (found["same"], found["changed"]) == (10, 10)
    (group,) = found["groups"]
    assert group["fields"] == ["name"]  # the audit does not hold the PIN
    assert group["example"]["changes"] == {"name": {"from": "Office", "to": "Head Office"}}
    assert group["example"]["place"] == f"{audit}:1"
    assert group["first"] == "2026-11-20T12:00:00.000+00:00"
    assert group["last"] == "2026-11-20T12:18:00.000+00:00"

    both = replayed(audit, "--config", new, "--against", config, code=1)
    assert both["groups"][0]["fields"] == ["name", "pin"]
    assert both["groups"][0]["example"]["changes"]["pin"] == {"from": "***", "to": "***"}
    shown = invoked("replay", str(audit), "--config", str(new), "--against", str(config))
    assert not {"47114711", "47124712"} & set(json.dumps(both).split('"'))
    assert "47114711" not in shown.output
    assert "47124712" not in shown.output
    assert "10 same, 10 changed (50.00%)" in shown.stdout


def test_the_example_of_a_group_has_the_client_of_its_call(config: Path, tmp_path: Path) -> None:
    audit = audits.written(config, [service("lobby", NOON)], tmp_path / "audit.jsonl")
    new = tmp_path / "new.toml"
    new.write_text(
        '[[plugins.rules.settings.rules]]\nname = "proxy"\nendpoint = "service_configuration"\n'
        'when.peer = "10.0.0.7"\nthen = "reject"\n'
    )
    (group,) = replayed(audit, "--config", new, code=1)["groups"]
    assert group["example"]["peer"] == "10.0.0.7"
    shown = invoked("replay", str(audit), "--config", str(new)).stdout
    assert group["example"]["decision_id"] in shown


def test_a_pin_that_a_record_holds_is_not_shown(config: Path, tmp_path: Path) -> None:
    audit = audits.written(config, [service("lobby", NOON)], tmp_path / "audit.jsonl")
    line = json.loads(audit.read_text())
    called = [{"dtmf_sequence": "90817"}]
    line["sent"] |= {"pin": "482913", "automatic_participants": called}
    audit.write_text(json.dumps(line) + "\n")
    done = invoked("replay", str(audit), "--config", str(config), "--json")
    (group,) = json.loads(done.stdout)["groups"]
    assert {"pin", "automatic_participants"} == set(group["fields"])
    assert "482913" not in done.output
    assert "90817" not in done.output


PEOPLE = """
[plugins.rooms.settings.rooms.office]
name = "Office"
automatic_participants = [
    { local_alias = "a@b.example", remote_alias = "b@b.example", protocol = "sip", role = "ROLE" },
]
[[plugins.rules.settings.rules]]
name = "phone book"
endpoint = "directory_information"
then.result.entries = [{ alias = "ALIAS", description = "Anna", username = "" }]
"""


@pytest.mark.parametrize(
    "privacy", ['personal = "dropped"', 'personal = "hashed"\nkey_env = "KEY"', ""]
)
def test_personal_values_inside_of_a_result_are_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, privacy: str
) -> None:
    monkeypatch.setenv("KEY", "0123456789abcdef")
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(PEOPLE.replace("ROLE", "guest").replace("ALIAS", "anna@example.com"))
    calls = [service("office", NOON), ("directory_information", "", [("q", "an")], NOON)]
    audit = audits.written(old, calls, tmp_path / "audit.jsonl")
    new.write_text(f"{old.read_text()}[privacy]\n{privacy}\n")
    assert replayed(audit, "--config", new)["same"] == 2
    new.write_text(new.read_text().replace("guest", "chair").replace("Anna", "Ann"))
    found = replayed(audit, "--config", new, code=1)
    fields = [group["fields"] for group in found["groups"]]
    assert ["automatic_participants"] in fields
    # Without its personal values an entry of the phone book has none that could change.
    assert (["result"] in fields) == (not privacy)


def test_a_result_that_is_left_out_of_the_audit_is_one(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[privacy]\npersonal = "dropped"\n[[plugins.rules.settings.rules]]\nname = "name"\n'
        'endpoint = "participant_properties"\nwhen.protocol = "sip"\n'
        'then.result.remote_display_name = "Guest"\n'
    )
    calls: list[audits.Asked] = [
        ("participant_properties", "", [("protocol", protocol)], NOON)
        for protocol in ("sip", "api")
    ]
    found = replayed(audits.written(config, calls, tmp_path / "audit.jsonl"), "--config", config)
    assert [(row["from"], row["to"], row["count"]) for row in found["matrix"]] == [
        ("continue", "continue", 1),
        ("continue with result", "continue with result", 1),
    ]


def test_a_share_of_changes_may_be_allowed(config: Path, tmp_path: Path) -> None:
    calls = [service("office" if n == 0 else "lobby", NOON) for n in range(200)]
    audit = audits.written(config, calls, tmp_path / "audit.jsonl")
    new = tmp_path / "new.toml"
    new.write_text(ROOMS.format(office="Other", pin="47114711"))
    replayed(audit, "--config", new, "--max-changed", "0.5%")
    replayed(audit, "--config", new, "--max-changed", "0.4%", code=1)
    replayed(audit, "--config", new, "--ignore", "name")
    replayed(audit, "--config", new, "--only", "reject")


def test_files_that_were_rotated_before_the_period_are_not_read(
    config: Path, tmp_path: Path
) -> None:
    audit, rotated = (
        audits.written(config, [service("lobby", NOON)], tmp_path / name)
        for name in ("audit.jsonl", "audit.jsonl.1")
    )
    before = NOON - timedelta(days=1)
    os.utime(rotated, times=(before.timestamp(), before.timestamp()))
    for since, files in ((before, 2), (NOON, 1)):
        found = replayed(audit, "--config", config, "--since", since.isoformat())
        assert (len(found["files"]), found["same"]) == (files, files)


def test_damaged_lines_are_counted_with_their_places(config: Path, tmp_path: Path) -> None:
    calls = [service("lobby", NOON) for _ in range(50)]
    _, lines = audits.answers(config, calls)
    lines[10] = lines[10][:300]  # a torn line before another one, on one line
    lines[10:12] = [lines[10] + lines[11]]
    lines[30] = b"not json"
    lines[40] = lines[40][:-1]
    audit = tmp_path / "audit.jsonl"
    audit.write_bytes(b"\n".join(lines) + b"\n")
    found = replayed(audit, "--config", config, code=2)
    assert found["records"] == {"exact": 47, "partial": 0, "not_replayable": 0, "unreadable": 3}
    assert [one["place"] for one in found["unreadable"]] == [f"{audit}:{n}" for n in (11, 31, 41)]


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        (b'"2026-11-20T', b'"0001-01-01T'),
        (b'"2026-11-20T', b'"9999-12-31T'),
        (b'"Lobby"', b'"\\ud800"'),
        (b'"Lobby"', b'"\xed\xa0"'),
    ],
)
def test_a_damaged_value_makes_a_line_unreadable(
    config: Path, tmp_path: Path, written: bytes, damaged: bytes
) -> None:
    _, lines = audits.answers(config, [service("lobby", NOON)] * 2)
    assert written in lines[1]
    audit, page = tmp_path / "audit.jsonl", tmp_path / "page.html"
    audit.write_bytes(b"\n".join((lines[0], lines[1].replace(written, damaged), b"")))
    found = replayed(audit, "--config", config, "--report", page, code=2)
    assert found["records"] == {"exact": 1, "partial": 0, "not_replayable": 0, "unreadable": 1}
    assert found["unreadable"][0]["place"] == f"{audit}:2"


def test_no_report_has_control_characters(config: Path, tmp_path: Path) -> None:
    with config.open("a") as file:
        file.write(HERE.format(name='"{remote_display_name}"'))
    name = "a\x9b31m\u202e"
    audit = audits.written(
        config, [service("here", NOON, remote_display_name=name)], tmp_path / "audit.jsonl"
    )
    action = audit.read_bytes().replace(b'"action":"continue"', b'"action":"\\u001b[31mred"')
    audit.write_bytes(action)
    config.write_text(config.read_text().replace("{remote_display_name}", "Here"))
    done = invoked("replay", str(audit), "--config", str(config), "--json")
    (group,) = json.loads(done.stdout)["groups"]
    assert group["example"]["changes"]["name"] == {"from": name, "to": "Here"}
    assert done.stdout.isascii()
    shown = invoked("replay", str(audit), "--config", str(config)).stdout
    assert "[31mred" in shown
    assert not {"\x1b", "\x9b", "\u202e"} & {*shown}


@pytest.mark.skipif(sys.platform != "linux", reason="a file that cannot be read, even by root")
def test_a_file_that_cannot_be_read_is_named(config: Path) -> None:
    done = invoked("replay", "/proc/self/mem", "-c", str(config))
    assert done.exit_code == 2, done.output
    assert "Input/output error" in done.stderr
