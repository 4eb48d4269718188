"""The plugin: two processes over one engine, what it tells rules and operators, and staleness."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from click.testing import CliRunner

from pexpolicy.background.shared_postgresql import PostgresqlState
from pexpolicy.background.shared_state import SharedState, SqliteState
from pexpolicy.cli.main import main
from pexpolicy.events import SourceStale
from pexpolicy.models.event import typed_event
from pexpolicy.testing import ConfigError, Simulator, decide, make_policy, make_request, server
from pexpolicy_live import Live, plugin
from tests.support import postgresql

NOW = 2e9
LATER = 10**8
"""The number of an event that is sent in three years."""


class Process:
    """The plugin in one process."""

    def __init__(self, state: SharedState) -> None:
        self.state = state
        self.policy = make_policy(
            Live, config={"tenants": {"acme": {"aliases": ["*@acme.example"]}}}
        )
        (built,) = self.policy.plugins
        for item in built.shared:
            item.bind("live", state)
        self.live = cast("Live", built.instance)

    async def get(self, *bodies: dict[str, Any], source: str = "default") -> None:
        await self.live.on_events([typed_event(body, source, NOW + 60) for body in bodies])

    async def counts(self, name: str) -> tuple[int, int, int]:
        await self.live.read()
        found = self.live.document()["services"][name]
        return found.participants, found.hosts, found.waiting


@pytest.fixture
async def processes(
    engine: postgresql.Server | None, tmp_path: Path
) -> AsyncIterator[list[Process]]:
    states: list[SharedState] = [SqliteState(tmp_path / "shared.sqlite", 5.0) for _ in range(2)]
    if engine is not None:
        states = [PostgresqlState(engine.url, postgresql.PASSWORD, 5.0) for _ in range(2)]
    yield [Process(state) for state in states]
    for state in states:
        await state.close()


def event(name: str, seq: int, **data: Any) -> dict[str, Any]:
    """An event of a participant in a room, a second after the one before."""
    envelope = {"node": "10.0.0.1", "seq": seq, "version": 2, "time": NOW + seq}
    usual = {"uuid": "u1", "conference": "room", "service_type": "conference", "connect_time": NOW}
    return {**envelope, "event": f"participant_{name}", "data": {**usual, **data}}


async def test_halves_of_the_events_in_two_processes_are_one_truth(
    processes: list[Process],
) -> None:
    platform = Simulator(random.Random(5))
    people = [platform.join(f"room{n % 3}", "sip", through=["ivr"] * (n % 2)) for n in range(30)]
    for person in people[::2]:
        platform.leave(person)
    for person in people[1::4]:
        platform.move(person, "breakout")
    for number, body in enumerate(platform.deliver(repeat=0.3, reorder=20).bodies):
        await processes[number % 2].get(body)
    for process in processes:
        found = {name: await process.counts(name) for name in platform.truth()}
        assert found == platform.truth()


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([event("connected", 1, service_type="connecting", connect_time=None)], (0, 0, 0)),
        ([event("connected", 1, service_type="waiting_room")], (0, 0, 1)),
        ([event("connected", 1, role="chair")], (1, 1, 0)),
        ([event("connected", 1, service_type="ivr")], (0, 0, 0)),
        ([event("connected", 1, protocol="API"), event("connected", 2, uuid="u2")], (1, 0, 0)),
        ([event("connected", 1, has_media=False)], (0, 0, 0)),
        ([event("connected", 1, is_streaming=True)], (0, 0, 0)),
        ([event("disconnected", 2), event("connected", 1)], (0, 0, 0)),
        ([event("connected", 1), event("disconnected", 2), event("updated", 3)], (1, 0, 0)),
        ([event("connected", 1), event("connected", 2, conference="other")], (0, 0, 0)),
        (
            [
                event("connected", 1, conference="other"),
                event("connected", 2),
                event("disconnected", 3, conference="other"),
            ],
            (1, 0, 0),
        ),
        ([event("disconnected", 3, conference="other"), event("updated", 2)], (0, 0, 0)),
        ([event("connected", LATER), event("disconnected", 2)], (0, 0, 0)),
        ([event("connected", 1), event("disconnected", LATER)], (1, 0, 0)),
        ([event("disconnected", LATER + 1), event("connected", LATER)], (0, 0, 0)),
        ([event("connected", 1, uuid="u" * 1000)], None),
        ([event("connected", 1, conference="\ud800" + "r" * 9999)], None),
        (
            [event("connected", n, uuid=f"u{n}", conversation_id="one person") for n in range(3)],
            (1, 0, 0),
        ),
    ],
)
async def test_who_counts(
    processes: list[Process], events: list[dict[str, Any]], expected: tuple[int, int, int] | None
) -> None:
    await processes[0].get(*events)
    if expected is None:
        await processes[1].live.read()
        assert "room" not in processes[1].live.document()["services"]
    else:
        assert await processes[1].counts("room") == expected


async def test_a_conference_that_has_ended_on_all_nodes_ends_those_whose_end_was_lost(
    processes: list[Process],
) -> None:
    one, two = processes

    def conference(what: str, seq: int, node: str) -> dict[str, Any]:
        sent = event("", seq)
        return {**sent, "node": node, "event": f"conference_{what}", "data": {"name": "room"}}

    await one.get(conference("started", 1, "10.0.0.1"), conference("started", 1, "10.0.0.2"))
    await two.get(event("connected", 2), conference("ended", 3, "10.0.0.1"))
    assert await one.counts("room") == (1, 0, 0)
    await one.get(conference("ended", 3, "10.0.0.2"))
    assert await two.counts("room") == (0, 0, 0)
    two.live._presence.expire(time.monotonic() + 3600)
    assert two.live._presence.total.participants == 0
    await two.get(conference("started", 4, "10.0.0.1"), event("connected", 5, uuid="u2"))
    # A server that is started now reads the same.
    for process in (one, two, Process(one.state)):
        assert await process.counts("room") == (1, 0, 0)
    await one.get(event("updated", 6))
    assert await two.counts("room") == (2, 0, 0)


async def test_two_platforms_share_no_participants(processes: list[Process]) -> None:
    one, two = processes
    await one.get(event("connected", 1), source="eu")
    await two.get(event("connected", 1), source="us")
    assert await one.counts("room") == (2, 0, 0)
    await two.get(event("disconnected", 2), source="us")
    assert await one.counts("room") == (1, 0, 0)


def stale(node: str, why: str, *, is_stale: bool = True) -> SourceStale:
    where: dict[str, Any] = {"source": "default", "node": node, "event": "source_stale"}
    return SourceStale(**where, seq=0, time=NOW, received=NOW, why=why, is_stale=is_stale)


async def test_what_is_missing_is_stale_until_it_comes_or_for_twelve_hours(
    processes: list[Process],
) -> None:
    one, two = processes
    await one.live.on_events([stale("10.0.0.1", "events 7 to 8"), stale("10.0.0.2", "started")])
    await one.get(event("connected", 1))
    assert await two.counts("room") == (1, 0, 0)
    assert two.live.document()["stale"] is True
    assert [(one["node"], one["why"]) for one in two.live.stale_because()] == [
        ("10.0.0.1", "events 7 to 8"),
        ("10.0.0.2", "started"),
    ]
    await two.live.on_events([stale("10.0.0.2", "", is_stale=False)])
    await one.live.read()
    assert [one["node"] for one in one.live.stale_because()] == ["10.0.0.1"]
    now = time.monotonic()
    presence = one.live._presence
    presence.expire(now + 11.9 * 3600)
    assert presence.stale
    assert presence.total.participants == 1
    presence.expire(now + 12.1 * 3600)
    assert not presence.stale
    assert presence.total.participants == 0


async def test_a_flood_is_bounded_and_hurts_no_other_platform(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "MAX_KNOWN", 10)
    one, _ = processes
    for n in range(20):
        await one.get(event("connected", n, uuid=f"u{n}"), source="flooded")
        await one.live.read()
    await one.get(
        event("connected", 1, uuid="known"), event("disconnected", 99, uuid="u3"), source="other"
    )
    await one.get(event("disconnected", 99, uuid="u3"), source="flooded")
    assert await one.counts("room") == (10, 0, 0)
    assert [(one["source"], one["why"][:12]) for one in one.live.stale_because()] == [
        ("flooded", "more than 10")
    ]


async def test_a_breakout_room_belongs_to_the_tenant_of_the_call(processes: list[Process]) -> None:
    one, two = processes
    move = {"conference": "breakout", "destination_alias": "breakout"}
    await one.get(event("connected", 1, destination_alias="x@acme.example"))
    await two.get(event("connected", 2, **move))
    assert await one.counts("breakout") == (1, 0, 0)
    assert one.live.document()["tenants"]["acme"].participants == 1


async def test_names_and_addresses_of_people_are_not_stored(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "shared.sqlite", 5.0)
    people = {"display_name": "Ann Secret", "source_alias": "ann.secret@acme.example"}
    people |= {"remote_address": "10.9.8.7", "destination_alias": "bob.secret@acme.example"}
    process = Process(state)
    await process.get(event("connected", 1, call_direction="in", **people))
    await process.live.read()
    assert process.live.document()["tenants"]["acme"].participants == 1
    await state.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240 - a test
    assert b"u1" in stored
    assert not [word for word in (b"ecret", b"10.9.8.7") if word in stored]


RULES = [
    {
        "name": name,
        "endpoint": endpoint,
        "when": {"live": when},
        "then": {"action": "reject", "reason": name},
    }
    for name, endpoint, when in (
        ("full", "service_configuration", {"tenant": {"not_less": 1}}),
        ("no host", "participant_properties", {"hosts": 0, "stale": False}),
    )
]


async def test_rules_read_the_counts_wherever_they_stand_in_the_chain() -> None:
    config = {
        "tenants": {"acme": {"aliases": ["*@acme.example"]}},
        "environments": {"emea": {"events": "emea"}},
        "plugins": {"rules": {"settings": {"rules": RULES}}, "live": {}},
    }
    asked = [
        make_request("service_configuration", local_alias="bob@acme.example"),
        make_request("service_configuration", local_alias="bob@bolt.example"),
        make_request("participant_properties", service_name="room"),
        make_request("participant_properties", service_name="room", environment="emea"),
    ]

    async with make_policy([], config=config).serving() as policy:
        live = cast("Live", policy.plugins[1].instance)

        async def decided() -> list[str]:
            await live.read()
            return [(await decide(policy, request)).decision.reason or "" for request in asked]

        assert await decided() == ["", "", *["rule no host: no host"] * 2]
        told = event("connected", 1, role="chair", destination_alias="x@acme.example")
        await live.on_events([typed_event(told, "default", NOW)])
        # The room of the same name on another platform still has none.
        assert await decided() == ["rule full: full", "", "", "rule no host: no host"]
        await live.on_events([typed_event(told, "emea", NOW)])
        assert await decided() == ["rule full: full", "", "", ""]


def test_without_an_event_sink_there_is_a_warning() -> None:
    (warning,) = make_policy(Live).warnings
    assert str(warning).startswith("plugins.live: it gets no events")


def test_conditions_without_the_plugin_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"plugins\.live: is not active.*live\.tenant"):
        make_policy([], config={"plugins": {"rules": {"settings": {"rules": RULES}}}})


async def test_operators_read_the_same_as_json() -> None:
    config = {"admin": {"port": 0}, "plugins": {"live": {}}, "tenants": {"acme": {}}}
    async with server([], config=config) as running, aiohttp.ClientSession() as http:
        async with http.get(f"{running.admin_url}/plugins/live/") as reply:
            told = await reply.json()
        assert told["services"] == {}
        assert told["tenants"] == {"acme": {"participants": 0, "hosts": 0, "waiting": 0}}
        assert told["stale"] is False
        assert datetime.fromisoformat(told["as_of"]).tzinfo is not None
        async with http.get(f"{running.admin_url}/status") as reply:
            (status,) = [one["status"] for one in (await reply.json())["plugins"]]
        assert (status["participants"], status["stale"]) == (0, [])


def test_the_command_reads_what_was_stored_without_a_server(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[server]\nstate_dir = "state"\n[admin]\nenabled = false\n[plugins.live]\n')

    async def store() -> None:
        (tmp_path / "state").mkdir(mode=0o700)
        state = SqliteState(tmp_path / "state/shared.sqlite", 5.0)
        await Process(state).get(event("connected", 1, role="chair"))
        await state.close()

    def told(*options: str) -> str:
        found = CliRunner().invoke(main, ["live", "-c", str(config), *options])
        assert found.exit_code == 0, found.output
        return found.output

    assert json.loads(told("--json"))["services"] == {}
    asyncio.run(store())
    assert json.loads(told("--json"))["services"] == {
        "room": {"participants": 1, "hosts": 1, "waiting": 0}
    }
    assert "room" in told()
    config.write_text(config.read_text().replace("[plugins.live]", ""))
    found = CliRunner().invoke(main, ["live", "-c", str(config)])
    assert (found.exit_code, "no [plugins.live]" in found.output) == (1, True)


async def test_conditions_in_a_process_of_its_own_are_an_error() -> None:
    rules = {"isolation": "process", "settings": {"rules": RULES}}
    policy_config = {"plugins": {"rules": rules, "live": {}}}
    with pytest.raises(ConfigError, match=r"live\.tenant need isolation"):
        async with make_policy([], config=policy_config).serving():
            pass
