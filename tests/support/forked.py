"""The command line in processes of their own, without the time of its imports.

One process imports it, has no threads and forks whatever is asked for. What it forks has the
arguments, folder, environment and standard streams of a process that was started.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import HANG_S

PEXPOLICY = 'from pexpolicy.cli.main import main\nmain(prog_name="pexpolicy")'
IMPORTED = ("pexpolicy.cli.check", "pexpolicy.cli.serve", "pexpolicy_console.server", "uvloop")
"""What takes most of the time of a start."""
_one_at_a_time = threading.Lock()


class Process:
    """A process that runs a program of Python, with what tests use of ``subprocess.Popen``."""

    def __init__(
        self,
        *arguments: str,
        program: str = PEXPOLICY,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: int | None = None,
        merged: bool = False,
    ) -> None:
        """Fork; ``stderr`` has what it writes, unless that is ``merged`` with its output."""
        self.returncode: int | None = None
        order = {
            "program": program,
            "arguments": arguments,
            "folder": str(cwd or Path.cwd()),
            "environment": {**(os.environ if env is None else env)},
        }
        self._end, other = socket.socketpair(type=socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        self.stderr = os.fdopen(reading)
        with other, os.fdopen(writing) as errors, Path(os.devnull).open("w") as nothing:
            output = nothing.fileno() if stdout is None else stdout
            files = (other.fileno(), output, output if merged else errors.fileno())
            with _one_at_a_time:
                socket.send_fds(_origin(), [json.dumps(order).encode()], files)
        self.pid = int(self._end.recv(16))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stderr.close()
        self.wait()

    def wait(self, timeout: float = HANG_S) -> int:
        """Return its exit code once it has ended."""
        if self.returncode is None:
            assert self._has_ended(timeout), "a forked process does not end"
            with self._end:
                self.returncode = int(self._end.recv(16))
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None and not self._has_ended():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float = 0) -> bool:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


def run(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    merged: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with tempfile.TemporaryFile("w+") as output:
        number = output.fileno()
        with Process(*arguments, env=env, cwd=cwd, stdout=number, merged=merged) as process:
            errors = process.stderr.read()
            code = process.wait()
        output.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read(), errors)


@cache
def _origin() -> socket.socket:
    """Start the process that forks; return where it takes orders. It ends with this one."""
    mine, other = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with other:
        process = subprocess.Popen(
            (sys.executable, "-m", __name__, str(other.fileno())),
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            pass_fds=(other.fileno(),),
        )

    def end() -> None:
        mine.close()
        process.wait(HANG_S)

    atexit.register(end)
    return mine


def _main(orders: socket.socket) -> None:
    """Fork for each order; in the new process run its program."""
    for name in IMPORTED:
        import_module(name)
    ends: dict[int, socket.socket] = {}

    def tell(*_: object) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                with ends.pop(found[0]) as end, suppress(OSError):
                    end.send(b"%d" % os.waitstatus_to_exitcode(found[1]))

    signal.signal(signal.SIGCHLD, tell)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        content, files, *_ = socket.recv_fds(orders, 2**20, 3)
        if not content:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        if (pid := os.fork()) == 0:
            break
        ends[pid] = socket.socket(fileno=files.pop(0))
        ends[pid].send(b"%d" % pid)
        for file in files:
            os.close(file)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
    for end in (orders, *ends.values()):
        end.close()
    os.dup2(files[1], 1)
    os.dup2(files[2], 2)
    for file in files:
        os.close(file)
    _become(**json.loads(content))


def _become(program: str, arguments: list[str], folder: str, environment: dict[str, Any]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv[:] = ["-c", *arguments]
    further = environment.get("PYTHONPATH", "")
    sys.path[:1] = [folder, *filter(None, further.split(os.pathsep))]
    exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - tests' own


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
