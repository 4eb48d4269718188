"""`pexpolicy explain`, as an operator pastes what a log shows."""

import json
from pathlib import Path

import pytest

from tests.cli.test_main import invoked, written
from tests.support import live_server, wire


@pytest.mark.parametrize(
    "target",
    [
        f"{wire.SERVICE}?local_alias=engineering",
        f"{wire.SERVICE}?local_alias=sip%3Asales%40example.com&call_direction=dial_in",
        f"{wire.SERVICE}?local_alias=caf%C3%A9+x%2By",
        f"{wire.SERVICE}?local_alias=a&call_direction=non_dial",
        wire.PARTICIPANT,
        wire.LOCATION,
        f"{wire.DIRECTORY}?q=a",
        f"{wire.REGISTRATION}sip%3Aalice%40example.com",
        f"{wire.REGISTRATION}alice@example.org",
        f"{wire.AVATAR}a%2Bb+c?width=1",
    ],
)
def test_what_is_explained_is_what_is_answered_but_for_the_id(
    running_server: live_server.Running, target: str
) -> None:
    reply = running_server.ask(target)
    shown = invoked("explain", "--config", str(live_server.SHIPPED), target)
    assert shown.exit_code == 0
    printed = shown.stdout.splitlines()[-1]
    live_id, explained_id = reply.json["decision_id"], json.loads(printed)["decision_id"]
    assert printed == reply.body.decode().replace(live_id, explained_id)
    assert live_id != explained_id
    assert f"HTTP {reply.status} {reply.headers['content-type']}" in shown.stdout


@pytest.mark.parametrize(
    "pasted",
    [
        "{}",
        "https://policy.example.com:8443{}",
        "https://user:pass@policy.example.com/api/pexip{}",
        "GET {} HTTP/1.1",
        '192.0.2.1 - - [26/Nov/2026:07:10:28 +0000] "GET {} HTTP/1.1" 200 4',
        '2026-01-01 Level="INFO" Message="Policy request" URL="https://a.example{}" Timeout="5"',
        " '{}' ",
    ],
)
def test_a_request_may_be_pasted_in_many_forms(pasted: str) -> None:
    target = f"{wire.SERVICE}?local_alias=engineering"
    shown = invoked("explain", "--config", str(live_server.SHIPPED), pasted.format(target))
    assert shown.exit_code == 0
    assert "Engineering Room" in shown.stdout
    assert "rooms" in shown.stdout
    assert "decided" in shown.stdout


REFUSED: list[tuple[str, list[str], str]] = [
    *((text, [], wire.SERVICE) for text in ("/", "", "/policy/v1/registration", wire.AVATAR)),
    ("Nov 26 07:10 it failed\x1b[2J", [], "Nov 26 07:10 it failed"),
    ("meet\udcff", [], "is not UTF-8 text"),
    ("desk one", [], wire.SERVICE),
    ("meet07", ["--set", "remote_address"], "write remote_address=10.44.0.7"),
    ("meet07", ["--set", "=10.44.0.7"], "write remote_address=10.44.0.7"),
    (wire.SERVICE, ["--endpoint", "media_location"], "--endpoint is for an alias"),
    ("", ["--endpoint", "media_location"], "--endpoint is for an alias"),
    ('{"event":"decision"}', ["--endpoint", "media_location"], "--endpoint is for an alias"),
    ('{"event": "decision", "endpoint": "lobby", "request": {}}', [], "does not exist"),
    ('{"message": "hello"}', [], wire.SERVICE),
    ("http://policy.example.com", [], wire.SERVICE),
    ("?local_alias=x&remote_alias=y", [], wire.SERVICE),
    *(
        (f'{{"event": "{e}"}}', [], f"its event is '{e}'")
        for e in ("refused", "shadow", "checkpoint")
    ),
]


@pytest.mark.parametrize(("text", "options", "said"), REFUSED)
def test_what_is_no_request_is_refused_with_the_reason(
    text: str, options: list[str], said: str
) -> None:
    shown = invoked("explain", "--config", str(live_server.SHIPPED), text, *options)
    assert (shown.exit_code, said in shown.stderr) == (2, True), shown.output
    assert "\x1b" not in shown.stderr


@pytest.mark.parametrize("query", ["local_alias=a&third_party_passcode=48151623", "a=%1B%5B2J%07"])
def test_a_secret_or_a_control_character_of_a_request_is_not_shown(query: str) -> None:
    shown = invoked("explain", "--config", str(live_server.SHIPPED), f"{wire.SERVICE}?{query}")
    assert shown.exit_code == 0
    assert "48151623" not in shown.stdout
    assert "\x1b[2J" not in shown.stdout
    assert ("third_party_passcode" in shown.stdout) == ("passcode" in query)


BELOW = "/api/pexip"


@pytest.mark.parametrize(
    ("prefix", "base_path", "right"),
    [
        (BELOW, BELOW, True),
        (f"https://policy.example.com{BELOW}", BELOW, True),
        ("", "", True),
        ("", BELOW, False),
        ("/wrong", BELOW, False),
        (f"https://policy.example.com/wrong{BELOW}", BELOW, False),
        (BELOW, "", False),
    ],
)
def test_a_path_that_the_server_does_not_answer_is_reported(
    tmp_path: Path, prefix: str, base_path: str, *, right: bool
) -> None:
    config = written(tmp_path, f'[server]\nbase_path = "{base_path}"\n')
    shown = invoked("explain", "--config", config, f"{prefix}{wire.SERVICE}?local_alias=a")
    assert shown.exit_code == 0
    assert ("the server answers 404 (unknown path)" not in shown.stdout) == right
    assert (f"nodes have to ask {base_path}{wire.SERVICE}." in shown.stdout) == (not right)


BRACKETS = """
from pexpolicy import hookimpl

class Plugin:
    @hookimpl
    async def service_configuration(self, request):
        raise ValueError("[/x] [conceal]text")
"""


def test_json_has_no_control_characters() -> None:
    request = f"{wire.SERVICE}?local_alias=a%C2%9B31m%E2%80%AE"
    shown = invoked("explain", "--json", request, "--config", str(live_server.SHIPPED))
    assert json.loads(shown.stdout)["request"]["local_alias"] == "a\x9b31m\u202e"
    assert shown.stdout.isascii()


def test_text_with_brackets_is_never_read_as_markup(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "bracket.py").write_text(BRACKETS)
    config = written(tmp_path, 'plugin_dirs = ["drop"]\n[plugins.bracket]\n')
    target = f"{wire.SERVICE}?local_alias=%5B/%5D&%5B/x%5D=%5B/y%5D"
    shown = invoked("explain", "--config", config, target)
    assert shown.exit_code == 0, shown.output
    assert "local_alias = [/]" in shown.stdout
    assert "[/x] [conceal]text" in " ".join(shown.stdout.split())
    assert "\x1b" not in shown.stdout
