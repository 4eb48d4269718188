"""Proof that a server did the work whose cost was measured.

A server that answers wrongly, lets anybody in or drops audit lines is fast for the wrong reason.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.auditfile import AuditFile
from bench.servers import Reply, Server, asking
from bench.traffic import TARGETS, Traffic

_SAMPLE = range(0, TARGETS, 256)
_LANES = 16


class ProofFailed(RuntimeError):
    """A server did not do what its figure claims."""


def check_sample(server: Server, traffic: Traffic, authorization: str) -> None:
    """Ask a few calls in turn: the bodies, the 401, and an audit line before each reply.

    :raises ProofFailed: with server, call and what was wrong.
    """
    audit = AuditFile(server.launch.audit)
    for index in _SAMPLE:
        _check_reply(server, traffic, index, server.ask(traffic.targets[index], authorization))
        if audit.present and audit.grown() != 1:
            raise ProofFailed(f"{server.launch.name}: no audit line when the reply had arrived")
    if server.launch.authenticates:
        _check_refusal(server, traffic.targets[0])


def check_all(server: Server, traffic: Traffic, authorization: str) -> None:
    """Ask every call, many at once: the bodies, and exactly one audit line each.

    :raises ProofFailed: with server, call and what was wrong.
    """
    audit = AuditFile(server.launch.audit)
    lanes = [range(first, TARGETS, _LANES) for first in range(_LANES)]

    def walk(lane: Sequence[int]) -> None:
        with asking(server.port, authorization, tls=server.launch.tls) as ask:
            for index in lane:
                _check_reply(server, traffic, index, ask(traffic.targets[index]))

    with ThreadPoolExecutor(_LANES) as pool:
        list(pool.map(walk, lanes))
    if audit.present and (lines := audit.grown()) != TARGETS:
        raise ProofFailed(f"{server.launch.name}: {lines} audit lines for {TARGETS} calls")


def check_audit(server: Server, grown: int, answered: int, hung_up: int) -> None:
    """The audit file grew by one line per call that wrk counted.

    wrk hangs up on up to ``hung_up`` calls that it does not count; they may leave lines too.

    :raises ProofFailed: when lines are missing or too many.
    """
    if not answered <= grown <= answered + hung_up:
        raise ProofFailed(f"{server.launch.name}: {grown} audit lines for {answered} calls")


def _check_reply(server: Server, traffic: Traffic, index: int, reply: Reply) -> None:
    where = f"{server.launch.name}, call {index}"
    if reply.status != 200:
        raise ProofFailed(f"{where}: status {reply.status}")
    try:
        content = json.loads(reply.body)
    except ValueError as error:
        raise ProofFailed(f"{where}: the body is not JSON") from error
    result = content.get("result") or {}
    expected = traffic.result(index)
    differing = sorted(key for key, value in expected.items() if result.get(key) != value)
    if content.get("status") != "success" or differing:
        raise ProofFailed(f"{where}: unexpected reply ({differing}): {reply.body[:500]!r}")


def _check_refusal(server: Server, target: str) -> None:
    status = server.ask(target).status
    if status != 401:
        raise ProofFailed(f"{server.launch.name}: status {status} without credentials, not 401")
