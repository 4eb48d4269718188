"""A server with the plugin: its events are its audit lines, also of calls before a restart."""

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from tests.support import live_server, wire
from tests.support.webhook import Receiver

CONFIG = """
[audit]
path = "audit.jsonl"

[privacy]
personal = "dropped"

[plugins.webhook.settings]
url = "http://127.0.0.1:{port}/events"
spool = "spool"
batch = 10
"""


async def test_events_of_calls_before_a_restart_arrive_after_it(tmp_path: Path) -> None:
    port = unused_port()
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=port))

    def serve(calls: int) -> list[dict[str, Any]]:
        with live_server.running(config) as server:
            for number in range(calls):
                server.ask(f"{wire.LOCATION}?remote_alias=anna&call_tag={number}")
        return server.lines()

    await asyncio.to_thread(serve, 5)
    assert len(list((tmp_path / "spool").glob("*.events"))) == 1, "nothing listens yet"
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/events", receiver.handle)
    async with TestServer(app, port=port):
        serving = asyncio.create_task(asyncio.to_thread(serve, 2))
        accepted = await receiver.has(7)
        lines = await serving
    decisions = {line["decision_id"]: line for line in lines if line["event"] == "decision"}
    assert sorted(accepted) == sorted(decisions)
    for event in (event for _, body in receiver.requests for event in json.loads(body)):
        line = decisions[event["id"]]
        assert event["data"].items() <= line.items()
        assert "remote_alias" in event["data"]["removed"]
    assert list((tmp_path / "spool").iterdir()) == []
