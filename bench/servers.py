"""Server processes: start by command line, requests, and stop by their own pid."""

import http.client
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.cores import pinned

ROOT = Path(__file__).resolve().parent.parent
_START_LIMIT = 300.0
"""Seconds; a million rooms take one or two minutes."""
_STOP_LIMIT = 10.0
_POLL = 0.001


class NotServing(RuntimeError):
    """A server ended, or sent no 200, within the time limit of its start."""


@dataclass(frozen=True)
class Launch:
    """A server to start, and what can be verified about it."""

    name: str
    command: Callable[[int], Sequence[str]]
    """The command line for a port."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables in addition to the current environment."""
    audit: Path | None = None
    """The file to which it appends one line per call, if any."""
    authenticates: bool = False
    """Whether a call without credentials must get 401."""
    tls: bool = False
    """Whether it uses HTTPS, with a self-signed certificate."""


@dataclass(frozen=True)
class Reply:
    """Status and body of one reply."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Server:
    """A running server."""

    launch: Launch
    pid: int
    port: int
    first_answer: float
    """Seconds from being spawned to having sent the first 200."""
    answering_since: float
    """The monotonic clock at the first 200."""

    def ask(self, target: str, authorization: str | None = None) -> Reply:
        """Send a GET for ``target`` on a new connection."""
        return _ask(self.port, target, authorization, tls=self.launch.tls)


def _surroundings() -> dict[str, str]:
    """Return the current environment with cached bytecode enabled, as in production."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def asking(
    port: int, authorization: str | None, *, tls: bool = False
) -> Iterator[Callable[[str], Reply]]:
    """Open a keep-alive connection to a server on loopback; yield a function of the target."""
    connection = _connection(port, tls=tls)
    headers = {"Authorization": authorization} if authorization else {}

    def ask(target: str) -> Reply:
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        return Reply(response.status, response.read())

    try:
        yield ask
    finally:
        connection.close()


@contextmanager
def running(
    launch: Launch, *, target: str, authorization: str, core: int | None, log: Path
) -> Iterator[Server]:
    """Run the server of ``launch`` on ``core``, ready after its first 200 to ``target``.

    :raises NotServing: with the end of what the server printed.
    """
    port = _free_port()
    with log.open("ab") as output:
        started = time.monotonic()
        with pinned(core):
            child = subprocess.Popen(
                launch.command(port),
                cwd=ROOT,
                env={**_surroundings(), **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_for_200(
                child,
                lambda: _ask(port, target, authorization, tls=launch.tls),
                launch.name,
                log,
            )
            now = time.monotonic()
            yield Server(launch, child.pid, port, now - started, now)
        finally:
            _end(child)


def _wait_for_200(
    child: subprocess.Popen[bytes], ask: Callable[[], Reply], name: str, log: Path
) -> None:
    seen = "no answer"
    limit = time.monotonic() + _START_LIMIT
    while child.poll() is None and time.monotonic() < limit:
        try:
            reply = ask()
        except OSError:
            time.sleep(_POLL)
            continue
        if reply.status == 200:
            return
        seen = f"status {reply.status}"
        time.sleep(_POLL)
    ending = log.read_text(errors="replace")[-2000:]
    raise NotServing(f"{name}: {seen}, exit status {child.poll()}; it printed:\n{ending}")


def _ask(port: int, target: str, authorization: str | None, *, tls: bool) -> Reply:
    with asking(port, authorization, tls=tls) as ask:
        return ask(target)


def _connection(port: int, *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
