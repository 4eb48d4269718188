"""Asking a policy without HTTP, and catching the audit lines of the calls that tests make."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uuid_utils import uuid7

from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.sinks import Sink
from pexpolicy.models.request import Request
from pexpolicy.policy import Answer, Policy
from pexpolicy.testing.requests import alias_of

Line = dict[str, Any]

# Not a context variable: the tasks of a server that is open already would not see the change.
_catching: list[list[Line]] = []


class _CapturingSink(Sink):
    """The end of an audit that goes to whoever is listening, and nowhere else."""

    def info(self, line: bytes) -> None:
        """Hand one line to every listener."""
        if _catching:
            event = json.loads(line)
            for lines in _catching:
                lines.append(copy.deepcopy(event))

    def tick(self) -> float:
        """There is nothing to look after."""
        return 3600.0

    def reopen(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """There is no file."""


@contextmanager
def capture_audit() -> Iterator[list[Line]]:
    """The audit lines of the calls that ``decide`` and ``client`` make meanwhile, as dictionaries.

    They are what a server would write, secrets removed::

        with audit_lines() as lines:
            decide_now(Doors, make_request("service_configuration"))
        assert lines[0]["decided_by"] == "doors"
    """
    lines: list[Line] = []
    _catching.append(lines)
    try:
        yield lines
    finally:
        _catching[:] = [others for others in _catching if others is not lines]


def capturing_audit_log() -> AuditLog:
    """An audit whose lines ``capture_audit`` catches."""
    return AuditLog(_CapturingSink())


async def asked(policy: Policy, request: Request, audit: AuditLog) -> Answer:
    """What a policy that is serving answers to a request; the call leaves its audit line."""
    began = time.perf_counter()
    answer = await policy.answer(request, str(uuid7()))
    ms = (time.perf_counter() - began) * 1000
    audit.decision(request.params, alias_of(request), answer, ms, None, policy.config_hash)
    return answer
