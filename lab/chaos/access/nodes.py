"""Conferencing Nodes: calls at a steady pace, each measured."""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pexpolicy.audit.reader import CorruptLine, raw_lines, records
from pexpolicy.audit.verify import Verification
from tests.support import certificates, live_server, wire

CALL_TIMEOUT_S = 5.0
"""Seconds after which a node stops waiting for a reply."""


@dataclass
class Calls:
    """Durations of answered calls, and errors of the others."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """The decisions that were answered."""

    @property
    def longest(self) -> float:
        return max(self.seconds, default=0.0)

    def percentile(self, share: float) -> float:
        """Return the seconds within which this share of the calls was answered."""
        ordered = sorted(self.seconds)
        return ordered[int(share * (len(ordered) - 1))] if ordered else 0.0

    @property
    def sentence(self) -> str:
        """Return all figures in one line."""
        return (
            f"{len(self.seconds)} calls answered, p50 {self.percentile(0.5) * 1000:.1f} ms, "
            f"p99 {self.percentile(0.99) * 1000:.1f} ms, longest {self.longest * 1000:.0f} ms; "
            f"not answered: {len(self.failed)}"
        )

    def wrong(self) -> list[str]:
        """Return a description of each failure."""
        late = [f"a call took {one:.1f} s" for one in self.seconds if one > CALL_TIMEOUT_S]
        return late + self.failed + ([] if self.seconds else ["no call was answered"])


@dataclass(frozen=True)
class Node:
    """One node: the server's port, the headers, and whether it reuses its connection."""

    port: int
    headers: Mapping[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None
    address: str = "127.0.0.1"
    reuses: bool = True

    async def call_until(self, done: asyncio.Event, pause: float, calls: Calls) -> None:
        """Call repeatedly, with ``pause`` seconds in between."""
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not done.is_set():
            began = time.perf_counter()
            try:
                async with asyncio.timeout(2 * CALL_TIMEOUT_S):
                    streams = streams or await self._connected()
                    decision = await self._exchange(*streams)
                calls.seconds.append(time.perf_counter() - began)
                calls.ids.append(decision)
            except (OSError, EOFError, ValueError) as error:
                calls.failed.append(f"{type(error).__name__}: {error}")
                self._close(streams)
                streams = None
            if not self.reuses:
                self._close(streams)
                streams = None
            await asyncio.sleep(pause)
        self._close(streams)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.context,
            server_hostname=certificates.NAME if self.context is not None else None,
            local_addr=(self.address, 0),
        )

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Call once; return the id of the decision."""
        target = f"{wire.SERVICE}?local_alias=engineering"
        headers = {"Connection": "keep-alive", **self.headers}
        writer.write(wire.request_bytes(target, "GET", headers))
        reply = wire.parse(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(reply.headers["content-length"]))
        if reply.status != 200:
            raise ValueError(f"status {reply.status}")
        return str(json.loads(body)["decision_id"])

    @staticmethod
    def _close(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
        if streams is not None:
            with suppress(OSError):
                streams[1].close()


class Calling:
    """Context manager for nodes that call in the background; entering returns the ``Calls``."""

    def __init__(self, nodes: list[Node], pause: float = 0.01) -> None:
        self._nodes = nodes
        self._pause = pause
        self._done = asyncio.Event()

    async def __aenter__(self) -> Calls:
        self.calls = Calls()
        self._tasks = [
            asyncio.create_task(node.call_until(self._done, self._pause, self.calls))
            for node in self._nodes
        ]
        return self.calls

    async def __aexit__(self, *_: object) -> None:
        self._done.set()
        await asyncio.gather(*self._tasks)


def missing_decisions(server: live_server.Running, ids: Sequence[str]) -> int:
    """Count the answered decisions that are not in the audit of a server that has ended."""
    return len(set(ids) - {line.get("decision_id") for line in server.lines()})


def record_problems(server: live_server.Running, ids: Sequence[str]) -> list[str]:
    """Compare answered decisions with the audit of a server that has ended; verify its chain."""
    wrong: list[str] = []
    recorded: list[str] = []
    for found in records([server.audit]):
        if isinstance(found, CorruptLine):
            wrong.append(str(found))
        elif "decision_id" in found.event:
            recorded.append(found.event["decision_id"])
    if missing := set(ids) - set(recorded):
        wrong.append(f"{len(missing)} of {len(ids)} decisions are not on record")
    if len(recorded) != len(set(recorded)):
        wrong.append(f"{len(recorded) - len(set(recorded))} decisions are there twice")
    return wrong + [str(fault) for fault in Verification().verify(raw_lines([server.audit]))]
