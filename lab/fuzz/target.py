"""The fuzzed server: started by its command line, monitored, and ended by its own pid."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.fuzz.requests import PASSWORD, USER
from tests.support.paths import ROOT
from tests.support.server_process import free_port

PASSWORD_ENV = "PEXPOLICY_FUZZ_PASSWORD"
CONFIG = f"""
[auth]
user = "{USER}"
password_env = "{PASSWORD_ENV}"

[audit]
path = "/dev/null"

[plugins.domains]
priority = 10
on_error = "reject"

[plugins.domains.settings]
allowed = ["@example.com", "@trusted.net", "*.example.org"]

[plugins.rooms]
priority = 20

[plugins.rooms.settings]
default_room = "Default Room - {{local_alias}}"

[plugins.rooms.settings.rooms."sip:engineering@example.com"]
name = "Engineering Room"
service_tag = "engineering-room"
"""
START_TIME = 20.0
STOP_TIME = 15.0


class Target:
    """A server process on a free port of 127.0.0.1; a context manager.

    Entering raises RuntimeError with the server's output if it does not start.
    """

    def __init__(self, config: Path | None = None) -> None:
        self._config = config
        self.port = free_port()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        folder = Path(self._folder.name)
        config = self._config
        if config is None:
            config = folder / "config.toml"
            config.write_text(CONFIG, "utf-8")
        self.log = folder / "server.log"
        command = [sys.executable, "-m", "pexpolicy", "serve", "--config", str(config)]
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port), "--admin-port", "0"],
                cwd=ROOT,
                env={**os.environ, PASSWORD_ENV: PASSWORD},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._server.pid
        try:
            self._await_start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self._server.poll() is None

    def memory(self) -> float:
        """Return resident memory in MiB; 0 if the process is gone or the system has no /proc."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def open_files(self) -> int:
        """Return the number of open file descriptors; 0 if the system has no /proc."""
        try:
            return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
        except OSError:
            return 0

    def log_tail(self) -> bytes:
        """Return the end of the server's output."""
        return self.log.read_bytes()[-20_000:] if self.log.exists() else b""

    def stop(self) -> int:
        """End the server and return its exit code; may be called twice."""
        if self.alive:
            self._server.send_signal(signal.SIGTERM)
            try:
                self._server.wait(STOP_TIME)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        code = self._server.returncode
        self._folder.cleanup()
        return code

    def _await_start(self) -> None:
        end = time.monotonic() + START_TIME
        while time.monotonic() < end:
            if not self.alive:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(
            "the server does not start: " + self.log_tail().decode("utf-8", "replace")
        )
