"""The end of a server: it asks to be left alone, and answers until then."""

import asyncio
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.server.test_lifecycle import ended, started
from tests.support import live_server, wire
from tests.support.waiting import HANG_S, until, wait_until

pytestmark = pytest.mark.slow

DELAY_S = 60.0
"""The longest delay that may be configured."""

SLOW = """
import asyncio
from pathlib import Path
from pexpolicy import Conference, hookimpl

class Slow:
    @hookimpl
    async def service_configuration(self, request):
        if str(request.local_alias) == "slow":
            Path(__file__).with_name(f"{request.params['request_id']}.begun").touch()
            await asyncio.sleep(0.8)
        return Conference(name="answered", service_tag="x")
"""
SLOWLY = f"{wire.SERVICE}?local_alias=slow"


def configured(folder: Path, delay: float, source: str = SLOW) -> Path:
    return live_server.drop_in(folder, "slow", source, more=f"[server]\ndrain_delay = {delay}")


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_server_that_drains_answers_and_asks_to_be_left_alone(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with live_server.running(configured(tmp_path, 4.0), *arguments) as server:
        keep = {"Connection": "keep-alive"}
        assert server.ask("/readyz").body == b"ok\n"
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: server.ask("/readyz").status == 503)
        assert server.ask("/readyz").body == b"draining\n"
        assert server.ask("/livez").status == 200
        reply = server.ask(f"{wire.SERVICE}?local_alias=a", headers=keep)
        assert reply.result["name"] == "answered"
        assert reply.headers["connection"] == "close"
        for target in ("/readyz", "/elsewhere"):
            assert server.ask(target, headers=keep).headers["connection"] == "close"
        wait_until(lambda: ended(server.pid) or not accepts(server.port))
    assert [line["event"] for line in server.lines()].count("decision") == 1


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=HANG_S).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_and_ctrl_c_skip_the_delay(
    tmp_path: Path, number: int, arguments: tuple[str, ...]
) -> None:
    with started(configured(tmp_path, DELAY_S), *arguments) as (server, port):
        assert accepts(port)
        began = time.monotonic()
        if number == signal.SIGTERM:
            server.send_signal(number)
            wait_until(lambda: wire.ask_blocking(port, "/readyz").status == 503)
        server.send_signal(number)
        _, said = server.communicate(timeout=live_server.START_TIMEOUT_S)
        assert time.monotonic() - began < DELAY_S
        assert server.returncode == 0
        assert said.endswith("stopped\n")


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_calls_under_way_are_answered(
    tmp_path: Path, number: int, arguments: tuple[str, ...]
) -> None:
    with live_server.running(configured(tmp_path, 0.0), *arguments) as server:
        calls = [
            asyncio.create_task(wire.ask(server.port, f"{SLOWLY}&request_id={number}"))
            for number in range(10)
        ]
        await until(lambda: len([*tmp_path.glob("*/*.begun")]) == 10)
        os.kill(server.pid, number)
        replies = await asyncio.gather(*calls)
        assert {reply.result["name"] for reply in replies} == {"answered"}
    events = [line["event"] for line in server.lines()]
    assert events.count("decision") == 10
    # Of several workers those that answered nothing leave no line.
    assert events[-1] == "end"


DEAF = """
import asyncio, signal
from pexpolicy import Conference, MediaLocation, hookimpl

class Slow:
    @hookimpl
    async def service_configuration(self, request):
        if request.local_alias == "loop":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        else:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return Conference(name="answered", service_tag="x")

    @hookimpl
    def media_location(self, request):
        return MediaLocation(location="Oslo")
"""


@pytest.mark.parametrize("way", ["loop", "process"])
def test_a_plugin_that_handles_signals_itself_does_not_keep_the_server(
    tmp_path: Path, way: str
) -> None:
    with live_server.running(configured(tmp_path, 0.0, DEAF)) as server:
        assert server.ask(f"{wire.SERVICE}?local_alias={way}").result["name"] == "answered"
        wait_until(lambda: server.ask(wire.LOCATION).json["decided_by"] == "slow")

        def ends() -> bool:
            with suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGTERM)
            return ended(server.pid) or not accepts(server.port)

        wait_until(ends)
