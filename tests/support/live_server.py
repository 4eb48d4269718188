"""A server that its own command line starts, as an operator does."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import paths, wire

ROOT = paths.ROOT
SHIPPED = ROOT / "config.toml"
START = 20.0
"""Seconds until a server that says nothing counts as failed."""


@dataclass(frozen=True)
class Running:
    """A server, where it answers and where it writes."""

    url: str
    audit: Path
    pid: int
    admin: str
    """Where it answers operators."""

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    def ask(self, target: str | bytes, **options: Any) -> wire.Reply:
        """One request."""
        return wire.ask_blocking(self.port, target, **options)

    def lines(self) -> list[dict[str, Any]]:
        """The audit so far."""
        return [json.loads(line) for line in self.audit.read_bytes().splitlines()]

    def operator(self, path: str, **options: Any) -> wire.Reply:
        """One request to the admin listener."""
        options["headers"] = {"Host": "127.0.0.1", **options.get("headers", {})}
        return wire.ask_blocking(int(self.admin.rpartition(":")[2]), path, **options)

    def last_line(self) -> dict[str, Any]:
        """The end of a long audit."""
        with self.audit.open("rb") as audit:
            audit.seek(max(0, self.audit.stat().st_size - 16384))
            last: dict[str, Any] = json.loads(audit.read().splitlines()[-1])
            return last


def with_audit(config: Path, folder: Path, also: str = "") -> Path:
    """A copy of a configuration whose audit goes to `audit.jsonl` beside it."""
    copy = folder / "config.toml"
    copy.write_text(f'{config.read_text()}\n[audit]\npath = "audit.jsonl"\n{also}')
    return copy


@contextmanager
def running(
    config: Path,
    *arguments: str,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Running]:
    """Start a server on a free port, wait until it announces itself, and end it."""
    command = (python, "-m", "pexpolicy", "serve", "--config", str(config))
    ports = ("--port", "0", "--admin-port", "0")
    with subprocess.Popen(
        (*command, *ports, *arguments),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        text=True,
    ) as server:
        rest = threading.Thread(target=_read_on, args=(server,))
        try:
            url, admin = _announced(server)
            rest.start()
            yield Running(url, config.parent / "audit.jsonl", server.pid, admin)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(START)
            if rest.ident is not None:
                rest.join(START)


def _announced(server: subprocess.Popen[str]) -> tuple[str, str]:
    """The URLs for nodes and for operators; a server that dies or keeps silent fails the test."""
    assert server.stderr is not None
    said: list[str] = []
    silence = threading.Timer(START, server.kill)
    silence.start()
    try:
        for line in server.stderr:
            said.append(line)
            if " answers on " in line:
                url = line.partition(" answers on ")[2].split()[0]
                return url, line.partition("; admin listener: ")[2].partition(")")[0]
    finally:
        silence.cancel()
    raise AssertionError("the server did not start:\n" + "".join(said))


def _read_on(server: subprocess.Popen[str]) -> None:
    """Read what else it says: a server whose log nobody reads would wait for ever."""
    assert server.stderr is not None
    for _ in server.stderr:
        pass
