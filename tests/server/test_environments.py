"""Several platforms on one server: each call gets what its own platform has."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
from click.testing import CliRunner
from typing_extensions import override

from pexpolicy import Outcome, Plugin, PluginSettings, ServiceConfigurationRequest
from pexpolicy.cli.main import main
from pexpolicy.plugins.binding import bind_observer
from pexpolicy.testing import decide, make_policy, make_request
from tests.support import live_server, wire

CONFIG = """
[auth]
user = "emea-nodes"
password_file = "password.txt"
[[auth.credentials]]
user = "apac-nodes"
password_file = "password.txt"
[[auth.credentials]]
user = "nodes"
password_file = "password.txt"

[environments.emea]
networks = ["127.1.0.0/16"]
credentials = ["emea-nodes"]
infinity.themes = ["Blue"]
[environments.apac]
networks = ["127.2.0.0/16", "127.1.2.0/24"]
credentials = ["apac-nodes"]
infinity.themes = ["Red"]

[plugins.rooms_emea]
plugin = "rooms"
environments = ["emea"]
[plugins.rooms_emea.settings.rooms.board]
name = "Board of EMEA"
pin = "111111"
ivr_theme_name = "Blue"

[plugins.rooms_apac]
plugin = "rooms"
environments = ["apac"]
[plugins.rooms_apac.settings.rooms.board]
name = "Board of APAC"
pin = "222222"
ivr_theme_name = "Red"

[[plugins.rules.settings.rules]]
name = "Hall"
endpoint = "service_configuration"
when.local_alias = "hall"
when.environment = ["emea", "apac"]
then.result = { name = "Hall", service_type = "conference", ivr_theme_name = "Blue" }

[audit]
path = "audit.jsonl"
"""
PASSWORD = "a long password"
CALLS = 600
SENDERS = {
    ("nodes", "127.1.7.7"): "emea",
    ("nodes", "127.2.0.1"): "apac",
    ("nodes", "127.1.2.3"): "apac",
    ("emea-nodes", "127.2.0.2"): "emea",
    ("apac-nodes", "127.1.0.2"): "apac",
    ("apac-nodes", "127.3.0.1"): "apac",
    ("nodes", "127.3.0.2"): None,
}
"""Each user and address, and the environment of its calls."""
BOARDS = {
    "emea": ("Board of EMEA", "111111", "Blue", "rooms_emea"),
    "apac": ("Board of APAC", "222222", "Red", "rooms_apac"),
    None: (None, None, None, "default"),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "password.txt").write_text(PASSWORD)
    (tmp_path / "password.txt").chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def board(result: dict[str, Any] | None, decided_by: str) -> tuple[str | None, ...]:
    found = result or {}
    return found.get("name"), found.get("pin"), found.get("ivr_theme_name"), decided_by


async def test_one_alias_is_another_room_in_each_environment(config: Path) -> None:
    random.seed(31)
    crossed: Counter[tuple[Any, ...]] = Counter()
    with live_server.running(config) as server:

        async def call(sender: tuple[str, str], count: int) -> None:
            user, address = sender
            connector = aiohttp.TCPConnector(local_addr=(address, 0), limit=2)
            headers = wire.basic(user, PASSWORD)
            async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
                for _ in range(count):
                    url = f"{server.url}{wire.SERVICE}?local_alias=board"
                    async with http.get(url) as reply:
                        sent = await reply.json()
                    found = board(sent.get("result"), sent["decided_by"])
                    crossed[sender, found] += found != BOARDS[SENDERS[sender]]

        senders = [*SENDERS] * 2
        await asyncio.gather(*(call(one, CALLS // len(senders)) for one in senders))
        metrics = server.operator("/metrics").body.decode()
        hall = {
            user: server.ask(f"{wire.SERVICE}?local_alias=hall", headers=wire.basic(user, PASSWORD))
            for user in ("emea-nodes", "apac-nodes")
        }
    assert not +crossed
    # A theme of another platform is an invalid answer, which Infinity would drop.
    assert [one.json["decided_by"] for one in hall.values()] == ["rules", "default"]
    lines = [one for one in server.lines() if one.get("request", {}).get("local_alias") == "board"]
    of_lines = Counter(line.get("environment") for line in lines)
    each = CALLS // len(senders) * 2
    assert of_lines == {"emea": 2 * each, "apac": 4 * each, None: each}
    assert {line.get("environment") for line in lines if "environment" in line} == {"emea", "apac"}
    name = "pexpolicy_environment_requests_total"
    assert f'{name}{{environment="apac",outcome="continue"}} {4 * each}.0' in metrics


def invoked(*arguments: object) -> Any:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    return json.loads(result.stdout)


LINE: dict[str, Any] = {
    "event": "decision",
    "timestamp": "2026-11-30T10:00:00Z",
    "endpoint": "service_configuration",
}
LINE |= {"decision_id": "01a21052-3a66-7197-9988-3ce2ee2b0306", "request": {"local_alias": "board"}}
LINE |= {"steps": [], "decided_by": "default", "action": "continue", "status": 200, "sent": None}
ASKED = [
    ("board", ("environment=apac",), "apac"),
    ("board", ("peer=127.1.0.1",), "emea"),
    ("board", ("node_ip=127.2.0.1",), "apac"),
    ("board", (), None),
    ({"peer": "127.1.0.1", "environment": "apac"}, (), "apac"),
    ({"peer": "127.1.0.1", "environment": "apac"}, ("peer=127.1.0.2",), "emea"),
    ({"peer": "127.1.0.1", "environment": "of_old"}, (), "emea"),
    ("/policy/v1/service/configuration?local_alias=board&node_ip=127.1.0.1", (), "emea"),
]
"""A request, what is changed in it, and the environment that it is of."""


@pytest.mark.parametrize(("asked", "changes", "expected"), ASKED)
def test_explain_and_replay_ask_as_the_environment(
    config: Path, asked: str | dict[str, Any], changes: tuple[str, ...], expected: str | None
) -> None:
    text = asked if isinstance(asked, str) else json.dumps({**LINE, **asked})
    pairs = [part for change in changes for part in ("--set", change)]
    shown = invoked("explain", text, "--config", config, "--show-secrets", "--json", *pairs)
    assert shown.get("environment") == expected
    assert board(shown["reply"].get("result"), shown["decided_by"]) == BOARDS[expected]
    if text != "board" and not changes:
        (config.parent / "records").write_text(f"{text}\n")
        found = invoked("replay", config.parent / "records", "--config", config, "--json")
        assert BOARDS[expected][3] in json.dumps(found) or not found["changed"]


def test_a_case_is_of_an_environment(config: Path) -> None:
    cases = config.parent / "cases.toml"
    sent = 'endpoint = "service_configuration"\nrequest = { local_alias = "board" }\n'
    lines = [
        ('environment = "apac"', "rooms_apac"),
        ('peer = "127.1.0.1"', "rooms_emea"),
        ("", "default"),
    ]
    cases.write_text(
        "".join(
            f'[[case]]\nname = "{number}"\n{sent}{given}\nexpect = {{ decided_by = "{name}" }}\n'
            for number, (given, name) in enumerate(lines)
        )
    )
    result = CliRunner().invoke(main, ["test", str(cases), "--config", str(config)])
    assert result.exit_code == 0, result.output
    cases.write_text(f'[[case]]\nname = "x"\n{sent}environment = "emae"\n')
    result = CliRunner().invoke(main, ["test", str(cases), "--config", str(config)])
    assert result.exit_code == 1
    assert "[environments.emae]; did you mean 'emea'" in result.output


MISTAKES = [
    ('environments = ["emea"]', 'environments = ["emae"]', "[environments.emae]; did you mean"),
    ('["127.2.0.0/16",', '["127.2.0.0/16", "127.1.0.0/16",', "is of environment emea too"),
    ('credentials = ["apac-nodes"]', 'credentials = ["emea-nodes"]', "is of environment emea too"),
    ('credentials = ["apac-nodes"]', 'credentials = ["apac"]', "no such user"),
    ('infinity.themes = ["Red"]', 'infinity.themes = ["Rose"]', "'Red' is not listed under"),
    ('infinity.themes = ["Red"]', 'events = "apac"', "[events] has no source 'apac'"),
    ('when.environment = ["emea"', 'when.environment = ["emae"', "environment.equals = 'emae'"),
    ("[audit]", "[environments.none]\n[audit]", "no call is of it"),
]


@pytest.mark.parametrize(("written", "instead", "expected"), MISTAKES)
def test_check_names_what_does_not_fit(
    config: Path, written: str, instead: str, expected: str
) -> None:
    config.write_text(CONFIG.replace(written, instead, 1))
    found = invoked("check", "--config", config, "--json")
    assert expected in json.dumps(found["errors"] + found["warnings"], ensure_ascii=False)


@pytest.mark.parametrize(("theme", "count"), [("Blue", 0), ("Red", 0), ("Rose", 1)])
def test_a_name_in_a_plugin_for_all_platforms_is_one_of_any(
    theme: str, count: int, config: Path
) -> None:
    room = f'a = {{ name = "A", ivr_theme_name = "{theme}" }}'
    config.write_text(f"{CONFIG}[plugins.rooms.settings.rooms]\n{room}\n")
    errors = invoked("check", "--config", config, "--json")["errors"]
    assert [f"{theme!r} is not listed" in one["message"] for one in errors] == [True] * count


class Witness(Plugin[PluginSettings]):
    """Sees what its environments tell it."""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    @override
    async def service_configuration(self, request: ServiceConfigurationRequest) -> None:
        self.seen.append(("asked", request.environment))

    @override
    async def on_decision(self, outcome: Outcome) -> None:
        self.seen.append(("told", outcome.request.environment))


@pytest.mark.parametrize("mode", ["decide", "shadow"])
async def test_a_limited_plugin_sees_no_other_environment(mode: str) -> None:
    Witness.seen.clear()
    tables = {"emea": {"networks": ["10.1.0.0/16"]}, "apac": {"networks": ["10.2.0.0/16"]}}
    table = {"environments": ["emea"], "mode": mode}
    config = {"environments": tables, "plugins": {"witness": table}}
    async with make_policy([Witness], config=config).serving() as policy:
        for name in ("emea", "apac", None):
            request = make_request("service_configuration", environment=name)
            await decide(policy, request)
    assert sorted(Witness.seen) == [("asked", "emea"), ("told", "emea")]
    sources = {"emea": "one", "apac": "two"}
    observer = bind_observer(policy.plugins[0], sources=sources)
    assert observer is not None
    assert [observer.observes(source) for source in ("one", "two", "default")] == [
        True,
        False,
        False,
    ]
