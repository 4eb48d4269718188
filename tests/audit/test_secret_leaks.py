"""Canaries in place of each secret, and every output of a server that uses them."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy import Decision, DirectoryEntry
from pexpolicy.cli.main import main
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.contract import contract_of
from pexpolicy.models.request import parameters_of
from pexpolicy.models.rules import Privacy
from tests.support import live_server, secret_canaries, wire
from tests.support.fake_plugins import Serve, always, plugin, raises
from tests.support.secret_canaries import PIN, WORD

SECRET_DECISIONS = list(secret_canaries.decisions())


def target(endpoint: str) -> str:
    return f"{wire.TARGETS[endpoint]}?{secret_canaries.query(endpoint)}"


@pytest.mark.parametrize(("endpoint", "decision"), SECRET_DECISIONS)
@pytest.mark.parametrize("mode", ["decide", "dictionary", "shadow"])
async def test_secrets_that_are_decided_leave_for_the_node_alone(
    serving: Serve, endpoint: str, decision: Decision, mode: str
) -> None:
    answer = json.loads(decision.result) if mode == "dictionary" else decision
    table = {"mode": "shadow"} if mode == "shadow" else {}
    async with serving({"toy": plugin(**{endpoint: always(answer)})}, {"toy": table}) as server:
        reply = await server.ask(target(endpoint))
        assert bool(secret_canaries.find_canaries(reply.body.decode())) == (mode != "shadow")
    assert [line["event"] for line in server.lines()] == ["decision", "shadow"][
        : 1 + (mode == "shadow")
    ]
    assert server.lines()[-1]["removed"]
    assert not secret_canaries.find_canaries(server.audit.read_text())


WITH_SECRETS = [
    name
    for name, endpoint in ENDPOINTS.items()
    if any(parameter.secret for parameter in parameters_of(endpoint.request).values())
]


@pytest.mark.parametrize("endpoint", WITH_SECRETS)
@pytest.mark.parametrize(
    "error",
    [ValueError(WORD), KeyError(PIN), SystemExit(WORD), UnicodeEncodeError("a", WORD, 0, 1, WORD)],
)
async def test_secrets_of_a_request_are_taken_out_of_what_a_plugin_raises(
    serving: Serve, endpoint: str, error: BaseException
) -> None:
    passcode = PIN if PIN in str(error) else WORD
    async with serving({"toy": plugin(**{endpoint: raises(error)})}) as server:
        await server.ask(f"{wire.TARGETS[endpoint]}?third_party_passcode={passcode}")
    assert server.steps() == [("toy", "failed")]


@pytest.mark.parametrize(("endpoint", "decision"), SECRET_DECISIONS)
async def test_secrets_of_an_answer_that_is_refused_are_not_named(
    serving: Serve, endpoint: str, decision: Decision
) -> None:
    fields = {**decision.set_fields(), "name": 5, "username": 5, "spotlight": "none"}
    async with serving({"toy": plugin(**{endpoint: always(fields)})}) as server:
        reply = await server.ask(target(endpoint))
        assert not secret_canaries.find_canaries(reply.body.decode())
    assert server.steps() == [("toy", "invalid")]


CONFIG = f"""
[auth]
user = "pexip"
password_env = "CANARY"

[audit]
path = "audit.jsonl"

[plugins.rooms.settings.rooms."{{alias}}"]
name = "Room"
pin = "{PIN}"
guest_pin = "{PIN[::-1]}"
allow_guests = true
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CANARY", WORD)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG.replace("{alias}", "board@example.com"))
    return tmp_path


def command(*arguments: str) -> str:
    """Return what a command prints on standard output and standard error."""
    return CliRunner().invoke(main, arguments, catch_exceptions=False).output


ASKED = f"/policy/v1/service/configuration?local_alias=board&third_party_passcode={WORD}&pin={PIN}"


@pytest.mark.parametrize(
    "arguments",
    [["check"], ["plugins"], ["plugins", "--json"], ["explain", ASKED], ["explain", "nothing"]],
)
def test_no_command_shows_a_secret(folder: Path, arguments: list[str]) -> None:
    assert not secret_canaries.find_canaries(command(*arguments))


def test_explain_says_what_it_does_not_show_and_shows_it_when_asked_to(folder: Path) -> None:
    output = command("explain", ASKED)
    assert '"pin":"***"' in output
    assert "not shown: pin, guest_pin; --show-secrets prints the complete reply" in output
    assert f'"pin":"{PIN}"' in command("explain", "--show-secrets", ASKED)


def test_a_configuration_that_is_refused_is_refused_without_its_secrets(folder: Path) -> None:
    config = folder / "config.toml"
    config.write_text(config.read_text().replace(f'pin = "{PIN}"', f'pin = "{PIN}x"'))
    output = command("check")
    assert 'rooms."board@example.com".pin' in output
    assert not secret_canaries.find_canaries(output)


def test_a_server_at_work_writes_no_secret(folder: Path) -> None:
    with live_server.running(folder / "config.toml", environment={"CANARY": WORD}) as server:
        reply = server.ask(ASKED, headers=wire.basic("pexip", WORD))
        assert reply.result["pin"] == PIN
        assert server.ask(ASKED, headers=wire.basic("pexip", f"{WORD}x")).status == 401
        assert server.ask(f"/elsewhere?pin={PIN}").status == 404
        assert (
            server.ask(ASKED.encode() + b" \x00", headers=wire.basic("pexip", WORD)).status == 400
        )
        assert [line["status"] for line in server.lines()] == [200, 401, 404, 400]
    assert not list(secret_canaries.find_leaks(folder))


PEOPLE = (
    "local_alias=sip:Board@example.com&remote_alias=sip:alice@example.com"
    "&remote_display_name=Alice+A"
)


@pytest.mark.parametrize("key", ["a key", "another key" * 20])
async def test_people_are_hashed_where_that_is_asked_for(
    serving: Serve, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("PRIVACY", key)
    privacy = {"personal": "hashed", "key_env": "PRIVACY"}
    answer = {"remote_alias": "sip:Alice@example.com", "spotlight": 1}
    toys = {"toy": plugin(participant_properties=always(answer))}
    async with serving(toys, privacy=privacy) as server:
        for more in ("", "&vendor=Cisco"):
            await server.ask(f"{wire.PARTICIPANT}?{PEOPLE}{more}")
    first, second = server.lines()
    assert not re.search("alice|board", server.audit.read_text(), re.IGNORECASE)
    assert first["request"] == {k: v for k, v in second["request"].items() if k != "vendor"}
    assert second["request"]["vendor"] == "Cisco"
    assert re.fullmatch("hash:[0-9a-f]{16}", first["request"]["remote_alias"])
    assert first["sent"] == {"remote_alias": first["request"]["remote_alias"], "spotlight": 1}


async def test_the_target_of_a_redirect_is_an_alias_as_well(serving: Serve) -> None:
    toys = {"toy": plugin(service_configuration=always({"new_alias": "sip:alice@example.com"}))}
    async with serving(toys, privacy={"personal": "dropped"}) as server:
        reply = await server.ask(f"{wire.SERVICE}?{PEOPLE}")
    assert reply.result == {"new_alias": "sip:alice@example.com"}
    (line,) = server.lines()
    assert (line["action"], line["sent"]) == ("redirect", {})
    assert "new_alias" in line["removed"]


async def test_two_spellings_of_an_alias_have_one_hash_and_two_keys_two(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = []
    for number, key in enumerate(["one", "one", "two"]):
        monkeypatch.setenv("PRIVACY", key)
        alias = ["sip:Alice@example.com", "alice@example.com", "alice@example.com"][number]
        async with serving({}, privacy={"personal": "hashed", "key_env": "PRIVACY"}) as server:
            await server.ask(f"{wire.REGISTRATION}{alias}")
            hashes.append(server.lines()[-1]["request"]["alias"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("target", [wire.REGISTRATION, wire.AVATAR])
async def test_an_alias_below_an_unknown_path_is_redacted_too(
    serving: Serve, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setenv("PRIVACY", "a key")
    astray = f"/astray{target}"
    written = []
    for privacy in ({"personal": "hashed", "key_env": "PRIVACY"}, {"personal": "dropped"}, {}):
        async with serving({}, privacy=privacy) as server:
            assert (await server.ask(f"{astray}sip%3AAlice%40example.com")).status == 404
            await server.ask(f"{wire.REGISTRATION}alice@example.com")
            refused, decided = server.lines()[-2:]
            written.append(refused["path"].removeprefix(astray))
            if "key_env" in privacy:
                assert written == [decided["request"]["alias"]]
    assert written[1:] == ["***", "sip%3AAlice%40example.com"]


async def test_people_are_left_out_where_that_is_asked_for(serving: Serve) -> None:
    entries = [DirectoryEntry(alias="alice@example.com", description="Alice")]
    toys = {"toy": plugin(directory_information=always(entries))}
    async with serving(toys, privacy={"personal": "dropped"}) as server:
        reply = await server.ask(f"{wire.DIRECTORY}?q=alice&limit=3")
        assert reply.result[0]["alias"] == "alice@example.com"
    (line,) = server.lines()
    assert "alice" not in json.dumps(line).lower()
    assert line["request"] == {"limit": "3"}
    assert line["removed"] == ["q", "alias", "description", "username"]


def test_every_value_is_typed_and_what_opens_something_is_a_secret() -> None:
    telling = re.compile("pin$|password|passcode|dtmf|secret|token$|private")
    for endpoint in ENDPOINTS.values():
        for name, parameter in parameters_of(endpoint.request).items():
            assert parameter.secret or not telling.search(name), name
        for cls in endpoint.decisions:
            for model in (contract_of(cls), *contract_of(cls).nested):
                for name in model.names:
                    is_secret = model.field(name).privacy is Privacy.SECRET
                    assert is_secret or not telling.search(name), name
