"""Calls to a policy without HTTP, and capture of their audit lines."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uuid_utils import uuid7

from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.records import with_audit_line
from pexpolicy.audit.redaction import redaction_of
from pexpolicy.audit.sinks import Sink
from pexpolicy.config.settings import Settings
from pexpolicy.models.request import CallFacts, Request, clear_annotations
from pexpolicy.policy import Answer, Policy
from pexpolicy.testing.requests import alias_of, endpoint_of

Line = dict[str, Any]

# Not a context variable: the tasks of a server that is already open would not see the change.
_listeners: list[list[Line]] = []


class _CapturingSink(Sink):
    """Audit sink that passes each line to the active ``capture_audit`` blocks."""

    def record(self, line: bytes) -> None:
        """Hand one line to every listener."""
        if _listeners:
            event = json.loads(line)
            for lines in _listeners:
                lines.append(copy.deepcopy(event))


@contextmanager
def capture_audit() -> Iterator[list[Line]]:
    """Collect the audit lines of the calls that ``decide`` and ``client`` make, as dictionaries.

    They are those of a server, with secrets removed::

        with capture_audit() as lines:
            decide_sync(Doors, make_request("service_configuration"))
        assert lines[0]["decided_by"] == "doors"
    """
    lines: list[Line] = []
    _listeners.append(lines)
    try:
        yield lines
    finally:
        _listeners[:] = [others for others in _listeners if others is not lines]


def capturing_audit_log(settings: Settings) -> AuditLog:
    """Return an audit log with the ``[privacy]`` of a configuration; ``capture_audit`` collects
    its lines.
    """
    return AuditLog(_CapturingSink(), redaction=redaction_of(settings))


async def asked(policy: Policy, request: Request, audit: AuditLog) -> Answer:
    """Return the answer of a serving policy to a request, and write its audit line."""
    endpoint_of(request)  # raises TypeError for anything but a request
    clear_annotations(request)
    call = CallFacts(params=request.params, alias=alias_of(request), config_hash=policy.config_hash)
    answer = await policy.answer(request, str(uuid7()))
    line = audit.record(call, answer)
    audit.write(line)
    if policy.observers:
        return Answer(with_audit_line(answer.outcome, line), answer.reply)
    return answer
