"""Verification that a server did the work whose cost was measured.

A server that answers wrongly, accepts every caller or drops audit lines is fast for a bad reason.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.servers import Reply, Server, asking
from bench.traffic import TARGETS, Traffic

_SAMPLE = range(0, TARGETS, 256)
_CONNECTIONS = 16
_CHUNK_BYTES = 1 << 20
_SETTLE_S = 0.3
"""Seconds without a new audit line after which no call is on its way."""


class VerificationError(RuntimeError):
    """A server did not do what its figure claims."""


class AuditLineCounter:
    """Counter of lines added to an audit file; ``path`` is None for a server without one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = path.stat().st_size if path else 0

    @property
    def present(self) -> bool:
        """Return whether the server has an audit file."""
        return self._path is not None

    def added(self) -> int:
        """Return the lines added since the last call, or since construction; 0 without a file."""
        if not self._path:
            return 0
        with self._path.open("rb") as file:
            file.seek(self._seen)
            lines = sum(part.count(b"\n") for part in iter(lambda: file.read(_CHUNK_BYTES), b""))
            self._seen = file.tell()
        return lines


def check_sample(server: Server, traffic: Traffic, authorization: str) -> None:
    """Check a sample of calls in turn: bodies, the 401, and an audit line before each reply.

    :raises VerificationError: with the server, the call and the fault.
    """
    audit = AuditLineCounter(server.launch.audit)
    for index in _SAMPLE:
        _check_reply(server, traffic, index, server.ask(traffic.targets[index], authorization))
        if audit.present and audit.added() != 1:
            raise VerificationError(f"{server.launch.name}: no audit line when the reply arrived")
    if server.launch.authenticates:
        _check_refusal(server, traffic.targets[0])


def check_all(server: Server, traffic: Traffic, authorization: str) -> None:
    """Check all calls, many at once: bodies, and exactly one audit line each.

    :raises VerificationError: with the server, the call and the fault.
    """
    audit = AuditLineCounter(server.launch.audit)
    # Calls on connections that wrk has aborted may still be on their way.
    time.sleep(_SETTLE_S)
    while audit.added():
        time.sleep(_SETTLE_S)
    shares = [range(first, TARGETS, _CONNECTIONS) for first in range(_CONNECTIONS)]

    def check_share(share: Sequence[int]) -> None:
        with asking(server.port, authorization, tls=server.launch.tls) as ask:
            for index in share:
                _check_reply(server, traffic, index, ask(traffic.targets[index]))

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(check_share, shares))
    if audit.present and (lines := audit.added()) != TARGETS:
        raise VerificationError(f"{server.launch.name}: {lines} audit lines for {TARGETS} calls")


def check_audit(server: Server, added: int, answered: int, aborted: int) -> None:
    """Check that the audit file grew by one line per call that wrk counted.

    wrk aborts up to ``aborted`` calls that it does not count; they may have lines as well.

    :raises VerificationError: if there are too few or too many lines.
    """
    if not answered <= added <= answered + aborted:
        raise VerificationError(f"{server.launch.name}: {added} audit lines for {answered} calls")


def _check_reply(server: Server, traffic: Traffic, index: int, reply: Reply) -> None:
    where = f"{server.launch.name}, call {index}"
    if reply.status != 200:
        raise VerificationError(f"{where}: status {reply.status}")
    try:
        content = json.loads(reply.body)
    except ValueError as error:
        raise VerificationError(f"{where}: the body is not JSON") from error
    result = content.get("result") or {}
    expected = traffic.result(index)
    differing = sorted(key for key, value in expected.items() if result.get(key) != value)
    if content.get("status") != "success" or differing:
        raise VerificationError(f"{where}: unexpected reply ({differing}): {reply.body[:500]!r}")


def _check_refusal(server: Server, target: str) -> None:
    status = server.ask(target).status
    if status != 401:
        raise VerificationError(
            f"{server.launch.name}: status {status} without credentials, not 401"
        )
