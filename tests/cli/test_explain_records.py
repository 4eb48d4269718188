"""`pexpolicy explain` with records of a real call: decision IDs, audit lines, logs."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from pexpolicy.builder import policy_from
from pexpolicy.cli.main import main
from tests.cli.test_explain_forms import explained
from tests.cli.test_main import invoked, written
from tests.support import live_server, wire

CONFIG = """
[audit]
path = "audit.jsonl"
{audit}
[server]
base_path = "/api/pexip"
{privacy}
[plugins.rooms.settings]
rooms."meet07@example.com".name = "Meeting 07"
[plugins.rules.settings]
[[plugins.rules.settings.rules]]
name = "From the proxy"
endpoint = "service_configuration"
when.peer = "127.0.0.1"
when.local_alias.user = "via"
then = "reject"
"""
BASE = "/api/pexip"
ROOM = "continue with result by rooms"
TARGETS = [
    f"{wire.SERVICE}?local_alias=sip%3Ameet07%40example.com&remote_alias=a%26b%2Bc&empty=",
    f"{wire.SERVICE}?local_alias=via",
    f"{wire.PARTICIPANT}?idp_attribute_groups=a&idp_attribute_groups=b&local_alias=x",
    f"{wire.AVATAR}sip%3Aalice%40example.com?width=10&height=10",
    f"{wire.REGISTRATION}alice%2Fdesk%20one?protocol=sip",
    f"{wire.DIRECTORY}?q=al%C3%AF",
    f"{wire.LOCATION}?remote_address=10.44.0.7&third_party_passcode=48151623",
]


class Recorded(NamedTuple):
    config: str
    lines: list[str]


def recorded(folder: Path, **parts: str) -> Recorded:
    """Ask a server all targets, and return its audit lines."""
    text = CONFIG.format(**{"audit": "", "privacy": "", **parts})
    config = folder / "config.toml"
    config.write_text(text)
    with live_server.running(config) as server:
        for target in TARGETS:
            server.ask(BASE + target)
    lines = (folder / "audit.jsonl").read_text().splitlines()
    return Recorded(str(config), [line for line in lines if '"event":"decision"' in line])


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return recorded(tmp_path_factory.mktemp("recorded"))


def test_an_audit_line_is_answered_as_the_call_was(audit: Recorded) -> None:
    assert len(audit.lines) == len(TARGETS)
    for line in audit.lines:
        event = json.loads(line)
        shown = explained("-c", audit.config, line)
        assert shown["form"] == "audit line"
        assert shown["at"] == event["timestamp"].replace("Z", "+00:00")
        assert shown["path_problem"] is None
        for key in ("endpoint", "request", "decided_by", "action", "reason", "status"):
            assert shown[key] == event[key], key
        assert (shown["reply"] or {}).get("result") == (
            None if event["endpoint"] == "participant_avatar" else event["sent"]
        )


def test_what_the_audit_line_lacks_is_mentioned(audit: Recorded) -> None:
    shown = explained("-c", audit.config, audit.lines[-1])
    assert shown["remarks"] == ["the audit line was written without third_party_passcode"]
    assert explained("-c", audit.config, audit.lines[0])["remarks"] == []


def test_a_decision_id_and_its_beginning_find_the_call(audit: Recorded) -> None:
    event = json.loads(audit.lines[0])
    decision_id = event["decision_id"]
    for text in (decision_id, decision_id.upper(), decision_id[:-2]):
        shown = explained("-c", audit.config, text)
        assert shown["request"] == event["request"]
        assert shown["decided_by"] == "rooms"


@pytest.mark.parametrize(
    ("line", "old", "new", "recorded", "answer"),
    [
        (1, '"via"', '"other"', "reject by rules", "continue by default"),
        (0, "Meeting 07", "B", ROOM, f"{ROOM}; name from Meeting 07 to B"),
    ],
)
def test_what_another_configuration_recorded_is_told(
    audit: Recorded, tmp_path: Path, line: int, old: str, new: str, recorded: str, answer: str
) -> None:
    config = written(tmp_path, Path(audit.config).read_text().replace(old, new))
    (told,) = explained("-c", config, audit.lines[line])["remarks"]
    was, now = json.loads(audit.lines[line])["policy_hash"], policy_from(Path(config)).policy_hash
    assert told == f"recorded: {recorded} ({was}); this configuration ({now}): {answer}"


def test_an_ambiguous_beginning_lists_the_calls(audit: Recorded) -> None:
    ids = [json.loads(line)["decision_id"] for line in audit.lines]
    beginning = ids[0][:8]
    shown = invoked("explain", "-c", audit.config, beginning)
    assert shown.exit_code == 2
    assert f"{len(ids)} decision IDs begin with {beginning}" in shown.stderr


def test_a_decision_id_is_found_in_rotated_files(tmp_path: Path) -> None:
    made = recorded(tmp_path)
    (tmp_path / "audit.jsonl").rename(tmp_path / "audit.jsonl.20261126T010203123456Z")
    (tmp_path / "audit.jsonl").write_text("torn {\n")
    decision_id = json.loads(made.lines[1])["decision_id"]
    assert explained("-c", made.config, decision_id)["action"] == "reject"


def test_a_decision_id_that_is_not_there_is_refused(audit: Recorded) -> None:
    shown = invoked("explain", "-c", audit.config, "01a21bbc-193e")
    assert shown.exit_code == 2
    assert "no call in the audit log has a decision ID that begins with 01a21bbc-193e" in (
        shown.stderr
    )


def test_digits_that_are_no_decision_id_are_an_alias(audit: Recorded, tmp_path: Path) -> None:
    for config in (audit.config, written(tmp_path, "")):
        shown = explained("-c", config, "01234567")
        assert (shown["form"], shown["request"]["local_alias"]) == ("alias", "01234567")


def test_hashed_names_are_mentioned(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key of the privacy of thirty-two bytes")
    privacy = '[privacy]\npersonal = "hashed"\nkey_file = "key"\n'
    made = recorded(tmp_path, privacy=privacy)
    shown = explained("-c", made.config, made.lines[0])
    (remark,) = shown["remarks"]
    assert remark.startswith("the audit line has a hash, or ***, in the value of ")
    assert {"local_alias", "remote_alias"} <= set(re.findall(r"\w+", remark))
    assert explained("-c", made.config, made.lines[3])["remarks"] == [
        "the audit line has a hash, or ***, in the value of alias"
    ]


def test_dropped_names_are_mentioned_and_an_alias_of_a_path_is_needed(tmp_path: Path) -> None:
    made = recorded(tmp_path, privacy='[privacy]\npersonal = "dropped"\n')
    (remark,) = explained("-c", made.config, made.lines[0])["remarks"]
    assert remark.startswith("the audit line was written without ")
    assert {"local_alias", "remote_alias"} <= set(re.findall(r"\w+", remark))
    shown = invoked("explain", "-c", made.config, made.lines[3])
    assert shown.exit_code == 2
    assert "has no alias" in shown.stderr


QUERY = "local_alias=meet07%40example.com&region=north&remote_alias=b"
PATH = f"{BASE}{wire.SERVICE}"
URL = f"https://policy.example.com:8443{BASE}{wire.SERVICE}?{QUERY}"
SUPPORT = (
    '2026-05-14T09:41:02.123456+0000 node Level="INFO" Name="support.externalpolicy" '
    f'Message="Policy request" URL="{URL}" Timeout="5"'
)


@pytest.mark.parametrize(
    ("text", "form", "at"),
    [
        (SUPPORT, "support log", "2026-05-14T09:41:02.123456+00:00"),
        (SUPPORT.replace("+0000", ""), "support log", "2026-05-14T09:41:02.123456+00:00"),
        (
            SUPPORT.replace("&", "&amp;").replace('"', "&quot;"),
            "support log",
            "2026-05-14T09:41:02.123456+00:00",
        ),
        (
            f'10.0.0.1 - - [26/Nov/2026:07:10:28 +0100] "GET {PATH}?{QUERY} HTTP/1.1" 200 4 "-"',
            "access log",
            "2026-11-26T06:10:28+00:00",
        ),
        (
            json.dumps(
                {"ts": "2026-11-26T07:10:28Z", "http": {"uri": f"{BASE}{wire.SERVICE}?{QUERY}"}}
            ),
            "access log",
            "2026-11-26T07:10:28+00:00",
        ),
        (f"curl -sk -u user:pass '{URL}'", "access log", None),
        (URL, "URL", None),
        (f"{BASE}{wire.SERVICE}?{QUERY}", "URL", None),
    ],
)
def test_each_form_holds_the_request_and_its_time(
    audit: Recorded, text: str, form: str, at: str | None
) -> None:
    shown = explained("-c", audit.config, text)
    assert (shown["form"], shown["at"]) == (form, at)
    assert shown["request"]["local_alias"] == "meet07@example.com"
    assert shown["not_shown"] == ["region"]
    assert (shown["decided_by"], shown["path_problem"]) == ("rooms", None)


def test_a_line_of_haproxy_has_the_time_of_this_machine(audit: Recorded) -> None:
    line = (
        "haproxy[14389]: 10.0.1.2:33317 [06/Feb/2026:12:14:14.655] in policy/one 0/0/1/2/3 200 9 - "
        f'---- 1/1/1/1/0 0/0 "GET {BASE}{wire.SERVICE}?{QUERY} HTTP/1.1"'
    )
    assert explained("-c", audit.config, line)["at"].startswith("2026-02-06T")
    cut = line[: line.index("&remote_alias")]
    assert explained("-c", audit.config, cut)["remarks"] == [
        "the line is cut: parameters may be missing at its end"
    ]


def test_a_line_with_quotes_may_come_from_standard_input(audit: Recorded) -> None:
    arguments = ["explain", "--json", "-c", audit.config, "-"]
    shown = CliRunner().invoke(main, arguments, input=f"{audit.lines[0]}\n")
    assert json.loads(shown.stdout)["decided_by"] == "rooms"
