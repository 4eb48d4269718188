"""Server process started by its command line, as an operator does."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forked, paths, wire
from tests.support.waiting import HANG_S

ROOT = paths.ROOT
SHIPPED = ROOT / "config.toml"
START_TIMEOUT_S = HANG_S
"""Seconds until a silent server counts as failed."""
SERVE = """
from pexpolicy.cli.main import main
from pexpolicy.server import reload_triggers, workers

workers.HEARTBEAT_S = workers.RESTART_DELAY_S = 0.25
{times}
main(prog_name="pexpolicy")
"""
"""The command ``pexpolicy``, whose server looks at its workers more often."""
WATCHING = "reload_triggers.POLL_INTERVAL_S = 0.1"
"""It looks at its files more often, too: a change may be noticed before a reload is asked for."""
Started = subprocess.Popen[str] | forked.Process


@dataclass(frozen=True)
class Running:
    """A running server: its URL, audit file and process."""

    url: str
    audit: Path
    pid: int
    admin: str
    """URL of the admin listener."""

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def open_files(self) -> int:
        """The number of open file descriptors."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    @property
    def threads(self) -> int:
        """The number of threads."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())

    def ask(self, target: str | bytes, **options: Any) -> wire.Reply:
        """Send one request."""
        return wire.ask_blocking(self.port, target, **options)

    def lines(self) -> list[dict[str, Any]]:
        """Return the audit lines so far; blanks are what a killed worker left."""
        lines = self.audit.read_bytes().splitlines()
        return [json.loads(line) for line in lines if not line.isspace()]

    def operator(self, path: str, **options: Any) -> wire.Reply:
        """Send one request to the admin listener."""
        options["headers"] = {"Host": "127.0.0.1", **options.get("headers", {})}
        return wire.ask_blocking(int(self.admin.rpartition(":")[2]), path, **options)

    def last_line(self) -> dict[str, Any]:
        """Return the last line of a long audit."""
        with self.audit.open("rb") as audit:
            audit.seek(max(0, self.audit.stat().st_size - 16384))
            last: dict[str, Any] = json.loads(audit.read().splitlines()[-1])
            return last


def with_audit(config: Path, folder: Path, extra: str = "") -> Path:
    """Copy a configuration and set its audit file to `audit.jsonl` in the same folder."""
    copy = folder / "config.toml"
    text = re.sub(r"(?m)^\[audit\].*\npath .*\n", "", config.read_text())
    copy.write_text(f'{text}\n[audit]\npath = "audit.jsonl"\n{extra}')
    return copy


def drop_in(folder: Path, name: str, source: str, table: str = "", more: str = "") -> Path:
    """Write a plugin, and a configuration with its table, other tables and an audit file."""
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / f"{name}.py").write_text(source)
    config = folder / "config.toml"
    head = 'plugin_dirs = ["plugins"]\n[audit]\npath = "audit.jsonl"\n'
    config.write_text(f"{head}{more}\n[plugins.{name}]\n{table}\n")
    return config


@contextmanager
def running(
    config: Path,
    *arguments: str,
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    own_admin_port: bool = False,
    log: list[str] | None = None,
    times: str = "",
    stdout: int | None = None,
) -> Iterator[Running]:
    """Start a server on a free port, wait until it announces its URL, and stop it.

    The admin port is a free one too, or with ``own_admin_port`` that of the configuration. ``log``
    gets the lines that it writes. ``times`` is a statement that sets others of its times. It is
    forked, unless ``python`` names an interpreter to start; its output goes to ``stdout``.
    """
    output = [] if log is None else log
    ports = ["--port", "0", *(() if own_admin_port else ("--admin-port", "0"))]
    command = ("serve", "--config", str(config), *ports, *arguments)
    program = SERVE.format(times=times)
    options: Any = {"env": {**os.environ, **(environment or {})}, "cwd": folder, "stdout": stdout}
    started: Started
    if python is None:
        started = forked.Process(*command, program=program, **options)
    else:
        given = (python, "-c", program, *command)
        started = subprocess.Popen(given, stderr=subprocess.PIPE, text=True, **options)
    with started as server:
        rest = threading.Thread(target=_drain_stderr, args=(server, log))
        try:
            url, admin = _read_urls(server, output)
            rest.start()
            yield Running(url, config.parent / "audit.jsonl", server.pid, admin)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(START_TIMEOUT_S)
            if rest.ident is not None:
                rest.join(START_TIMEOUT_S)


def _read_urls(
    server: subprocess.Popen[str] | forked.Process, output: list[str]
) -> tuple[str, str]:
    """Return the URLs for nodes and for operators; fail if the server ends or stays silent."""
    assert server.stderr is not None
    timeout = threading.Timer(START_TIMEOUT_S, server.kill)
    timeout.start()
    try:
        for line in server.stderr:
            output.append(line)
            if " answers on " in line:
                url = line.partition(" answers on ")[2].split()[0]
                return url, line.partition("; admin listener: ")[2].partition(")")[0]
    finally:
        timeout.cancel()
    raise AssertionError("the server did not start:\n" + "".join(output))


def _drain_stderr(server: Started, log: list[str] | None) -> None:
    """Read the rest of the log, because a full pipe would block the server."""
    assert server.stderr is not None
    for line in server.stderr:
        if log is not None:
            log.append(line)
