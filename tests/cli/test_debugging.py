"""Debugging on the command line: strict checks, tracebacks, a server without limits, reloads."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cli.test_main import invoked, written
from tests.support import live_server, wire
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S

PLUGIN = """
import asyncio
from contextlib import asynccontextmanager
from pexpolicy import Conference, Plugin, ServiceConfigurationRequest, hookimpl

class Toy(Plugin):
    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        {lifespan}
        yield
        print("closed")

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest):
        name = "first"
        {hook}
        return Conference(name=name, service_tag="")
"""
LIMITS = """
plugin_dirs = ["plugins"]
[server]
budget = 0.1
[plugins.toy]
timeout = 0.05
on_error = "reject"
"""


def configured(folder: Path, hook: str = "", lifespan: str = "") -> str:
    (folder / "plugins").mkdir()
    source = PLUGIN.format(hook=hook, lifespan=lifespan)
    (folder / "plugins" / "toy.py").write_text(source)
    return written(folder, LIMITS)


def test_a_strict_check_fails_on_a_warning(tmp_path: Path) -> None:
    path = configured(tmp_path)
    assert invoked("check", path, "--strict").exit_code == 0
    strict = written(tmp_path, f"{LIMITS}\n[plugins.rooms]\n")
    assert invoked("check", strict).exit_code == 0
    result = invoked("check", strict, "--strict")
    assert result.exit_code == 1
    assert "and --strict allows none" in result.stderr
    assert "valid" not in result.stdout


def test_a_check_that_opens_finds_what_the_lifespan_needs(tmp_path: Path) -> None:
    path = configured(tmp_path, lifespan='raise ConnectionError("db down")')
    assert invoked("check", path).exit_code == 0
    result = invoked("check", path, "--open")
    assert result.exit_code == 75
    assert "its lifespan failed: ConnectionError: db down" in result.stderr


def test_a_check_that_opens_closes_again(tmp_path: Path) -> None:
    result = invoked("check", configured(tmp_path), "--open")
    assert result.exit_code == 0
    assert "closed" in result.output
    assert "valid" in result.stdout


def test_explain_prints_the_traceback_of_each_failure(tmp_path: Path) -> None:
    path = configured(tmp_path, hook="raise ValueError('down ' + request.params['token'])")
    target = f"{wire.SERVICE}?token=x&third_party_passcode=hunter2"
    result = invoked("explain", "-c", path, target, "--traceback")
    assert result.exit_code == 0
    assert "Traceback (most recent call last):" in result.stdout
    assert "ValueError: down x" in result.stdout
    assert "chain.py" in result.stdout
    assert "Traceback (most" not in invoked("explain", "-c", path, target).stdout


def test_explain_prints_the_traceback_of_a_class_that_cannot_be_built(tmp_path: Path) -> None:
    path = configured(tmp_path)
    source = tmp_path / "plugins" / "toy.py"
    source.write_text(f"{source.read_text()}\n    def __init__(self, settings):\n        1 / 0\n")
    result = invoked("explain", "-c", path, wire.SERVICE, "--traceback")
    assert result.exit_code == 78
    assert "1 / 0" in result.stderr
    assert "1 / 0" not in invoked("explain", "-c", path, wire.SERVICE).stderr


def test_a_server_that_debugs_has_no_limits(tmp_path: Path) -> None:
    path = configured(tmp_path, hook="await asyncio.sleep(0.3)")
    with live_server.running(Path(path)) as server:
        assert server.ask(wire.SERVICE).json["action"] == "reject"
    with live_server.running(Path(path), "--debug", "--workers", "2") as server:
        assert server.ask(wire.SERVICE).json["result"]["name"] == "first"


def test_a_server_that_debugs_logs_each_failure_with_its_full_traceback(tmp_path: Path) -> None:
    path = configured(tmp_path, hook="raise ValueError('down')")
    log: list[str] = []
    with live_server.running(Path(path), "--debug", log=log) as server:
        for _ in range(3):
            server.ask(wire.SERVICE)
    lines = [json.loads(line) for line in log if line[0] == "{"]
    failed = [line for line in lines if line["event"] == "plugin failed"]
    assert len(failed) == 3
    assert failed[2]["traceback"].startswith("Traceback (most recent call last):")
    assert "chain.py" in failed[2]["traceback"]


def test_the_answer_of_a_hook_that_was_stopped_is_used(tmp_path: Path) -> None:
    path = configured(tmp_path, hook="breakpoint()")
    port = free_port()
    command = [sys.executable, "-m", "pexpolicy", "serve", "-c", path, "--debug"]
    control, terminal = pty.openpty()
    shown = ""

    def read_until(text: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + HANG_S
        while text not in shown:
            assert time.monotonic() < deadline, shown
            if select.select((control,), (), (), 0.1)[0]:
                shown += os.read(control, 65536).decode()

    with (
        ThreadPoolExecutor() as pool,
        subprocess.Popen(
            [*command, "--port", str(port), "--admin-port", "0"],
            stdin=terminal,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
        ) as server,
    ):
        try:
            read_until("answers on")
            asked = pool.submit(wire.ask_blocking, port, wire.SERVICE)
            read_until("(Pdb)")
            shown = ""
            # Real time, as the server is a process: longer than the budget of a call.
            time.sleep(1.0)
            os.write(control, b"name = 'from the prompt'\n")
            read_until("(Pdb)")
            assert "event loop" not in shown
            assert "Timeout" not in shown
            os.write(control, b"continue\n")
            reply = asked.result(HANG_S).json
            assert reply["result"]["name"] == "from the prompt"
            assert reply["decided_by"] == "toy"
        finally:
            server.terminate()
            server.wait(HANG_S)
            os.close(control)
            os.close(terminal)
