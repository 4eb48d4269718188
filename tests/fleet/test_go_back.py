"""An earlier configuration that a running server activates again."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pexpolicy.config.loader import load
from pexpolicy.fleet.last_good import history
from pexpolicy.fleet.policy_hash import own_token
from tests.server.test_reload import reloaded
from tests.support import live_server, wire
from tests.support.waiting import wait_until

ROOM = f"{wire.SERVICE}?local_alias=board"
CONFIG = """
server.workers = {workers}
[audit]
path = "audit.jsonl"
[plugins.rooms.settings]
csv = "rooms.csv"
"""


def write_room(config: Path, name: str) -> None:
    (config.parent / "rooms.csv").write_text(f"aliases,name\nboard,{name}\n")


def name_of(server: live_server.Running) -> str:
    return str(server.ask(ROOM).json["result"]["name"])


def go_back(server: live_server.Running, policy_hash: str, token: str, **more: str) -> wire.Reply:
    headers = {"Authorization": f"Bearer {token}", "Content-Length": "0", **more}
    path = f"/activate/{policy_hash}?author=ada"
    return server.operator(path, method="POST", headers=headers)


@pytest.fixture(params=[1, 2])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[live_server.Running]:
    """One with two configurations that it has kept, of which the second is active."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(workers=request.param))
    write_room(config, "First")
    with live_server.running(config) as running:
        wait_until(lambda: len(history(tmp_path / "state", config)) == 1)
        write_room(config, "Second")
        reloaded(config)
        wait_until(lambda: len(history(tmp_path / "state", config)) == 2)
        yield running


def test_a_server_goes_back_until_the_next_change(server: live_server.Running) -> None:
    config = server.audit.with_name("config.toml")
    second, first = (one.policy_hash for one in history(config.parent / "state", config))
    token = own_token(load(config))
    written = (config.parent / "rooms.csv").read_bytes()

    reply = go_back(server, first, token)

    assert reply.status == 200, reply.body
    (result,) = reply.json["results"]
    assert result["policy_hash"] == first
    assert name_of(server) == "First"
    assert (config.parent / "rooms.csv").read_bytes() == written
    line = [one for one in server.lines() if one["event"] == "reload"][-1]
    assert line["back_to"] == line["policy_hash"] == first
    assert (line["author"], line["policy_hash_before"]) == ("ada", second)
    assert any("First" in text for text in line["changes"])
    (degraded,) = json.loads(server.operator("/status").body)["degraded"]
    assert "as told by ada" in degraded
    wait_until(lambda: history(config.parent / "state", config)[0].policy_hash == first)

    # A worker that replaces another one decides as the others.
    for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[:1]:
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"serve" in command:
            os.kill(int(child), signal.SIGKILL)
            wait_until(lambda: server.operator("/readyz").status == 200)
    wait_until(lambda: all(name_of(server) == "First" for _ in range(20)))

    reloaded(config)
    assert name_of(server) == "Second"
    assert not json.loads(server.operator("/status").body)["degraded"]


def test_only_those_who_may_read_its_keys_go_back(server: live_server.Running) -> None:
    config = server.audit.with_name("config.toml")
    first = history(config.parent / "state", config)[1].policy_hash
    token = own_token(load(config))
    for status, reply in (
        (401, server.operator(f"/activate/{first}", method="POST")),
        (401, go_back(server, first, "")),
        (401, go_back(server, first, "x" * 64)),
        (405, server.operator(f"/activate/{first}", headers={"Authorization": f"Bearer {token}"})),
        (404, go_back(server, "..%2f", token)),
        (404, go_back(server, f"{first}%20x", token)),
        (409, go_back(server, "0" * 16, token)),
    ):
        assert reply.status == status
        assert name_of(server) == "Second"
    assert "is not kept" in str(go_back(server, "0" * 16, token).json)
