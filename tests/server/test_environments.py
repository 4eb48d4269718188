"""Several platforms on one server: each call gets what its own platform has."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
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


@pytest.mark.parametrize(
    ("request_text", "more", "expected"),
    [
        ("board", ("--set", "environment=apac"), "apac"),
        ("board", ("--set", "peer=127.1.0.1"), "emea"),
        ("board", ("--set", "node_ip=127.2.0.1"), "apac"),
        ("board", (), None),
    ],
)
def test_explain_knows_the_environment(
    config: Path, request_text: str, more: tuple[str, ...], expected: str | None
) -> None:
    arguments = ("explain", request_text, "--config", str(config), "--show-secrets", *more)
    result = CliRunner().invoke(main, [*arguments, "--json"])
    shown = json.loads(result.stdout)
    assert shown.get("environment") == expected
    assert board(shown["reply"].get("result"), shown["decided_by"]) == BOARDS[expected]
