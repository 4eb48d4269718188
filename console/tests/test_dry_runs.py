"""Dry runs in a process of their own: places, secrets, time limits and broken configurations."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from pexpolicy_console.children import MAX_WAITING, DryRunFailed, DryRuns
from pexpolicy_console.worker import DryRunWorker
from tests.support import company, secret_canaries, virtual_time
from tests.support.waiting import HANG_S

CONFIG = f"""
[plugins.rules]
priority = 10
[[plugins.rules.settings.rules]]
name = "At night"
endpoint = "service_configuration"
when.time = {{ between = ["20:00", "06:00"], zone = "Europe/Oslo" }}
then = "reject"
[[plugins.rules.settings.rules]]
name = "Never"
endpoint = "service_configuration"
when.local_alias.host = "a.example"
then = "reject"
[[plugins.rules.settings.rules]]
name = "Shadowed"
endpoint = "service_configuration"
when.local_alias.equals = "b@a.example"
then = "continue"

[plugins.rooms]
priority = 20
[plugins.rooms.settings.rooms."sip:Board@example.com"]
name = "Board"
service_tag = "board"
pin = "{secret_canaries.PIN}"
aliases = ["board2@example.com"]
[plugins.rooms.settings]
csv = "rooms.csv"
"""
NOON = "2026-11-27 12:00 Europe/Oslo"
"""A time without its zone is of the machine: it may be at night in Oslo."""
CSV = "aliases;name\nmeet7@example.com meet7b;Seven\nmeet8@example.com;Eight\n"

HANGING = """
import os, time
from pexpolicy import Plugin
class Hanging(Plugin):
    async def service_configuration(self, request):
        if request.local_alias.user == "hang":
            time.sleep(60)
        if request.local_alias.user == "exit":
            os._exit(3)
        print("a plugin may print")
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rooms.csv").write_text(CSV)
    (tmp_path / "rooms.csv").chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


def write(config: Path, *, more: str = "", board: str = "Board") -> None:
    """Write the configuration with another name of a room, and ``more`` at its end."""
    config.write_text(CONFIG.replace('"Board"', f'"{board}"') + more)


class Direct:
    """Asks the worker in the process of the test."""

    def __init__(self, config: Path) -> None:
        self.worker = DryRunWorker(config)

    async def ask(self, question: str, **arguments: Any) -> Any:
        """Return the answer; raise ``DryRunFailed``."""
        reply = await self.worker.answer(question, **arguments)
        if "failures" in reply:
            raise DryRunFailed(reply["failures"])
        return reply["answer"]


@pytest.fixture
async def dry(config: Path) -> AsyncIterator[Direct]:
    direct = Direct(config)
    yield direct
    await direct.worker.close()


async def test_a_request_is_answered_by_the_configuration_on_the_disk(dry: Direct) -> None:
    board = {"request": "board@example.com"}
    walk = await dry.ask("explain", **board, at="2026-11-27 14:00 Europe/Oslo")
    assert (walk["decided_by"], walk["reply"]["result"]["pin"]) == ("rooms", "***")
    assert walk["place"] == "config.toml line 22"
    assert [step["outcome"] for step in walk["steps"]] == ["abstained", "decided"]
    assert "20:00 to 06:00 Europe/Oslo; it is Friday 2026-11-27 14:00" in walk["notes"][0]
    late = await dry.ask("explain", **board, at="2026-11-27 22:00 Europe/Oslo")
    assert (late["action"], late["place"]) == ("reject", "config.toml line 4")


async def test_one_alias_is_looked_up_at_each_endpoint_in_any_spelling(dry: Direct) -> None:
    found = await dry.ask("look_up", alias="SIP:Meet7@Example.com;x=y", at=NOON)
    first, *others = found["walks"]
    assert first["endpoint"] == "service_configuration"
    assert first["reply"]["result"]["name"] == "Seven"
    assert first["place"] == "rooms.csv line 2"
    assert [walk["decided_by"] for walk in others] == ["default"] * 4


async def test_a_row_that_was_changed_is_answered_at_once(dry: Direct, config: Path) -> None:
    assert (await dry.ask("rooms", text="seven"))["matching"] == 2
    (config.parent / "rooms.csv").write_text(CSV + "meet9@example.com;Seven too\n")
    assert (await dry.ask("rooms", text="SEVEN"))["matching"] == 3


async def test_rooms_are_listed_in_parts_without_their_secrets(dry: Direct) -> None:
    first = await dry.ask("rooms", limit=2)
    rest = await dry.ask("rooms", skip=2, limit=10)
    assert (first["total"], first["matching"]) == (5, 5)
    assert [room["alias"] for room in (*first["rooms"], *rest["rooms"])] == [
        "board@example.com",
        "board2@example.com",
        "meet7@example.com",
        "meet7b",
        "meet8@example.com",
    ]
    assert first["rooms"][0]["fields"]["pin"] == "***"
    (eight,) = (await dry.ask("rooms", text="sip:MEET8@example.com"))["rooms"]
    assert eight["name"] == "Eight"


async def test_personal_data_is_hidden_as_the_audit_hides_it(dry: Direct, config: Path) -> None:
    write(config, more='[privacy]\npersonal = "dropped"\n')
    hidden = (await dry.ask("rooms", hides_personal=True))["rooms"]
    assert {room["alias"] for room in hidden} == {"***"}
    assert "board" not in str([(room["place"], room["fields"]) for room in hidden]).replace(
        "'service_tag': 'board'", ""
    )
    rules = await dry.ask("rules", hides_personal=True)
    assert not any("example" in f"{rule['condition']}{rule['findings']}" for rule in rules)
    assert (await dry.ask("rooms"))["rooms"][0]["alias"] == "board@example.com"


async def test_rules_are_listed_in_their_order_with_what_shadows_them(dry: Direct) -> None:
    night, never, shadowed = await dry.ask("rules")
    assert (night["number"], night["name"], night["actions"]) == (1, "At night", ["reject"])
    assert night["condition"] == "time = 20:00 to 06:00 Europe/Oslo"
    places = [rule["place"] for rule in (never, shadowed)]
    assert places == ["config.toml line 9", "config.toml line 14"]
    assert not never["findings"]
    assert "'Never'" in shadowed["findings"][0]


@pytest.mark.parametrize(
    ("question", "arguments", "words"),
    [
        ("explain", {"request": "no request at all?"}, "is not one of the paths"),
        ("explain", {"request": "board", "at": "yesterday at noon"}, "is not a time"),
        ("explain", {"request": "0193ffff-0000"}, "standard output"),
        (
            "explain",
            {"request": "x", "endpoint": "service_configuration", "shape": "pigeon"},
            "pigeon",
        ),
        ("look_up", {"alias": "@"}, "is not an alias"),
    ],
)
async def test_mistakes_are_named(
    dry: Direct, question: str, arguments: dict[str, str], words: str
) -> None:
    with pytest.raises(DryRunFailed, match=words):
        await dry.ask(question, **arguments)


async def test_a_broken_configuration_names_its_problems_until_it_is_mended(
    dry: Direct, config: Path
) -> None:
    active = await dry.ask("check")
    assert set(active["files"]) == {str(config), str(config.with_name("rooms.csv"))}
    write(config, more="[plugins.rooms2]\n")
    assert "rooms2" in (await dry.ask("check"))["problems"][0]
    with pytest.raises(DryRunFailed, match="rooms2"):
        await dry.ask("explain", request="board@example.com")
    write(config, board="Boardroom")
    mended = await dry.ask("check")
    assert (mended["problems"], mended["policy_hash"] == active["policy_hash"]) == ([], False)


async def test_a_plugin_that_hangs_or_ends_the_process_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/hanging.py").write_text(HANGING)
    config = tmp_path / "config.toml"
    config.write_text('plugin_dirs = ["plugins"]\n[plugins.hanging]\n')
    async with aclosing(DryRuns(config, timeout=HANG_S)) as dry:
        assert (await dry.ask("explain", request="quick"))["decided_by"] == "default"
        with pytest.raises(DryRunFailed, match="exit code 3"):
            await dry.ask("explain", request="exit")
        assert (await dry.ask("explain", request="quick"))["decided_by"] == "default"
        waiting = [asyncio.create_task(dry.ask("explain", request="hang"))]
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(dry.ask("explain", request="quick")) for _ in range(8)]
        for _ in range(20):
            await asyncio.sleep(0)
        virtual_time.skip(HANG_S + 1)
        hung, *answered, refused = await asyncio.gather(*waiting, return_exceptions=True)
        assert f"no answer within {HANG_S:.3g} s" in str(hung)
        assert f"{MAX_WAITING} dry runs are waiting" in str(refused)
        assert [isinstance(one, Exception) for one in answered] == [False] * 7


async def test_a_cancelled_question_is_not_answered_later_and_the_process_ends_with_the_console(
    config: Path,
) -> None:
    async with aclosing(DryRuns(config, None)) as dry:
        task = asyncio.create_task(dry.ask("explain", request="meet7@example.com", at=NOON))
        await asyncio.sleep(0.05)
        task.cancel()
        walk = await dry.ask("explain", request="meet8@example.com", at=NOON)
        assert walk["reply"]["result"]["name"] == "Eight"
        pid = dry.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_full_example_has_a_place_for_each_decision(tmp_path: Path) -> None:
    copytree(company.EXAMPLE, tmp_path / "full")
    dry = Direct(tmp_path / "full/config.toml")
    at_hours = [
        await dry.ask("look_up", alias="helpdesk@example.com", at=f"2026-11-27 {hour} Europe/Oslo")
        for hour in ("22:00", "12:00")
    ]
    await dry.worker.close()
    places = [found["walks"][0]["place"] for found in at_hours]
    assert places == ["rules.toml line 9", "rules.toml line 16"]
