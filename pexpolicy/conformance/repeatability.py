"""Comparing replies with each other: the same question must get the same decision."""

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
SHOWN = 4
"""Names of fields that a finding lists."""


def compare(step: Step, judged: CheckResult, earlier: CheckResult | None) -> list[Finding]:
    """A finding where a step did not get the decision of the earlier step that it must equal."""
    if earlier is None or earlier.decision is None or judged.decision is None:
        return []
    if earlier.broken or judged.broken:
        return []
    if earlier.decision == judged.decision:
        return []
    what = difference(earlier.decision, judged.decision)
    text = f"not the same decision as “{step.same_as}” ({what}): {step.because}"
    again = step.because == AGAIN
    if again and _is_gateway(earlier, judged) and what == "name differs":
        return [warning(Topic.REPEATABLE, text, "a gateway's name is to be unique per call")]
    topic = Topic.REPEATABLE if again else Topic.CONSISTENT
    return [
        violation(topic, text, Confidence.TRANSCRIBED)
        if step.certain
        else warning(topic, text, Confidence.REPORTED)
    ]


def _is_gateway(*both: CheckResult) -> bool:
    return all(judged.service.get("service_type") == "gateway" for judged in both)


def difference(one: Comparable, other: Comparable) -> str:
    """What differs between two decisions, by name: values may be secret."""
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
    missing = object()
    names = [
        n for n in sorted({*before, *after}) if before.get(n, missing) != after.get(n, missing)
    ]
    shown = ", ".join(names[:SHOWN]) + (" and more" if len(names) > SHOWN else "")
    return f"{shown} differ{'s' if len(names) == 1 else ''}"


class ServiceConsistency:
    """Every service that the server named so far: one name must mean one service (rule 14)."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Mapping[str, Any], str]] = {}

    def compare(self, asked: SentRequest, judged: CheckResult, where: str) -> list[Finding]:
        """A finding where a service has the name of an earlier one and is another."""
        service = judged.service
        if not service or service.get("breakout") is True:
            return []
        # Before dialing out only the name counts, and prefer_ipv6.
        if asked.get("call_direction") == "dial_out":
            return []
        kept = {n: v for n, v in service.items() if n not in PER_PARTICIPANT}
        before, first = self._known.setdefault(str(service["name"]), (kept, where))
        if before == kept:
            return []
        what = _differing(before, kept)
        if service["service_type"] == before["service_type"] == "gateway":
            text = (
                f"two calls share the name of a gateway ({what}, first in {first}); "
                "it is to be unique per call"
            )
            return [warning(Topic.CONSISTENT, text, Confidence.TRANSCRIBED)]
        text = (
            f"the service has the name of an earlier one and is another ({what}, first in {first})"
        )
        return [violation(Topic.CONSISTENT, text, Confidence.TRANSCRIBED)]
