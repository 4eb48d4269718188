"""A PostgreSQL server of our own, in a temporary folder and on a socket only."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "pexpolicy"
PASSWORD = "a password of postgresql"
_FAST = ("fsync=off", "synchronous_commit=off", "listen_addresses=", "max_connections=30")


def binary(name: str) -> str:
    """Return the path of a program of PostgreSQL; skips the test where there is none."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return found


class Server:
    """A server of a data folder; it can be killed, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"postgresql://{USER}@/postgres?host={folder}"
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account()
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ("-A", "scram-sha-256", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        self._run("initdb", "-D", str(folder / "data"), "--pwfile", str(secret), *options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        user, group = self._rights()
        settings = [part for setting in _FAST for part in ("-c", setting)]
        data = str(self.folder / "data")
        command = (binary("postgres"), "-D", data, "-k", str(self.folder), *settings)
        self._process = subprocess.Popen(
            command, cwd=self.folder, stderr=subprocess.DEVNULL, user=user, group=group
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with_socket = (binary("pg_isready"), "-q", "-h", str(self.folder))
            if subprocess.run(with_socket, check=False).returncode == 0:
                return
            time.sleep(0.05)
        pytest.fail("PostgreSQL does not start")

    def execute(self, statements: str) -> None:
        """Run statements as the owner of the database."""
        options = ("-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", USER)
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        subprocess.run(
            (binary("psql"), *options, "postgres"),
            input=statements.encode(),
            env=environment,
            check=True,
        )

    def kill(self) -> None:
        """End it without a shutdown of its clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes, as a machine does that hangs."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (pid, *map(int, children)):
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in (*map(int, children), pid):
                os.kill(process, signal.SIGCONT)

    def _run(self, program: str, *arguments: str) -> None:
        command = (binary(program), *arguments)
        user, group = self._rights()
        subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, user=user, group=group
        )

    def _rights(self) -> tuple[int, int] | tuple[None, None]:
        return (None, None) if self._account is None else self._account[2:4]


def _account() -> pwd.struct_passwd | None:
    """Return the account for the server, which refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other account")
