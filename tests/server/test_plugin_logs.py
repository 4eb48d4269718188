"""Log lines of plugins on the standard error of a real server."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import wire
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow

TALKER = """
import asyncio, logging, threading
from contextlib import asynccontextmanager
from pexpolicy import get_logger, hookimpl

log = get_logger()

class Talker:
    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        logging.getLogger("library").info("opened")
        yield

    @hookimpl
    async def service_configuration(self, request):
        log.info("asked", room=str(request.local_alias), same=request.decision_id)
        await asyncio.sleep(0)
        logging.getLogger("library").debug("detail")
        await asyncio.to_thread(logging.getLogger("library").info, "in a thread")
        if str(request.local_alias) == "fails":
            raise ValueError("down")

    @hookimpl
    def participant_properties(self, request):
        log.warning("in a thread of the plugin")
"""
SECOND = '\n[plugins.talker]\nlog_level = "debug"\n{table}'


@contextmanager
def serving(folder: Path, config: str, stderr: int, *arguments: str) -> Iterator[tuple[int, int]]:
    """Serve with this standard error; yield the process ID and the port."""
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "talker.py").write_text(TALKER)
    path = folder / "config.toml"
    path.write_text(f'plugin_dirs = ["plugins"]\n[audit]\npath = "audit.jsonl"\n{config}')
    port = free_port()
    command = [sys.executable, "-m", "pexpolicy", "serve", "-c", str(path), "--admin-port", "0"]
    with subprocess.Popen([*command, "--port", str(port), *arguments], stderr=stderr) as server:
        try:
            wait_until(lambda: server.poll() is not None or answers(port))
            assert server.poll() is None
            yield server.pid, port
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(HANG_S)


def answers(port: int) -> bool:
    try:
        return wire.ask_blocking(port, "/readyz").status == 200
    except OSError:
        return False


def written(path: Path, found: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Return the lines of JSON in a file once they are complete."""

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines() if line[0] == "{"]

    wait_until(lambda: found(lines()))
    return lines()


@pytest.mark.parametrize(
    ("table", "workers"), [("", 1), ('isolation = "process"\nprocesses = 1', 2)]
)
def test_each_line_names_plugin_hook_and_call(tmp_path: Path, table: str, workers: int) -> None:
    stderr = tmp_path / "stderr"
    arguments = ("--workers", str(workers))
    with (
        stderr.open("w") as file,
        serving(tmp_path, SECOND.format(table=table), file.fileno(), *arguments) as (_, port),
    ):
        wire.ask_blocking(port, f"{wire.SERVICE}?local_alias=fails")
        wire.ask_blocking(port, f"{wire.PARTICIPANT}?local_alias=a")
        # The two calls may be those of two workers.
        wanted = {"in a thread of the plugin", "plugin failed"}
        lines = written(stderr, lambda all_: wanted <= {line["event"] for line in all_})
    audit = (tmp_path / "audit.jsonl").read_text().splitlines()
    calls = [call for line in audit if (call := json.loads(line)).get("decision_id")]
    service, properties = [call["decision_id"] for call in calls]
    by_event = {line["event"]: line for line in lines}
    assert by_event["opened"]["hook"] == "lifespan"
    for event in ("asked", "detail", "in a thread"):
        line = by_event[event]
        assert (line["plugin"], line["hook"]) == ("talker", "service_configuration")
        assert line["decision_id"] == service
    assert by_event["asked"]["same"] == service
    assert by_event["asked"]["room"] == "fails"
    assert by_event["detail"]["level"] == "debug"
    assert by_event["plugin failed"]["decision_id"] == service
    assert 'raise ValueError("down")' in by_event["plugin failed"]["traceback"]
    assert by_event["in a thread of the plugin"]["decision_id"] == properties
    assert by_event["in a thread of the plugin"]["hook"] == "participant_properties"
    assert all(re.fullmatch(r"\d{4}-.*Z", line["timestamp"]) for line in lines)


def test_a_reload_changes_the_levels(tmp_path: Path) -> None:
    stderr = tmp_path / "stderr"
    with (
        stderr.open("w") as file,
        serving(tmp_path, "[plugins.talker]", file.fileno()) as (pid, port),
    ):
        wire.ask_blocking(port, wire.SERVICE)
        config = tmp_path / "config.toml"
        config.write_text(f'{config.read_text()}\nlog_level = "warning"\n')
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "reloaded" in stderr.read_text())
        wire.ask_blocking(port, wire.SERVICE)
        wire.ask_blocking(port, wire.PARTICIPANT)
        last = "in a thread of the plugin"
        lines = written(stderr, lambda all_: any(line["event"] == last for line in all_))
    # Those of the server have no logger.
    events = [line["event"] for line in lines if "logger" in line]
    assert [event for event in events if event != "opened"] == ["asked", "in a thread", last]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reader_that_stalled_delays_no_call_and_no_shutdown(tmp_path: Path, workers: int) -> None:
    reader, writer = os.pipe()
    try:
        arguments = ("--workers", str(workers))
        with serving(tmp_path, "[plugins.talker]", writer, *arguments) as (_, port):
            for _ in range(1000):
                reply = wire.ask_blocking(port, wire.SERVICE)
                assert reply.status == 200
    finally:
        os.close(reader)
        os.close(writer)
    audit = (tmp_path / "audit.jsonl").read_text().splitlines()
    calls = [call for line in audit if "steps" in (call := json.loads(line))]
    assert [call["steps"][0]["outcome"] for call in calls] == ["abstained"] * 1000
