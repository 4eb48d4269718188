"""The receiver: what an event sink may send, over a socket, and what it is answered."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.background.shared_state import SharedUnavailableError
from pexpolicy.builder import build_policy
from pexpolicy.events.receiver import EventReceiver
from pexpolicy.models.event import STALE
from pexpolicy.server.generations import generation_of
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Listener, bind
from tests.support import wire
from tests.support.fake_plugins import Log, open_audit, settings
from tests.support.waiting import until

SINK = wire.basic("sink", "s3cret-of-the-sink")
LAB = wire.basic("lab", "s3cret-of-the-lab")
EVENTS = {
    "user": "sink",
    "password_env": "SINK_PASSWORD",
    "max_body_mb": 1,
    "lab": {"user": "lab", "password_env": "LAB_PASSWORD"},
}


def event(seq: Any = 1, **changes: Any) -> dict[str, Any]:
    found = {"node": "10.0.0.1", "seq": seq, "version": 2, "time": 1906531200.0}
    return {**found, "event": "participant_updated", "data": {"uuid": "u"}, **changes}


def bulk(*events: Any) -> dict[str, Any]:
    return event(0, node="127.0.0.1", event="eventsink_bulk", data=[*events])


class Stored(EventReceiver):
    """A receiver that keeps the events in memory."""

    def __init__(self) -> None:
        super().__init__(lambda: None, clock=lambda: 1906531200.0)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.is_full = False
        self.stores = asyncio.Event()
        self.stores.set()
        self.storing = 0

    async def put(self, source: str, events: Sequence[str]) -> None:
        if self.is_full:
            raise SharedUnavailableError
        self.storing += 1
        try:
            await self.stores.wait()
        finally:
            self.storing -= 1
        self.events += [(source, json.loads(one)) for one in events]

    @property
    def seqs(self) -> list[int]:
        return [one["seq"] for _, one in self.events]


class Sinks:
    """A server with event sinks."""

    def __init__(self, port: int, receiver: Stored) -> None:
        self.port, self.receiver = port, receiver

    async def post(
        self, body: object, headers: dict[str, str] = SINK, method: str = "POST"
    ) -> wire.Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Length": str(len(content)), **headers}
        return await wire.send(self.port, wire.request_bytes(PATH, method, sent) + content)


PATH = "/api/events/v1"


@pytest.fixture
async def sinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sinks]:
    monkeypatch.setenv("SINK_PASSWORD", "s3cret-of-the-sink")
    monkeypatch.setenv("LAB_PASSWORD", "s3cret-of-the-lab")
    policy = build_policy(settings(server={"base_path": "/api"}, events=EVENTS), available={})
    audit = open_audit(tmp_path / "audit.jsonl")
    receiver = Stored()
    app = PolicyApp(generation_of(policy, audit), Log(), "/api", events=receiver)
    with bind("127.0.0.1", 0) as bound:
        async with policy.serving(), Listener(app, bound).open():
            yield Sinks(bound.getsockname()[1], receiver)
    audit.close()


@pytest.mark.parametrize("kind", ["application/json", "text/json", "image/png", ""])
async def test_an_event_is_answered_once_it_is_stored(sinks: Sinks, kind: str) -> None:
    reply = await sinks.post(event(7), {**SINK, "Content-Type": kind})
    assert (reply.status, reply.body) == (200, b"")
    assert sinks.receiver.events == [("default", event(7))]


REMARKED: list[tuple[object, list[int], dict[str, int]]] = [
    (bulk(event(5), event(6)), [5, 6], {}),
    (bulk(bulk(event(5), bulk(event(6))), event(7)), [5, 7], {"nested": 1}),
    (event(data=[event(5)]), [5], {}),
    (event("5"), [5], {}),
    (event("five"), [], {"not_ours": 1}),
    (event(True), [], {"not_ours": 1}),
    (event(1.5), [], {"not_ours": 1}),
    (event(10**40), [], {"not_ours": 1}),
    (event(node="10.0.0.1\n"), [], {"not_ours": 1}),
    (event(node="1" * 100), [], {"not_ours": 1}),
    (event(time="never"), [], {"not_ours": 1}),
    (event(time=1906531200.0 + 86400), [1], {"future": 1}),
    (event(data=None), [1], {}),
    (event(event="an_event_of_later_versions"), [1], {"unknown_event": 1}),
    (event(data={"display_name": "x" * 500_000}), [1], {"shortened": 1}),
    ({"a": 1}, [], {"not_ours": 1}),
    ([event()], [], {"not_ours": 1}),
    (None, [], {"not_ours": 1}),
    (b'{"data": [' + b"[" * 50_000 + b"]" * 50_000 + b"]}", [0], {"too_long": 1}),
    (b'\xef\xbb\xbf\n{ "data" :[ ] }\n', [], {}),
    (b'{"node": "\\ud800"}', [], {"not_ours": 1}),
]


@pytest.mark.parametrize(("body", "seqs", "remarks"), REMARKED)
async def test_json_is_never_an_error(
    sinks: Sinks, body: object, seqs: list[int], remarks: dict[str, int]
) -> None:
    assert (await sinks.post(body)).status == 200
    assert sinks.receiver.seqs == seqs
    assert +sinks.receiver.remarks == remarks


@pytest.mark.parametrize(
    "body", [b"", b"{", b"node=1", b'{"a": 1,}', b'{"a": NaN}', b"{} {}", b"\xff", b'{"data":[{}']
)
async def test_what_is_no_json_is_refused(sinks: Sinks, body: bytes) -> None:
    assert (await sinks.post(body)).status == 400
    assert (sinks.receiver.seqs, sinks.receiver.remarks["not_json"]) == ([], 1)


@pytest.mark.parametrize(
    "headers", [wire.basic("sink", "wrong"), wire.basic("lab", "s3cret-of-the-sink"), {}]
)
async def test_a_wrong_password_is_refused_and_calls_go_on(
    sinks: Sinks, headers: dict[str, str]
) -> None:
    reply = await sinks.post(event(), headers)
    assert (reply.status, reply.body, sinks.receiver.events) == (401, b"", [])
    assert reply.headers["www-authenticate"].startswith("Basic ")
    assert (await wire.ask(sinks.port, "/api" + wire.SERVICE)).status == 200


async def test_the_user_gives_the_source(sinks: Sinks) -> None:
    for headers in (SINK, LAB):
        assert (await sinks.post(event(), headers)).status == 200
    assert [source for source, _ in sinks.receiver.events] == ["default", "lab"]


@pytest.mark.parametrize(
    ("method", "more", "status"),
    [("GET", {}, 405), ("PUT", {}, 405), ("POST", {"Content-Encoding": "gzip"}, 415)],
)
async def test_other_requests_are_refused(
    sinks: Sinks, method: str, more: dict[str, str], status: int
) -> None:
    body = b"" if method == "GET" else event()
    assert (await sinks.post(body, SINK | more, method)).status == status
    assert not sinks.receiver.events


async def test_a_body_may_come_in_chunks_and_in_pieces(sinks: Sinks) -> None:
    content = json.dumps(bulk(*map(event, range(1, 500))), indent=1).encode()
    head = wire.request_bytes(PATH, "POST", {"Transfer-Encoding": "chunked", **SINK})
    chunks = (content[at : at + 999] for at in range(0, len(content), 999))
    body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    assert (await wire.send(sinks.port, head + body + b"0\r\n\r\n")).status == 200
    assert sinks.receiver.seqs == [*range(1, 500)]


async def test_a_connection_is_used_again_and_a_body_is_no_request(sinks: Sinks) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sinks.port)
    for body, status in (
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (json.dumps(event()).encode(), b"200"),
    ):
        sent = {"Content-Length": str(len(body)), "Connection": "keep-alive", **SINK}
        writer.write(wire.request_bytes(PATH, "POST", sent))
        await asyncio.sleep(0)
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == status
    writer.close()


async def test_a_full_queue_asks_the_node_to_come_again(sinks: Sinks) -> None:
    sinks.receiver.is_full = True
    assert (await sinks.post(event())).status == 503
    sinks.receiver.is_full = False
    assert (await sinks.post(event())).status == 200


async def unfinished(
    sinks: Sinks, body: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", sinks.port)
    sent = {"Content-Length": str(len(body) + 1), "Connection": "keep-alive", **SINK}
    writer.write(wire.request_bytes(PATH, "POST", sent) + body)
    await writer.drain()
    return reader, writer


async def test_a_message_whose_connection_is_lost_waits_for_nothing(sinks: Sinks) -> None:
    sinks.receiver.stores.clear()
    _, writer = await unfinished(sinks, json.dumps(bulk(*map(event, range(400)))).encode())
    await until(lambda: sinks.receiver.storing)
    writer.close()
    await until(lambda: not sinks.receiver.storing)
    sinks.receiver.stores.set()
    assert (await sinks.post(event())).status == 200


async def test_events_that_do_not_end_take_no_more_memory_than_other_halves_of_requests(
    sinks: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pexpolicy.access.connections.MAX_BUFFERED", 500_000)
    half = json.dumps(event(data={"a": "\N{GRINNING FACE}" * 50_000}), ensure_ascii=False)
    clients = [await unfinished(sinks, half.encode()[:-10]) for _ in range(6)]
    ends = {asyncio.create_task(reader.read()) for reader, _ in clients}

    async def are_closed() -> bool:
        done, _ = await asyncio.wait(ends, timeout=0.05)
        return len(done) == 4

    await until(are_closed)
    for _, writer in clients:
        writer.close()
    await asyncio.wait(ends)


async def test_a_long_body_is_read_and_dropped_and_a_longer_one_is_refused(sinks: Sinks) -> None:
    assert (await sinks.post(bulk(event(data={"a": "x" * 1_100_000})))).status == 200
    assert [(source, one["event"]) for source, one in sinks.receiver.events] == [("default", STALE)]
    assert sinks.receiver.remarks == {"too_long": 1}
    assert (await sinks.post(b" " * 10_500_000)).status == 413
