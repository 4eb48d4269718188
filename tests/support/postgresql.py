"""A PostgreSQL server of our own, on a socket in a temporary folder."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from tests.support import programs, secret_canaries
from tests.support.server_process import ServerProcess
from tests.support.waiting import HANG_S

USER = "pexpolicy"
PASSWORD = secret_canaries.WORD
_FAST = ("fsync=off", "synchronous_commit=off", "listen_addresses=", "max_connections=30")


class Server(ServerProcess):
    """A server with an empty database."""

    kill_signal = signal.SIGQUIT  # with SIGKILL, its shared memory would stay

    def __init__(self, folder: Path) -> None:
        self._programs = programs.require("postgresql").parent
        super().__init__(folder)
        self.url = f"postgresql://{USER}@/postgres?host={folder}"
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ("-A", "scram-sha-256", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        data = str(folder / "data")
        self.run(self._program("initdb"), "-D", data, "--pwfile", str(secret), *options)

    @override
    def command(self) -> Sequence[str]:
        settings = [part for setting in _FAST for part in ("-c", setting)]
        data = str(self.folder / "data")
        return (self._program("postgres"), "-D", data, "-k", str(self.folder), *settings)

    @override
    def is_ready(self) -> bool:
        command = (self._program("pg_isready"), "-q", "-h", str(self.folder))
        return subprocess.run(command, check=False).returncode == 0

    def execute(self, statements: str) -> None:
        """Run statements as the owner of the database."""
        self.query(statements)

    def query(self, statements: str) -> str:
        """Run statements as the owner of the database; return the values of their rows."""
        options = ("-qAt", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", USER)
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(
            (self._program("psql"), *options, "postgres"),
            input=statements,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=HANG_S,
            check=True,
        )
        return done.stdout.strip()

    def _program(self, name: str) -> str:
        return str(self._programs / name)
