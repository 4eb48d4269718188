"""Several processes that answer on one port."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_reload import command, listed, reloaded, served, written
from tests.support import live_server, wire
from tests.support.processes import children, is_running, wait_for_end
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[live_server.Running]:
    with live_server.running(first(folder), "--workers", "2") as running:
        yield running


def first(folder: Path) -> Path:
    config = folder / "config.toml"
    config.write_text(written("first"))
    return config


def everywhere(server: live_server.Running) -> set[str]:
    """The names that are served, asked often enough to meet each worker."""
    return {served(server) for _ in range(20)}


def decisions(server: live_server.Running) -> list[dict[str, Any]]:
    """The audit lines of calls; a reload has one, too."""
    return [line for line in server.lines() if line["event"] == "decision"]


def test_all_workers_reload_or_none(server: live_server.Running, folder: Path) -> None:
    config = folder / "config.toml"
    config.write_text(written("second"))
    assert reloaded(config).done
    assert everywhere(server) == {"second"}
    config.write_text(written("third") + "nmae = 1\n")
    assert "nmae" in reloaded(config).problems[0]
    assert everywhere(server) == {"second"}
    config.write_text(written("fourth"))
    wait_until(lambda: everywhere(server) == {"fourth"})


def test_a_dead_worker_is_replaced_by_one_that_has_what_is_in_force(
    server: live_server.Running, folder: Path
) -> None:
    config = folder / "config.toml"
    config.write_text(written("in force"))
    assert reloaded(config).done
    config.write_text("this is not TOML")
    before = children(server.pid)
    assert len(before) == 2
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(children(server.pid) - before) == 2)
    assert everywhere(server) == {"in force"}
    config.write_text(written("mended"))
    wait_until(lambda: everywhere(server) == {"mended"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_takes_all_workers_along(tmp_path: Path, number: int) -> None:
    with live_server.running(first(tmp_path), "--workers", "2") as server:
        workers = children(server.pid)
        os.kill(server.pid, number)
        wait_for_end(server.pid)
        if number == signal.SIGKILL:
            wait_for_end(*workers)
    assert not any(map(is_running, workers))


def test_a_worker_that_cannot_be_replaced_yet_is_replaced_later(tmp_path: Path) -> None:
    config = listed(tmp_path)
    named = tmp_path / "name.txt"
    with live_server.running(config, "--workers", "2") as server:
        named.rename(tmp_path / "away.txt")
        (gone, *_) = sorted(before := children(server.pid))
        os.kill(gone, signal.SIGKILL)
        wait_until(lambda: len(children(server.pid) - before) == 1)
        assert everywhere(server) == {"first"}
        (tmp_path / "away.txt").rename(named)
        answered = len(decisions(server))
        os.kill(max(before), signal.SIGKILL)
        wait_until(lambda: len(children(server.pid) - before) == 2)
        assert everywhere(server) == {"first"}
        assert len(decisions(server)) == answered + 20


DEADLY = """
import os
from pexpolicy import hookimpl

class Deadly:
    @hookimpl
    async def media_location(self, request):
        if request.params.get("tag") == "die":
            os._exit(int(request.params["code"]))
"""


def test_a_worker_is_replaced_with_whatever_code_a_plugin_ends_it(tmp_path: Path) -> None:
    config = live_server.drop_in(tmp_path, "deadly", DEADLY)
    with live_server.running(config, "--workers", "2") as server:
        for code in (0, 3, 4, 5):
            before = children(server.pid)
            with pytest.raises((ConnectionError, IndexError)):
                server.ask(f"{wire.LOCATION}?tag=die&code={code}")
            wait_until(lambda: len(children(server.pid) - before) == 1)  # noqa: B023
            wait_until(lambda: len(children(server.pid)) == 2)
        assert server.ask(wire.LOCATION).action == "continue"


def test_a_worker_that_hangs_is_told_of_gets_nothing_new_and_is_replaced(tmp_path: Path) -> None:
    config = first(tmp_path)
    # Of the limits that end the stop below, only the first one is less than a test waits.
    times = (
        "workers.SILENT_S, workers.HANG_TIMEOUT_S, workers.STOP_HANG_TIMEOUT_S = 0.75, 3, 3;"
        "workers.START_HANG_TIMEOUT_S = workers.KILL_TIMEOUT_S = 600"
    )
    with live_server.running(config, "--workers", "2", times=times) as server:
        kept = [socket.create_connection(("127.0.0.1", server.port), HANG_S) for _ in range(8)]
        assert {answer(one)[:12] for one in kept} == {b"HTTP/1.1 200"}
        before = children(server.pid)
        hung = min(before)
        os.kill(hung, signal.SIGSTOP)
        config.write_text(written("second"))
        # A reload waits for it no longer than until it is killed.
        with ThreadPoolExecutor() as threads:
            result = threads.submit(reloaded, config)
            wait_until(lambda: server.operator("/readyz").body.startswith(b"1 of the workers"))
            assert everywhere(server) == {"first"}
        assert result.result().done
        wait_until(lambda: len(children(server.pid) - before) == 1)
        assert not is_running(hung)
        wait_until(lambda: everywhere(server) == {"second"})
        wait_until(lambda: server.operator("/readyz").status == 200)
        for one in kept:
            with one:
                assert answer(one)[:12] in (b"", b"HTTP/1.1 200")
        # Neither does a stop.
        workers = children(server.pid)
        os.kill(min(workers), signal.SIGSTOP)
        os.kill(server.pid, signal.SIGTERM)
        wait_for_end(*workers, server.pid)


def answer(client: socket.socket) -> bytes:
    with suppress(ConnectionError):
        client.sendall(wire.request_bytes("/livez", "GET", {"Connection": "keep-alive"}))
        return client.recv(1000)
    return b""


LIFESPAN = """
import asyncio, os, pathlib, signal
from contextlib import asynccontextmanager
from pexpolicy import hookimpl

class Lived:
    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        {body}
        yield

    @hookimpl
    async def media_location(self, request):
        return None
"""
UNOPENED = 'raise OSError("nothing is there")'
FAILS_LATER = f"""
        try:
            pathlib.Path(__file__).with_suffix(".first").touch(exist_ok=False)
        except FileExistsError:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            await asyncio.sleep(0.5)
        {UNOPENED}
"""
ANY_PORTS = "[server]\nport = 0\nworkers = {}\n[admin]\nport = 0\n"


def lived(folder: Path, body: str, workers: int) -> Path:
    source = LIFESPAN.format(body=body)
    return live_server.drop_in(folder, "lived", source, more=ANY_PORTS.format(workers))


@pytest.mark.parametrize(
    ("body", "workers", "reasons"),
    [
        ("os._exit(3)", 2, ["a worker ended during start-up with exit code 3"]),
        (UNOPENED, 1, ["plugins.lived", "nothing is there"]),
        (UNOPENED, 2, ["plugins.lived", "nothing is there"]),
        (FAILS_LATER, 2, ["nothing is there"]),
    ],
    ids=["exit", "alone", "workers", "the second one later"],
)
def test_a_plugin_that_does_not_open_ends_the_server_with_the_reason_and_a_code_to_try_again(
    tmp_path: Path, body: str, workers: int, reasons: list[str]
) -> None:
    said = command("serve", lived(tmp_path, body, workers))
    assert said.returncode == os.EX_TEMPFAIL == 75, said.stderr
    assert all(reason in said.stderr for reason in reasons)
    assert not re.search("Traceback|never retrieved|destroyed", said.stderr)


def test_workers_that_keep_ending_are_replaced_later(tmp_path: Path) -> None:
    config = lived(tmp_path, "asyncio.get_running_loop().call_later(0.4, os._exit, 7)", 2)
    log: list[str] = []
    before = time.monotonic()
    with live_server.running(config, log=log):
        wait_until(lambda: "".join(log).count("a worker ended and is replaced") >= 5)
        assert time.monotonic() - before > 0.5


def test_an_address_that_is_taken_is_said(server: live_server.Running, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(written("first", f"[server]\nport = {server.port}\nworkers = 2"))
    said = command("serve", config)
    assert said.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server.port}: Address already in use" in said.stderr
