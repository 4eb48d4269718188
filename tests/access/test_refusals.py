"""Refusals are counted one by one, and are on record in few lines however many there are."""

import asyncio
import json
import re
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.access.refusals import INTERVAL_S, LINES, MAX_LINES, SINGLE_LINES, RefusalLog
from tests.support import live_server, wire
from tests.support.virtual_time import virtual
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.slow

FLOODS = {
    "unknown path": (404, b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 190)),
    "unauthorised": (401, b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % wire.SERVICE.encode()),
    "method not allowed": (405, b"PUT /livez HTTP/1.1\r\nHost: x\r\n\r\n"),
}
GOOD = wire.basic("pexip", "s3cret")
CONFIG = """
[auth]
user = "pexip"
password_env = "TEST_POLICY_PASSWORD"

[audit]
path = "{folder}/audit.jsonl"
{also}
"""


class Lines:
    """Takes the lines of refusals, and may be full."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str | None, int, dict[str, object]]] = []
        self.has_room = True

    def __call__(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        times = facts.pop("times", 1)
        assert isinstance(times, int)
        self.lines.append((reason, peer, times, facts))

    @property
    def times(self) -> int:
        return sum(times for _, _, times, _ in self.lines)


@contextmanager
def served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, also: str = "", audit: Path | None = None
) -> Iterator[live_server.Running]:
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret")
    config = folder / "config.toml"
    config.write_text(CONFIG.format(folder=audit or folder, also=also))
    with live_server.running(config) as server:
        yield server


def flood(port: int, request: bytes, status: int, seconds: float) -> int:
    """Send a request as often as it is answered; gives how often that was."""
    sent, ends = 0, time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), HANG_S) as client:
        while time.monotonic() < ends:
            client.sendall(request * 50)
            answered = 0
            while answered < 50:
                answered += client.recv(1 << 18).count(b"HTTP/1.1 %d" % status)
            sent += 50
    return sent


def recorded(lines: list[dict[str, object]]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for line in lines:
        if line["event"] == "refused":
            times = line.get("times", 1)
            assert isinstance(times, int)
            counted[str(line["reason"])] += times
    return counted


def test_a_flood_of_every_kind_is_counted_and_leaves_the_evidence_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, monkeypatch, "rotate_mb = 1\nkeep = 1") as server:
        first = server.ask(wire.SERVICE, headers=GOOD)
        sent = {
            reason: flood(server.port, request, status, 1.2)
            for reason, (status, request) in FLOODS.items()
        }
        text = server.operator("/metrics").body.decode()
    lines = server.lines()
    assert first.json["decision_id"] == lines[0]["decision_id"]
    assert recorded(lines) == sent
    for reason, count in sent.items():
        found = re.search(rf'refused_requests_total{{reason="{reason}"}} (\d+)', text)
        assert found is not None
        assert int(found[1]) == count
    of_first = [line for line in lines if line.get("reason") == "unknown path"]
    assert len(of_first) <= SINGLE_LINES + 10
    assert "times" not in of_first[0]
    assert of_first[-1]["times"] > 1


def test_the_first_refusal_of_a_kind_is_on_record_at_once_in_a_flood_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, monkeypatch) as server:
        status, request = FLOODS["unknown path"]
        flood(server.port, request, status, 0.5)
        assert server.ask("/policy/v1/nothing", method="PUT").status == 404
        assert server.ask(wire.SERVICE).status == 401
        assert server.last_line()["reason"] == "unauthorised"


def test_refusals_never_take_the_last_of_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as small:
        mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "pexpolicy-test", small)
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a disk is not permitted here")
        try:
            (Path(small) / "fill").write_bytes(bytes(1000 * 1024))
            also = 'level = "required"\non_fail = "reject"'
            with served(tmp_path, monkeypatch, also, Path(small)) as server:
                status, request = FLOODS["unknown path"]
                flood(server.port, request, status, 2.5)
                reply = server.ask(wire.SERVICE, headers=GOOD)
                assert reply.json["action"] == "continue"
            lines = (Path(small) / "audit.jsonl").read_text().splitlines()
            decision_ids = [json.loads(line).get("decision_id") for line in lines]
            assert reply.json["decision_id"] in decision_ids
        finally:
            subprocess.run(("umount", "--lazy", small), check=True)


@virtual
async def test_a_flood_that_goes_on_leaves_a_line_now_and_then() -> None:
    lines = Lines()
    refusals = RefusalLog(lines)
    for _ in range(50):
        for _ in range(20):
            refusals.note("unknown path", 404, "192.0.2.1", path="/a")
        await asyncio.sleep(2)
    await asyncio.sleep(INTERVAL_S)
    assert lines.times == 1000
    assert SINGLE_LINES + 8 <= len(lines.lines) <= SINGLE_LINES + 20
    assert {facts["path"] for *_, facts in lines.lines} == {"/a"}


@virtual
async def test_many_addresses_share_a_number_of_lines() -> None:
    lines = Lines()
    bursts = RefusalLog(lines)
    for number in range(60):
        for other in range(1500):
            peer = f"10.{number}.{other // 256}.{other % 256}"
            bursts.note("unauthorised", 401, peer, endpoint="media_location")
        await asyncio.sleep(1)
    bursts.end()
    assert lines.times == 90_000
    assert MAX_LINES + 5 * LINES <= len(lines.lines) <= MAX_LINES + 6 * LINES + 8
    assert any(peer is None for _, peer, *_ in lines.lines)


@virtual
async def test_after_a_quiet_time_there_are_lines_again() -> None:
    lines = Lines()
    refusals = RefusalLog(lines)
    for _ in range(2):
        before = len(lines.lines)
        for number in range(2 * MAX_LINES):
            refusals.note("unauthorised", 401, f"10.1.{number // 256}.{number % 256}")
        assert len(lines.lines) - before == MAX_LINES + 1
        await asyncio.sleep(INTERVAL_S * (MAX_LINES / LINES + 2))
    assert lines.times == 4 * MAX_LINES


async def test_addresses_that_one_host_may_choose_from_share_a_line() -> None:
    lines = Lines()
    bursts = RefusalLog(lines)
    for number in range(100):
        bursts.note("unauthorised", 401, f"2001:db8:1:2::{number + 1:x}")
    bursts.end()
    assert lines.lines[0][1] == "2001:db8:1:2::1"
    assert lines.lines[-1][1:3] == ("2001:db8:1:2::/64", 100 - SINGLE_LINES)


async def test_a_shared_line_has_the_facts_of_the_last_one() -> None:
    lines = Lines()
    bursts = RefusalLog(lines)
    for number in range(SINGLE_LINES + 1):
        bursts.note("unknown path", 404, "192.0.2.1", path=f"/{number}")
    bursts.note("unknown path", 404, "192.0.2.1", path="/other")
    bursts.note("malformed", 400, "192.0.2.1")
    bursts.end()
    assert [facts for *_, facts in lines.lines][:SINGLE_LINES] == [
        {"path": f"/{number}"} for number in range(SINGLE_LINES)
    ]
    assert lines.lines[-1] == ("unknown path", "192.0.2.1", 2, {"path": "/other"})


async def test_refused_peers_are_counted_apart_only_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pexpolicy.access.refusals.MAX_PEERS", 3)
    lines = Lines()
    refusals = RefusalLog(lines)
    for number in range(20):
        refusals.note("too many connections", 0, f"192.0.2.{number}")
    refusals.end()
    assert [(peer, times) for _, peer, times, _ in lines.lines] == [
        *[(f"192.0.2.{number}", 1) for number in range(3)],
        (None, 1),
        (None, 16),
    ]


notes = st.lists(
    st.tuples(
        st.sampled_from(["unauthorised", "malformed"]),
        st.integers(0, 40).map(lambda number: f"192.0.2.{number}"),
        st.dictionaries(st.sampled_from(["path", "endpoint"]), st.text(max_size=3)),
        st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.5, 12.0]),
        st.booleans(),
    ),
    max_size=40,
)


@given(notes, st.integers(0, 40))
def test_each_refusal_is_on_record_once(
    noted: list[tuple[str, str, dict[str, object], float, bool]], most: int
) -> None:
    lines = Lines()

    @virtual
    async def run() -> None:
        bursts = RefusalLog(lines, has_room=lambda: lines.has_room, left=most)
        for reason, peer, facts, pause, has_room in noted:
            lines.has_room = has_room
            bursts.note(reason, 401, peer, **facts)
            if pause:
                await asyncio.sleep(pause)
        bursts.end()

    run()
    counted: Counter[str] = Counter()
    for reason, _, times, _ in lines.lines:
        counted[reason] += times
    assert counted == Counter(reason for reason, *_ in noted)
