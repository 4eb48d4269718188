"""The comparison of replies: the same request must get the same decision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pexpolicy.conformance.findings import (
    CheckResult,
    Comparable,
    Finding,
    SentRequest,
    Topic,
    violation,
    warning,
)
from pexpolicy.conformance.flow_steps import AGAIN, Step
from pexpolicy.models.difference import changed_fields
from pexpolicy.models.rules import Confidence

PER_PARTICIPANT = frozenset(
    (
        "pin",
        "guest_pin",
        "host_identity_provider_group",
        "guest_identity_provider_group",
        "max_callrate_in",
        "max_callrate_out",
    )
)
"""Fields of a service that may differ from one participant to the next."""
MAX_NAMES = 4
"""Maximum number of fields that a finding lists."""


def compare(step: Step, judged: CheckResult, earlier: CheckResult | None) -> list[Finding]:
    """Return a finding if a step got another decision than its earlier equivalent."""
    if earlier is None or earlier.decision is None or judged.decision is None:
        return []
    if earlier.broken or judged.broken:
        return []
    if earlier.decision == judged.decision:
        return []
    what = difference(earlier.decision, judged.decision)
    text = f"not the same decision as “{step.same_as}” ({what}): {step.because}"
    again = step.because == AGAIN
    if _is_gateway(earlier, judged) and what == "name differs":
        unique = "a gateway's name must be unique for each call"
        return [warning(Topic.REPEATABLE, text, unique)] if again else []
    topic = Topic.REPEATABLE if again else Topic.CONSISTENT
    return [
        violation(topic, text, Confidence.TRANSCRIBED)
        if step.certain
        else warning(topic, text, Confidence.REPORTED)
    ]


def _is_gateway(*both: CheckResult) -> bool:
    return all(judged.service.get("service_type") == "gateway" for judged in both)


def difference(one: Comparable, other: Comparable) -> str:
    """Return the names of what differs between two decisions: values may be secret."""
    if one[0] != other[0]:
        return f"{one[0]} and then {other[0]}"
    if one[0] == "picture":
        return "another picture"
    if one[0] != "decision":
        return "another status"
    before, after = json.loads(one[1]), json.loads(other[1])
    if before["action"] != after["action"]:
        return "another action"
    return _differing(before["result"], after["result"])


def _differing(before: Any, after: Any) -> str:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return "another result"
    names = sorted(changed_fields(before, after))
    shown = ", ".join(names[:MAX_NAMES]) + (" and more" if len(names) > MAX_NAMES else "")
    return f"{shown} differ{'s' if len(names) == 1 else ''}"


class ServiceConsistency:
    """The services that the server has named: one name must mean one service (rule 14)."""

    def __init__(self) -> None:
        self._services: dict[str, tuple[Mapping[str, Any], str]] = {}

    def compare(self, asked: SentRequest, judged: CheckResult, where: str) -> list[Finding]:
        """Return a finding if a service differs from an earlier one of the same name."""
        service = judged.service
        if not service or service.get("breakout") is True or asked.get("breakout_uuid"):
            return []
        # Before dialing out only the name counts, and prefer_ipv6.
        if asked.get("call_direction") == "dial_out":
            return []
        stable = {n: v for n, v in service.items() if n not in PER_PARTICIPANT}
        before, first = self._services.setdefault(str(service["name"]), (stable, where))
        if before == stable:
            return []
        what = _differing(before, stable)
        if service["service_type"] == before["service_type"] == "gateway":
            text = (
                f"two calls have the same gateway name ({what}, first in {first}); "
                "it must be unique for each call"
            )
            return [warning(Topic.CONSISTENT, text, Confidence.TRANSCRIBED)]
        text = (
            f"the service differs from an earlier one of the same name ({what}, first in {first})"
        )
        return [violation(Topic.CONSISTENT, text, Confidence.TRANSCRIBED)]
