"""Servers that tests start in a temporary folder, without the rights of root."""

import itertools
import os
import pwd
import random
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.processes import frozen, wait_for_end
from tests.support.waiting import HANG_S

ACCOUNTS = ("postgres", "openldap", "nobody")
"""Accounts for a server where tests run as root."""
PORTS = range(20000, 32000)
"""Below the ports of outgoing connections, so that no other process gets the port of a server
that is being restarted.
"""
SHARES = 8
"""Processes of pytest-xdist that have ports of their own: with random ports, two tests now and then
chose the same one between the look at it and the start of their servers.
"""


def _own_ports() -> Iterator[int]:
    """Return the ports of this process in random order, without end; threads may share them."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    share = PORTS[int(worker or 0) % SHARES :: SHARES]
    return itertools.cycle(random.sample(share, len(share)))


_next_port = _own_ports().__next__


def free_port() -> int:
    """Return a port without a listener, and not soon the same one again."""
    while True:
        port = _next_port()
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yield a folder, and remove it though orphans of killed servers may still write into it."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class ServerProcess(ABC):
    """A server with its files in a folder; it can be killed, frozen and started again."""

    kill_signal = signal.SIGKILL

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        account = _account()
        self._user = None if account is None else account.pw_uid
        self._group = None if account is None else account.pw_gid
        self.own(folder)

    @classmethod
    @contextmanager
    def running(cls, *content: Any) -> Iterator[Self]:
        """Start one in a folder with a short path, as sockets need, and end it.

        ``content`` is what the class takes after the folder.
        """
        with temporary_folder("pexpolicy-") as folder:
            server = cls(folder, *content)
            try:
                server.start()
                yield server
            finally:
                server.kill()

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return what starts it in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether it answers."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdout=output,
                stderr=output,
                user=self._user,
                group=self._group,
            )
        deadline = time.monotonic() + HANG_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{type(self).__name__} does not start: {log.read_text()[-500:]}")
            time.sleep(0.05)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """End it without a shutdown of its clients, and wait for all that it has started.

        These end by themselves, but until then they use its files and ports.
        """
        if self._process is not None:
            with self.frozen() as processes:
                self._process.send_signal(self.kill_signal)
            self._process.wait()
            wait_for_end(*processes)
            self._process = None

    def frozen(self) -> AbstractContextManager[list[int]]:
        """Stop all its processes, as a machine does that hangs, and yield them."""
        assert self._process is not None
        return frozen(self._process.pid)

    def own(self, *paths: Path) -> None:
        """Give files to the account of the server."""
        if self._user is not None and self._group is not None:
            for path in paths:
                os.chown(path, self._user, self._group)

    def run(self, *command: str) -> None:
        """Run a program with the rights of the server."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=self._user,
            group=self._group,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{command[0]} failed: {done.stdout[-500:]}")


def _account() -> pwd.struct_passwd | None:
    """Return the account for a server, if tests run as root."""
    if os.geteuid() != 0:
        return None
    known = {account.pw_name: account for account in pwd.getpwall()}
    return next(known[name] for name in ACCOUNTS if name in known)
