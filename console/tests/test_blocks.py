"""Blocking a caller or an alias for an hour from the console, and the access log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live_console, live_server, wire
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

CONFIG = """
[audit]
path = "audit.jsonl"
[admin]
port = {port}
[plugins.blocks]
[plugins.rooms.settings.rooms.board]
name = "Board"
"""
CALL = f"{wire.SERVICE}?local_alias=board&remote_alias="
ALICE = {"kind": "caller", "alias": "sip:Alice@example.com", "why": "noise"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    config: Path = tmp_path_factory.mktemp("blocks") / "config.toml"
    config.write_text(CONFIG.format(port=free_port()))
    with live_server.running(config, own_admin_port=True) as running:
        yield running


@pytest.fixture(scope="module")
def console(server: live_server.Running) -> Iterator[live_console.LiveConsole]:
    with live_console.running_console(server.audit.with_name("config.toml")) as running:
        yield running


def test_an_admin_blocks_a_caller_and_lifts_it(
    server: live_server.Running, console: live_console.LiveConsole
) -> None:
    def answer(caller: str) -> str:
        return server.ask(CALL + caller).action

    before = server.operator("/status").json["config"]["policy_hash"]
    assert answer("alice@example.com") == "continue"
    console.log_in("admin", "ada")
    wait_until(
        lambda: (
            "1 accepted request" in console.get("/blocks?kind=caller&alias=alice@example.com").text
        )
    )
    decided = next(one for one in server.lines() if one["event"] == "decision")
    page = console.get(f"/decisions/{decided['decision_id']}").text
    assert "/blocks?kind=caller&amp;alias=alice%40example.com" in page

    assert console.post("/blocks", ALICE).status == 303
    wait_until(lambda: answer("alice@example.com") == "reject")
    assert answer("bob@example.com") == "continue"
    listed = console.get("/blocks").text
    assert ("alice@" in listed, "noise" in listed, "ada" in listed) == (True, True, True)
    assert server.operator("/status").json["config"]["policy_hash"] == before

    assert console.post("/blocks/lift", ALICE).status == 303
    wait_until(lambda: answer("alice@example.com") == "continue")
    events = [(one["event"], one["user"]) for one in console.actions()]
    assert {("block", "ada"), ("unblock", "ada")} <= set(events)


@pytest.mark.parametrize("path", ["/blocks", "/blocks/lift"])
def test_nobody_else_blocks(console: live_console.LiveConsole, path: str) -> None:
    for role in ("viewer", "operator"):
        assert console.log_in(role).post(path, ALICE).status == 403
        assert console.get("/blocks").status == 403
    console.log_in("admin")
    assert console.post(path, ALICE, {"Origin": "http://evil.example"}).status == 403
    assert console.post(path, {**ALICE, "csrf_token": "x"}).status == 403
    for form in ({}, {"kind": "caller", "alias": " "}, {"kind": "node", "alias": "x"}):
        assert console.post(path, form).status == 400
    assert "alice" not in console.get("/blocks").text


def test_admins_see_who_looked_for_whom(console: live_console.LiveConsole) -> None:
    console.log_in("operator", "otto").get("/decisions?alias=alice")
    assert "Access log" not in console.get("/audit").text
    page = console.log_in("admin", "ada").get("/audit?user=otto").text
    assert ("login" in page, "alice" in page, "unblock" in page) == (True, True, False)
