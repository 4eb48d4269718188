"""The pages Servers, Live and limits, and Meetings, by what an admin listener says."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pexpolicy_console.index.reader import IndexReader, Tally
from pexpolicy_console.index.writer import IndexWriter
from pexpolicy_console.pages.changes import Change
from pexpolicy_console.pages.chart import SPANS, bounds, chart
from pexpolicy_console.pages.live import policies_over
from pexpolicy_console.pages.overview import marks_of, read
from tests.support import live_console
from tests.support.audit_lines import EPOCH, append, line
from tests.support.live_console import LiveConsole, plugin_state, running_console
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

PIN = "551204"


def member(name: str, **facts: Any) -> dict[str, Any]:
    """What is known of a server that decides as the others."""
    known = {
        "url": f"http://{name}:9107",
        "instance": name,
        "version": "1.4.0",
        "bundle": "",
        "plugins": {"rooms": "1.4.0"},
        "policy_hash": "a" * 16,
        "since": 1_795_000_000.0,
        "not_ready": "",
        "refused": "",
        "audit": "healthy",
        "audit_lag": 0.4,
        "last_call": 1_795_000_000.0,
        "silent": "",
    }
    return known | facts


PLUGINS = [plugin_state(name) for name in ("live", "limits", "meetings")]
FULL = {"soft": 5, "hard": 8, "now": 8, "peak": 8, "refused": 3}
MEETING = {
    "id": "m1",
    "tenant": "acme",
    "name": "acme-1",
    "title": "Town hall",
    "state": "running",
    "start": "2026-11-24T10:00:00Z",
    "end": "2026-11-24T15:00:00Z",
    "people": 24,
}
ANSWERS: dict[str, Any] = {
    "/status": live_console.status_document(plugins=PLUGINS),
    "/fleet": {
        "servers": [
            member("oslo-1"),
            member("oslo-2", version="1.3.1"),
            member("oslo-3"),
            member("bergen-1", policy_hash="b" * 16, refused="rooms.csv line 212: no PIN"),
            member("tromso-1", silent="no answer within 5 s", policy_hash="", instance=""),
        ],
        "differences": ["bergen-1: keeps its policy, as it refused: rooms.csv line 212: no PIN"],
    },
    "/plugins/live/": {
        "services": {"Hall": {"participants": 8, "hosts": 1, "waiting": 2}},
        "tenants": {
            name: {"participants": 3, "hosts": 0, "waiting": 0} for name in ("acme", "uni")
        },
        "as_of": "2026-11-24T14:05:32Z",
        "stale": True,
    },
    "/plugins/live/stale": {
        "stale": [
            {"source": "", "node": "10.44.0.31", "why": "a gap", "since": "2026-11-24T14:01Z"}
        ]
    },
    "/plugins/limits/": {"tenants": {"acme": {"participants": FULL}}},
    "/plugins/meetings/meetings": {"items": [MEETING]},
    "/plugins/meetings/tenants/acme/meetings/m1": {**MEETING, "host_pin": PIN},
}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveConsole]:
    config: Path = tmp_path_factory.mktemp("pages") / "config.toml"
    servers = '[fleet]\nservers = ["http://127.0.0.1:1"]\n'
    config.write_text(f'{servers}[admin]\nport = {free_port()}\n[audit]\npath = "audit.jsonl"\n')
    with live_console.admin_listener(config, ANSWERS), running_console(config) as one:
        yield one


def rows(text: str) -> list[str]:
    """The text of each row of the first table."""
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in body.split("</tr>")[:-1]]


def test_odd_servers_are_named_first_and_in_the_navigation(console: LiveConsole) -> None:
    text = console.log_in("viewer").get("/servers").text
    assert "5 servers, 2 policies" in text
    named = rows(text)
    assert [row.split()[0] for row in named[:3]] == ["bergen-1", "http://tromso-1:9107", "oslo-2"]
    assert "refused the change rooms.csv line 212: no PIN" in named[0]
    assert text.count('class="tag trouble"') == 2  # the policy of one, and the version of another
    wait_until(lambda: "2 policies" in console.get("/audit").text)
    wait_until(
        lambda: re.search(r"/servers[^<]*>Servers.*?2", console.get("/audit").text, re.DOTALL)
    )


def test_what_decided_on_each_server_is_shown_over_time(console: LiveConsole) -> None:
    now = datetime.now(UTC)
    with console.config.with_name("audit.jsonl").open("a") as audit:
        for ago, name, policy, error in ((3, "oslo", "a", ""), (2, "oslo", "b", "no PIN")):
            at = (now - timedelta(hours=ago)).isoformat(timespec="microseconds")
            fields = {"policy_hash": policy * 16, "instance": name, "error": error}
            line = {"timestamp": at.replace("+00:00", "Z"), "event": "reload", **fields}
            audit.write(json.dumps(line, separators=(",", ":")) + "\n")
    text = console.log_in("viewer").eventually("/servers", "Policy in force <small>")
    assert 'aria-label="aaaaaa, bbbbbb"' in text
    assert "refuses a change" in text


def test_the_policies_of_each_server_follow_one_another() -> None:
    def change(at: float, policy: str, instance: str, kind: str = "reload") -> Change:
        return Change(at, kind, policy, instance=instance)

    newest_first = [
        change(175, "b", "oslo", "end"),
        change(150, "b", "oslo"),
        change(90, "a", "bergen"),
        change(50, "a", "oslo"),
        change(10, "0", "oslo"),
    ]
    found = policies_over(newest_first, 100, 200)
    places = {name: [(at, one.policy) for at, one in parts] for name, parts in found.items()}
    assert places == {"oslo": [(0, "a"), (50, "b"), (75, "b")], "bergen": [(0, "a")]}


def test_flags_that_would_cover_each_other_become_numbers_or_share_one() -> None:
    span, hour = SPANS["24h"], 3_600_000
    moments = bounds(span, 1_795_000_000, UTC)
    times = [moments[0] + minutes * 60_000 for minutes in (60, 65, 150, 900)]
    marks = [Change(at / 1000, "reload", "a") for at in times]
    drawn = chart(span, moments, [Tally([n, 0, 0]) for n in range(96)], marks, (), UTC, 0)
    groups = [(len(group), number) for _, group, number in drawn.marks]
    assert groups == [(2, 1), (1, 2), (1, 3)]
    alone = chart(span, moments, [Tally() for _ in range(96)], marks[3:], (), UTC, 0)
    assert [(len(group), number) for _, group, number in alone.marks] == [(1, 0)]
    assert moments[-1] - moments[0] == 24 * hour
    # The flag of a late mark is to the left of it, where that of the one before is to the right.
    late = [Change((moments[0] + n * hour) / 1000, "reload", "a") for n in (16, 23)]
    narrow = chart(span, moments, [Tally()] * 96, late, (), UTC, 1)
    assert [(len(group), number) for _, group, number in narrow.marks] == [(1, 1), (1, 2)]


def test_a_column_of_a_day_is_a_day_of_the_zone_and_has_no_counts_where_none_are_known() -> None:
    span, zone = SPANS["14d"], ZoneInfo("Europe/Oslo")  # where 25 October 2026 has 25 hours
    moments = bounds(span, 1_793_300_000, zone)
    clocks = [datetime.fromtimestamp(one / 1000, zone) for one in moments[::4]]
    assert [(one.day, one.hour) for one in clocks[-8:]] == [(23 + n, 0) for n in range(8)]
    tallies = [Tally()] * 56
    drawn = chart(span, moments, tallies, [], [(moments[0], moments[20])], zone, 1)
    assert [one.is_known for one in drawn.columns] == [False] * 5 + [True] * 9


@pytest.mark.parametrize(
    ("events", "servers", "unknown"),
    [
        ("a-10", "a", [(10, 100)]),
        ("a-10 a+20 a-30 a+40", "a", [(10, 20), (30, 40)]),
        ("a-10 a-11 a+20 a+21", "a", [(10, 20)]),
        ("a-10 a+20", "ab", []),
        ("a-10 b-15 a+20 b+30 b-40", "ab", [(15, 20)]),
        ("a-10 b-15", "", [(15, 100)]),
        ("a+20", "a", []),
    ],
)
def test_there_are_no_data_while_all_servers_are_stopped(
    events: str, servers: str, unknown: list[tuple[int, int]]
) -> None:
    kinds = {"-": "end", "+": "start"}
    parts = [(one[0], kinds[one[1]], int(one[2:]) / 1000) for one in events.split()]
    found = [Change(at, kind, "", instance=name) for name, kind, at in parts]
    assert marks_of(found[::-1], 100, servers)[1] == unknown


def test_a_column_to_come_has_no_counts(tmp_path: Path) -> None:
    append(tmp_path / "audit.jsonl", [line(0), line(1, EPOCH + 86_400_000)])
    writer = IndexWriter(tmp_path / "index", tmp_path / "audit.jsonl")
    while writer.step():
        pass
    writer.close()
    span, now = SPANS["14d"], EPOCH / 1000 + 86_400  # at 11:06
    moments = bounds(span, now, UTC)
    found = read(IndexReader(tmp_path / "index", tmp_path / "audit.jsonl"), moments, now)
    drawn = chart(span, moments, found["columns"], [], found["unknown"], UTC, 0)
    assert [one.is_known for one in drawn.columns] == [False] * 49 + [True] * 5 + [False] * 2


def test_tenants_are_shown_by_fill_and_stale_counts_as_the_least(console: LiveConsole) -> None:
    text = console.log_in("viewer").get("/live").text
    acme, uni = rows(text)
    assert acme.startswith("acme ≥ 8 of 8, soft 5 full")
    assert uni.startswith("uni ≥ 3 no limit")
    assert "10.44.0.31, a gap" in text


def test_pins_of_a_meeting_are_shown_to_admins_and_recorded(console: LiveConsole) -> None:
    form = {"tenant": "acme", "id": "m1"}
    operator = console.log_in("operator")
    text = operator.get("/meetings").text
    assert ("Town hall" in text, PIN in text) == (True, False)
    assert operator.post("/meetings", form).status == 403
    assert console.log_in("viewer").get("/meetings").status == 403
    admin = console.log_in("admin", "ada")
    assert PIN not in admin.get("/meetings").text
    assert PIN in admin.post("/meetings", form).text
    shown = [line for line in console.actions() if line["event"] == "pins_shown"]
    assert [(line["user"], line["meeting"]) for line in shown] == [("ada", "m1")]
    assert PIN not in json.dumps(console.actions())


def test_refused_bookings_are_shown_and_are_no_calls(console: LiveConsole) -> None:
    wanted = {"tenant": "acme", "token": "crm", "meeting": "m2", "status": 409}
    why = "/aliases/0 is in use at that time"
    line = {**wanted, "event": "change", "action": "meeting_refused", "errors": [why]}
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    with console.config.with_name("audit.jsonl").open("a") as audit:
        audit.write(json.dumps({"timestamp": at, **line}, separators=(",", ":")) + "\n")
    text = console.log_in("operator").eventually("/meetings", "Refused bookings")
    (row,) = [one for one in text.split("</tr>") if why[1:] in one]
    assert all(f">{one}<" in row for one in ("m2", "acme", "crm", "409"))
    assert "meeting refused" in console.get("/decisions?event=change").text
    assert "Nothing matches" in console.get("/decisions?result=accepted").text
