"""A server with the plugin: its replies, and what its audit log and status have of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import live_server, wire
from tests.support.avatars import CLIENT, SECRET, TENANT, GraphServer, picture
from tests.support.oracle import judge

CONFIG = f"""
[audit]
path = "audit.jsonl"

[plugins.avatars.settings]
folder = "pictures"
domains = ["example.com"]

[plugins.avatars.settings.graph]
tenant = "{TENANT}"
client_id = "{CLIENT}"
secret_file = "graph-secret"
authority = "URL"
endpoint = "URL/v1.0"
"""


@pytest.fixture
async def server(tmp_path: Path, graph: GraphServer) -> AsyncIterator[live_server.Running]:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "anna.jpg").write_bytes(picture((300, 200), orientation=6))
    (tmp_path / "graph-secret").write_text(f"{SECRET}\n")
    (tmp_path / "config.toml").write_text(CONFIG.replace("URL", graph.url))
    graph.photos["bob@example.com"] = picture((648, 648), kind="PNG")
    opened = live_server.running(tmp_path / "config.toml", folder=tmp_path)
    running = await asyncio.to_thread(opened.__enter__)
    yield running
    await asyncio.to_thread(opened.__exit__, None, None, None)


async def test_pictures_reach_a_node_and_no_secret_leaves(
    server: live_server.Running, graph: GraphServer
) -> None:
    async def ask(alias: str, query: str = "width=100&height=80") -> wire.Reply:
        return await asyncio.to_thread(server.ask, f"{wire.AVATAR}{quote(alias)}?{query}")

    for alias in ("sip:Anna@Example.com;transport=tls", "bob@example.com", "bob@example.com"):
        reply = await ask(alias)
        content_type = reply.headers["content-type"]
        assert not judge(
            "participant_avatar", "width=100&height=80", reply.status, content_type, reply.body
        )
        assert b"Exif" not in reply.body
    assert (await ask("eve@example.com")).status == 404
    graph.valid.clear()
    graph.photos.clear()
    graph.token_replies = [GraphServer.refusal() for _ in range(2)]
    assert (await ask("carl@example.com")).status == 404
    lines = [line for line in server.lines() if line["event"] == "decision"]
    assert [line.get("reason") for line in lines] == [
        "a picture from folder",
        "a picture from graph",
        "a picture from graph",
        None,
        None,
    ]
    assert lines[2]["annotations"]["avatars"]["age_s"] in range(60)
    assert "AADSTS7000215" in json.dumps(lines[4]["steps"])
    status = await asyncio.to_thread(server.operator, "/status")
    metrics = await asyncio.to_thread(server.operator, "/metrics")
    written = server.audit.read_text() + (status.body + metrics.body).decode()
    assert SECRET not in written
    assert not [token for token in graph.all_tokens if token in written]
    assert 'lookups_total{result="found"} 2.0' in metrics.body.decode()
    assert 'lookups_total{result="cached"} 1.0' in metrics.body.decode()
