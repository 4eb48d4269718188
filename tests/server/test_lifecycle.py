"""A server from its start to its end, as an operator sees it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import hookimpl
from pexpolicy.server import lifecycle
from pexpolicy.server.http.listener import bind
from pexpolicy.server.process import SHUTDOWN_TIMEOUT_S, ShutdownSignal
from tests.support import fake_plugins, live_server, wire
from tests.support.fake_plugins import Log
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow

KEEP = {"Connection": "keep-alive"}


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    config = tmp_path_factory.mktemp("lifecycle") / "config.toml"
    config.write_text('[audit]\npath = "audit.jsonl"')
    with live_server.running(config) as running:
        yield running


def test_no_connection_stays_open_whose_client_hung_up(server: live_server.Running) -> None:
    asked = wire.request_bytes(wire.SERVICE, "GET", KEEP)
    for number in range(400):
        with socket.create_connection(("127.0.0.1", server.port), timeout=HANG_S) as client:
            client.sendall(asked)
            # At any moment of the call, up to one at which its reply was just sent.
            time.sleep(number % 100 * 0.00001)
    wait_until(lambda: server.operator("/status").json["connections"] == 0)


@contextmanager
def started(config: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server whose output is read here, and its port."""
    command = (sys.executable, "-m", "pexpolicy", "serve", "-c", str(config), *arguments)
    ports = ("--port", "0", "--admin-port", "0")
    with subprocess.Popen(
        (*command, *ports), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if " answers on " in line)
            yield server, int(line.partition("127.0.0.1:")[2].split()[0])
        finally:
            server.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_stop_ends_in_order(tmp_path: Path, number: int) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    with started(config) as (server, port):
        assert wire.ask_blocking(port, wire.SERVICE).status == 200
        server.send_signal(number)
        out, err = server.communicate(timeout=live_server.START_TIMEOUT_S)
        assert server.returncode == 0
    assert "Traceback" not in err
    line, end = map(json.loads, out.splitlines())
    assert line["endpoint"] == "service_configuration"
    assert (end["event"], end["boot_id"], end["seq"]) == ("end", line["boot_id"], 2)


ROTATED = """
import os, signal
from pexpolicy import hookimpl

os.kill(os.getpid(), signal.SIGUSR1)

class Rotated:
    @hookimpl
    async def media_location(self, request):
        return None
"""


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_file_that_is_rotated_while_a_server_starts_does_not_end_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with started(live_server.drop_in(tmp_path, "rotated", ROTATED), *arguments) as (_, port):
        assert wire.ask_blocking(port, "/readyz").status == 200


def test_the_audit_goes_to_standard_output_where_no_file_is_named_and_no_query_to_the_log(
    tmp_path: Path,
) -> None:
    (config := tmp_path / "config.toml").write_text("")
    secret = "48151623"
    targets: tuple[str | bytes, ...] = (
        *wire.TARGETS.values(),
        f"{wire.SERVICE}?third_party_passcode={secret}",
    )
    with started(config) as (server, port):
        for target in (*targets, f"/nowhere?a={secret}", f"/\xff?{secret}".encode("latin-1")):
            wire.ask_blocking(port, target)
        server.terminate()
        out, err = server.communicate(timeout=live_server.START_TIMEOUT_S)
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events == ["decision"] * len(targets) + ["refused", "refused", "end"]
    assert secret not in out + err


ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "pexpolicy", *sys.argv[1:]])
"""


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_closed_terminal_ends_the_server_and_sighup_reloads_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[audit]\npath = "audit.jsonl"\n[server]\ndrain_delay = 30.0')
    ports = ("--port", "0", "--admin-port", "0")
    command = (sys.executable, "-c", ON_A_TERMINAL, "serve", "-c", str(config), *ports, *arguments)
    ours, theirs = os.openpty()
    server = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        with open(ours) as terminal:  # noqa: PTH123 - a descriptor
            assert next(line for line in terminal if " answers on " in line)
            server.send_signal(signal.SIGHUP)
            assert next(line for line in terminal if line.startswith("reloaded "))
            assert server.poll() is None
        assert server.wait(live_server.START_TIMEOUT_S) == 0
    finally:
        server.kill()
        server.wait()


async def test_a_plugin_that_does_not_open_does_not_keep_a_server_that_is_asked_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Signals(ShutdownSignal):
        def install(self, loop: asyncio.AbstractEventLoop) -> None:
            """Leave the handlers of the test as they are."""

    class Slow:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> Any:
            opening.set()
            await asyncio.Event().wait()
            yield

    opening, stop = asyncio.Event(), Signals()
    limits: list[tuple[float, list[str]]] = []
    monkeypatch.setattr(
        lifecycle, "force_exit_after", lambda seconds, names: limits.append((seconds, names()))
    )
    policy = fake_plugins.policy({"toy": Slow}, audit={"path": "/dev/null"})
    context = lifecycle.ServerContext(
        tmp_path / "config.toml", lambda _: policy, Log(), list[str]().append
    )
    handler, listener = signal.getsignal(signal.SIGUSR1), bind("127.0.0.1", 0)
    try:
        server = lifecycle.started(policy, listener, stop, context)
        start = asyncio.create_task(server.__aenter__())
        await opening.wait()
        stop.on_signal()
        assert limits == [(SHUTDOWN_TIMEOUT_S, ["toy"])]
        start.cancel()
        with suppress(asyncio.CancelledError):
            await start
    finally:
        listener.close()
        signal.signal(signal.SIGUSR1, handler)
