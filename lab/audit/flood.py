"""Requests that are refused, as many as a client without credentials can send."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

from lab.audit.server import audit_files, check, under_load
from lab.report import Finding
from pexpolicy.access.refusals import INTERVAL_S, LINES, MAX_LINES

KINDS = {
    "unknown path": (b"404", b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 190)),
    "method not allowed": (b"405", b"PUT /livez HTTP/1.1\r\nHost: x\r\n\r\n"),
}
PIPELINED = 50


async def flooded(folder: Path, seconds: float, connections: int = 10) -> Finding:
    """Flood an audit with few files with refusals: are the decisions still there?"""
    finding = Finding("flood of refusals", f"{connections} connections, {seconds:g} s")
    table = 'path = "audit.jsonl"\nrotate_mb = 1\nkeep = 3'
    ids: list[str] = []
    refused: Counter[str] = Counter()
    kinds = list(KINDS)
    running = under_load(folder, finding, ids, table, connections=2, pause=0.1)
    async with running as (server, _):
        began = time.monotonic()
        ends = began + seconds
        await asyncio.gather(
            *(
                _refused(server.port, kinds[number % len(kinds)], ends, refused)
                for number in range(connections)
            )
        )
    took = time.monotonic() - began
    lines = [
        json.loads(line) for path in audit_files(folder) for line in path.read_bytes().splitlines()
    ]
    on_record: Counter[str] = Counter()
    written = 0
    for line in lines:
        if line["event"] == "refused":
            written += len(json.dumps(line))
            on_record[line["reason"]] += line.get("times", 1)
    if on_record != refused:
        finding.wrong.append(f"refused: {dict(refused)}, on record: {dict(on_record)}")
    intervals = took / INTERVAL_S + 1
    if written > 600 * (MAX_LINES + (LINES + len(KINDS)) * intervals):
        finding.wrong.append(f"{written} bytes of refusals")
    finding.notes.append(
        f"{refused.total() / took:,.0f} refusals a second, "
        f"{written / took:,.0f} bytes of audit a second about them"
    )
    return await check(finding, ids, audit_files(folder))


async def _refused(port: int, kind: str, ends: float, refused: Counter[str]) -> None:
    status, request = KINDS[kind]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < ends:
            writer.write(request * PIPELINED)
            for _ in range(PIPELINED):
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 " + status):
                    raise AssertionError(head)
            refused[kind] += PIPELINED
    finally:
        writer.close()
