"""The server under test: a process with well-behaved plugins and at most one misbehaving."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.chaos.case import HEAD, Case
from lab.chaos.load import Call
from tests.support.paths import ROOT
from tests.support.server_process import free_port

READY = f"""{HEAD}

class Ready:
    @hookimpl
    async def service_configuration(self, request):
        if str(request.local_alias) == "ready":
            return Conference(name="ready", service_tag="ready")
        return None
"""
GOOD = f"""{HEAD}from pexpolicy import ParticipantProperties


class Good:
    @hookimpl
    async def service_configuration(self, request):
        await asyncio.sleep(0.001)
        return Conference(name="next", service_tag="next")

    @hookimpl
    async def participant_properties(self, request):
        await asyncio.sleep(0.001)
        return ParticipantProperties(call_tag="good")

    @hookimpl
    def media_location(self, request):
        return MediaLocation(location="good")

    @hookimpl
    async def registration_alias(self, request):
        return Reject(reason="good")
"""
CONFIG = """
plugin_dirs = ["plugins"]

[audit]
path = "audit.jsonl"

[plugins.ready]
priority = 1

[plugins.good]
priority = 200
timeout = 4.0
"""
START_TIME = 40.0
STOP_TIME = 10.0


@dataclass(frozen=True)
class Ended:
    """The end of a server: exit code, seconds until then, and its output."""

    code: int | None
    seconds: float
    output: str


class Target:
    """A server in a folder of its own. ``case`` is the misbehaving plugin, if any."""

    def __init__(self, case: Case | None, folder: Path) -> None:
        plugins = folder / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "ready.py").write_text(READY)
        (plugins / "good.py").write_text(GOOD)
        config = CONFIG
        if case is not None:
            (plugins / "bad.py").write_text(case.source)
            config += f"\n[plugins.bad]\npriority = 100\n{case.table}\n"
        (folder / "config.toml").write_text(config)
        self.folder = folder
        self.port = free_port()
        self._log = folder / "server.log"

    def start(self) -> bool:
        """Start the server; return false if it ended instead of answering."""
        ports = ("--port", str(self.port), "--admin-port", "0")
        command = (sys.executable, "-m", "pexpolicy", "serve", *ports)
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                (*command, "--config", str(self.folder / "config.toml")),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIME
        while time.monotonic() < deadline and self.is_alive:
            if " answers on " in self.output:
                return True
            time.sleep(0.02)
        return False

    @property
    def is_alive(self) -> bool:
        return self._server.poll() is None

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def under_load(
        self, seconds: float, needing: int = 4, others: int = 4, pause: float = 0.08
    ) -> list[Call]:
        """Run the load in another process and return its calls."""
        amounts = (self.port, seconds, needing, others, pause)
        load = subprocess.run(
            (sys.executable, "-m", "lab.chaos.load", *map(str, amounts)),
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=seconds + 60,
        )
        return [Call(**call) for call in json.loads(load.stdout)]

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit lines written so far."""
        path = self.folder / "audit.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def stop(self) -> Ended:
        """Send SIGTERM and wait; kill the server if it does not end in time."""
        began = time.monotonic()
        if self.is_alive:
            self._server.send_signal(signal.SIGTERM)
        try:
            code: int | None = self._server.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
            code = None
        return Ended(code, time.monotonic() - began, self.output)
