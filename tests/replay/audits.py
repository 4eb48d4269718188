"""Audit files for replays: written by a policy as a server writes them, at chosen times."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from multidict import MultiDict
from uuid_utils import uuid7

from pexpolicy.audit.records import as_json
from pexpolicy.builder import policy_from
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.context import DryRunClock
from pexpolicy.models.request import CallFacts, set_origin
from pexpolicy.policy import Answer, BuildContext
from pexpolicy.testing.build import capturing_audit_log
from tests.cli.test_main import invoked

Asked = tuple[str, str, Sequence[tuple[str, str]], datetime]
"""Endpoint, alias in the path, parameters, and time of a call."""


def answers(config: Path, calls: Sequence[Asked]) -> tuple[list[Answer], list[bytes]]:
    """Return the answers of a configuration to calls, and the audit lines of a server."""
    return asyncio.run(_answers(config, calls))


async def _answers(config: Path, calls: Sequence[Asked]) -> tuple[list[Answer], list[bytes]]:
    clock = DryRunClock()
    policy = policy_from(config, context=BuildContext(wall_clock=clock))
    audit = capturing_audit_log(policy.settings)
    given: list[Answer] = []
    lines: list[bytes] = []
    async with policy.serving():
        for endpoint, alias, pairs, at in calls:
            request = ENDPOINTS[endpoint].parse(MultiDict(pairs), alias)
            set_origin(request, "", "10.0.0.7")
            clock.at = at.timestamp()
            answer = await policy.answer(request, str(uuid7()))
            line = audit.record(CallFacts(policy_hash=policy.policy_hash), answer)
            line.timestamp = at
            given.append(answer)
            lines.append(as_json(line))
    return given, lines


def written(config: Path, calls: Sequence[Asked], path: Path) -> Path:
    """Write the audit of a configuration to a file."""
    _, lines = answers(config, calls)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def replayed(*arguments: object, code: int = 0) -> Any:
    """Return the report of the command ``replay`` as JSON."""
    done = invoked("replay", *map(str, arguments), "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)
