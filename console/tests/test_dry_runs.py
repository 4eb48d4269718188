"""Dry runs in a process of their own: places, secrets, time limits and broken configurations."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from pexpolicy_console.dry_run.messages import (
    CheckFile,
    Explain,
    Failed,
    ListRooms,
    ListRules,
    LookUp,
    Question,
)
from pexpolicy_console.dry_run.process import MAX_WAITING, DryRunFailed, DryRuns
from pexpolicy_console.dry_run.worker import Worker
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
        self.worker = Worker(config)

    async def ask(self, question: Question) -> Any:
        """Return the answer; raise ``DryRunFailed``."""
        answer = await self.worker.answer(question)
        if isinstance(answer, Failed):
            raise DryRunFailed(answer.failures)
        return answer


@pytest.fixture
async def dry(config: Path) -> AsyncIterator[Direct]:
    direct = Direct(config)
    yield direct
    await direct.worker.close()


async def test_a_request_is_answered_by_the_configuration_on_the_disk(dry: Direct) -> None:
    walk = await dry.ask(Explain("board@example.com", at="2026-11-27 14:00 Europe/Oslo"))
    assert (walk.decided_by, walk.reply["result"]["pin"]) == ("rooms", "***")
    assert walk.place == "config.toml line 22"
    assert [step.outcome for step in walk.steps] == ["abstained", "decided"]
    assert "20:00 to 06:00 Europe/Oslo; it is 14:00" in walk.notes[0]
    late = await dry.ask(Explain("board@example.com", at="2026-11-27 22:00 Europe/Oslo"))
    assert (late.action, late.place) == ("reject", "config.toml line 4")


async def test_one_alias_is_looked_up_at_each_endpoint_in_any_spelling(dry: Direct) -> None:
    found = await dry.ask(LookUp("SIP:Meet7@Example.com;x=y", NOON))
    first = found.walks[0]
    assert (first.endpoint, first.reply["result"]["name"]) == ("service_configuration", "Seven")
    assert first.place == "rooms.csv line 2"
    assert [walk.decided_by for walk in found.walks[1:]] == ["default"] * 4
    assert found.places == ["rooms.csv line 2"]


async def test_a_row_that_was_changed_is_answered_at_once(dry: Direct, config: Path) -> None:
    assert (await dry.ask(ListRooms("seven"))).matching == 2
    (config.parent / "rooms.csv").write_text(CSV + "meet9@example.com;Seven too\n")
    assert (await dry.ask(ListRooms("SEVEN"))).matching == 3


async def test_rooms_are_listed_in_parts_without_their_secrets(dry: Direct) -> None:
    first = await dry.ask(ListRooms(limit=2))
    rest = await dry.ask(ListRooms(skip=2, limit=10))
    assert (first.total, first.matching) == (5, 5)
    listed = [room.alias for room in (*first.rooms, *rest.rooms)]
    assert listed == [
        "board@example.com",
        "board2@example.com",
        "meet7@example.com",
        "meet7b",
        "meet8@example.com",
    ]
    assert first.rooms[0].fields["pin"] == "***"
    assert (await dry.ask(ListRooms("sip:MEET8@example.com"))).rooms[0].name == "Eight"


async def test_personal_data_is_hidden_as_the_audit_hides_it(dry: Direct, config: Path) -> None:
    write(config, more='[privacy]\npersonal = "dropped"\n')
    hidden = await dry.ask(ListRooms(hides_personal=True))
    assert {room.alias for room in hidden.rooms} == {"***"}
    assert "board" not in str([(room.place, room.fields) for room in hidden.rooms]).replace(
        "'service_tag': 'board'", ""
    )
    rules = (await dry.ask(ListRules(hides_personal=True))).rules
    assert not any("example" in f"{rule.condition}{rule.findings}" for rule in rules)
    assert (await dry.ask(ListRooms())).rooms[0].alias == "board@example.com"


async def test_rules_are_listed_in_their_order_with_what_shadows_them(dry: Direct) -> None:
    night, never, shadowed = (await dry.ask(ListRules())).rules
    assert (night.number, night.name, night.actions) == (1, "At night", ["reject"])
    assert night.condition == "time = 20:00 to 06:00 Europe/Oslo"
    assert [rule.place for rule in (never, shadowed)] == [
        "config.toml line 9",
        "config.toml line 14",
    ]
    assert not never.findings
    assert "never decides: rule 'Never' before it" in shadowed.findings[0]


async def test_mistakes_are_named(dry: Direct) -> None:
    for question, words in (
        (Explain("no request at all?"), "is not one of the paths"),
        (Explain("board", at="yesterday at noon"), "is not a time"),
        (Explain("0193ffff-0000"), "standard output"),
        (Explain("board", "service_configuration", "carrier pigeon"), "carrier pigeon"),
    ):
        with pytest.raises(DryRunFailed, match=words):
            await dry.ask(question)
    with pytest.raises(DryRunFailed, match="is not an alias"):
        await dry.ask(LookUp("@"))


async def test_a_broken_configuration_names_its_problems_until_it_is_mended(
    dry: Direct, config: Path
) -> None:
    active = (await dry.ask(CheckFile())).config_hash
    assert (await dry.ask(CheckFile(active))).changes == []
    write(config, more="[plugins.rooms2]\n")
    assert "rooms2" in (await dry.ask(CheckFile(active))).problems[0]
    with pytest.raises(DryRunFailed, match="rooms2"):
        await dry.ask(Explain("board@example.com"))
    write(config, board="Boardroom")
    mended = await dry.ask(CheckFile(active))
    assert (mended.problems, mended.config_hash == active) == ([], False)
    assert "Boardroom" in str(mended.changes)
    assert (await dry.ask(CheckFile("of another server"))).changes is None


async def test_a_plugin_that_hangs_or_ends_the_process_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/hanging.py").write_text(HANGING)
    config = tmp_path / "config.toml"
    config.write_text('plugin_dirs = ["plugins"]\n[plugins.hanging]\n')
    async with DryRuns(config, timeout=HANG_S) as dry:
        assert (await dry.explain(Explain("quick"))).decided_by == "default"
        with pytest.raises(DryRunFailed, match="exit code 3"):
            await dry.explain(Explain("exit"))
        assert (await dry.explain(Explain("quick"))).decided_by == "default"
        waiting = [asyncio.create_task(dry.explain(Explain("hang")))]
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(dry.explain(Explain("quick"))) for _ in range(8)]
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
    async with DryRuns(config) as dry:
        task = asyncio.create_task(dry.explain(Explain("meet7@example.com", at=NOON)))
        await asyncio.sleep(0.05)
        task.cancel()
        walk = await dry.explain(Explain("meet8@example.com", at=NOON))
        assert walk.reply["result"]["name"] == "Eight"
        assert dry._process is not None
        pid = dry._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_full_example_has_a_place_for_each_decision(tmp_path: Path) -> None:
    copytree(company.EXAMPLE, tmp_path / "full")
    dry = Direct(tmp_path / "full/config.toml")
    night = await dry.ask(LookUp("helpdesk@example.com", "2026-11-27 22:00 Europe/Oslo"))
    day = await dry.ask(LookUp("helpdesk@example.com", "2026-11-27 12:00 Europe/Oslo"))
    await dry.worker.close()
    assert [night.walks[0].place, day.walks[0].place] == ["rules.toml line 9", "rules.toml line 16"]
