"""What a guard answers, what it passes on, and what it writes: real programs, real servers."""

import asyncio
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab.load_balancers import trials
from lab.load_balancers.guards import GUARDS, Guard, installed
from lab.load_balancers.load import TARGETS
from lab.load_balancers.servers import CONFIGURATION, pair
from tests.support import certificates, secret_canaries, wire
from tests.support.server_process import free_port

OWN = ("decision_id", "decided_by", "reason")
"""Keys that Infinity only logs."""
HARD = (
    "/policy/v1/registrations/sip%3Aalice%40example.com%3Btransport=tls//x%2F..%2f%2e%2e?node_ip=&a=%zz+",
    "/policy/v1/participant/avatar/a+b%20c%C3%A9;d@example.com?width=1&&q=%2B'\"",
    "/policy/v1/participant/properties?idp_attribute_groups=" + 30_000 * "x",
)
"""Targets that must be forwarded unchanged."""


@pytest.fixture(params=GUARDS)
def guard(request: pytest.FixtureRequest) -> Guard:
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return GUARDS[request.param]


def answers(port: int) -> dict[str, tuple[int, dict[str, Any]]]:
    """The answer to each endpoint, without what differs from call to call."""
    found = {}
    for endpoint, target in TARGETS.items():
        reply = wire.ask_blocking(port, target)
        assert reply.headers["content-type"].startswith("application/json")
        body = {key: value for key, value in reply.json.items() if key not in OWN}
        found[endpoint] = (reply.status, body)
    return found


@pytest.mark.parametrize(("action", "tls"), [("continue", True), ("reject", False)])
def test_a_guard_says_what_the_default_of_the_dead_servers_was(
    guard: Guard, action: str, tls: bool, tmp_path: Path
) -> None:
    refusing = ("service_configuration", "participant_properties", "registration_alias")
    tables = "".join(f'[endpoints.{name}]\ndefault = "{action}"\n' for name in refusing)
    if tls:
        certificates.write_pair(tmp_path)
        certificates.write_authority(tmp_path)
        tables += '[tls]\ncertificate = "../server.pem"\nkey = "../server.key"\n'
    with pair(tmp_path, CONFIGURATION + tables) as servers:
        ports = [server.port for server in servers]
        with guard(tmp_path, ports, action) as port:
            alive = answers(port)
            assert (
                wire.ask_blocking(port, TARGETS["media_location"]).json["decided_by"] == "default"
            )
            for server in servers:
                server.strike(signal.SIGKILL)
            assert answers(port) == alive
            assert wire.ask_blocking(port, TARGETS["media_location"]).json["decided_by"] == "guard"
            assert wire.ask_blocking(port, "/elsewhere").status == 404
            assert wire.ask_blocking(port, "/events/v1").status in (502, 503)


def test_no_call_is_lost_or_late_whatever_becomes_of_the_servers(guard: Guard) -> None:
    """The experiments of `make -C lab guards` in short, at once: they mostly wait."""
    frozen, killed = signal.SIGSTOP, signal.SIGKILL
    with ThreadPoolExecutor() as threads:
        restarted = threads.submit(asyncio.run, trials.restarts(guard, 1))
        one = threads.submit(
            asyncio.run, trials.struck(guard, frozen, servers=1, further=60, crowd=20)
        )
        both = [
            threads.submit(
                asyncio.run, trials.struck(guard, number, servers=2, further=60, crowd=20)
            )
            for number in (frozen, killed)
        ]
    assert restarted.result().all_by_server, restarted.result()
    assert all(tally.all_by_server for tally in one.result()), one.result()
    for under_way, later in (trial.result() for trial in both):
        assert under_way.calls > 0
        assert under_way.all_in_time, under_way
        assert later.all_by_guard, later


@pytest.fixture
async def recorder() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that keeps the head of each call and answers it with 200."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/readyz" not in head:
            heads.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield port, heads


@pytest.mark.parametrize("target", HARD, ids=["registration", "avatar", "long"])
async def test_a_request_is_passed_on_byte_for_byte(
    guard: Guard, target: str, recorder: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    server, heads = recorder
    with guard(tmp_path, [server, server], "continue") as port:
        assert (await wire.ask(port, target)).status == 200
    (head,) = heads
    assert head.split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()


async def test_the_servers_get_the_address_of_the_caller_which_cannot_forge_it(
    guard: Guard, recorder: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    server, heads = recorder
    lie = {"X-Forwarded-For": "192.0.2.1", **wire.basic("pexip", "a password")}
    with guard(tmp_path, [server, server], "continue") as port:
        await wire.ask(port, wire.SERVICE, headers=lie)
    (head,) = heads
    sent = head.decode().lower().split("\r\n")
    assert [line for line in sent if "forwarded" in line] == ["x-forwarded-for: 127.0.0.1"]
    assert f"authorization: {wire.basic('pexip', 'a password')['Authorization']}".lower() in sent


def written_in(folder: Path) -> str:
    """All that a guard has logged."""
    return "".join(path.read_text() for path in folder.glob("*.log"))


async def test_a_guard_writes_no_query_down_whatever_goes_wrong(
    guard: Guard, recorder: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    server, _ = recorder
    target = f"{wire.SERVICE}?third_party_passcode={secret_canaries.WORD}"
    with guard(tmp_path, [server, server], "continue") as port:
        assert (await wire.ask(port, target)).status == 200
        broken = f"GET {target}\x01 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        assert (await wire.send(port, broken)).status >= 400
    with guard(tmp_path, [free_port(), free_port()], "continue") as port:
        assert (await wire.ask(port, target)).json["decided_by"] == "guard"
    assert wire.SERVICE in written_in(tmp_path)
    assert not secret_canaries.find_canaries(written_in(tmp_path))


def test_a_base_path_stands_before_the_six(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed("haproxy"):
        pytest.skip("haproxy is not installed")
    monkeypatch.setenv("BASE_PATH", "/api/pexip")
    with GUARDS["haproxy"](tmp_path, [free_port(), free_port()], "reject") as port:
        assert wire.ask_blocking(port, "/api/pexip" + wire.SERVICE).action == "reject"
        assert wire.ask_blocking(port, wire.SERVICE).status == 404
