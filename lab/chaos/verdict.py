"""The verdict on a server while one of its plugins misbehaved."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.chaos.case import BAD, DEFAULT, NEXT, REJECT, Case
from lab.chaos.load import NEEDS, Call
from lab.chaos.target import STOP_TIME, Ended

CALL_TIMEOUT_S = 5.0
"""Seconds that Infinity waits."""
RIGHT = {
    "service_configuration ready": ("continue", "ready"),
    "participant_properties": ("continue", "good"),
    "media_location": ("", "good"),
    "registration_alias": ("reject", ""),
}
"""Action and name in the reply to a call that does not need the misbehaving plugin."""
_REPLIES = {
    NEXT: ("continue", "next"),
    BAD: ("continue", "bad"),
    DEFAULT: ("continue", ""),
    REJECT: ("reject", ""),
}
WELL = ("decided", "abstained")


@dataclass
class Verdict:
    """One case: figures of its calls, and descriptions of the failures."""

    name: str
    calls: int = 0
    needing: int = 0
    longest: float = 0.0
    longest_needing: float = 0.0
    stopping: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def refused_start(case: Case, ended: Ended) -> Verdict:
    """Return the verdict on a server that should not have started."""
    verdict = Verdict(case.name, stopping=ended.seconds)
    if ended.code != case.code:
        verdict.wrong.append(f"exit code {ended.code} instead of {case.code}")
    if case.says not in ended.output:
        verdict.wrong.append(f"nothing of {case.says!r} in: {ended.output[-200:]}")
    return verdict


def of(case: Case, calls: Sequence[Call], audit: Sequence[dict[str, Any]], ended: Ended) -> Verdict:
    """Return the verdict on a server that ran under load."""
    needing = [call for call in calls if call.kind == NEEDS]
    others = [call for call in calls if call.kind != NEEDS]
    verdict = Verdict(case.name, len(calls), len(needing), stopping=ended.seconds)
    verdict.longest = max((call.seconds for call in others), default=0.0)
    verdict.longest_needing = max((call.seconds for call in needing), default=0.0)
    lines = [line for line in audit if line["event"] == "decision"]
    verdict.outcomes = dict(_outcomes(lines))
    wrong = [*_replies(case, calls), *_blame(case, lines, verdict.outcomes, calls)]
    wrong += _silence(needing, others)
    if ended.code != 0:
        wrong.append(f"SIGTERM: exit code {ended.code} (None: not within {STOP_TIME:.0f} s)")
    if case.says not in ended.output:
        wrong.append(f"nothing of {case.says!r} on standard error")
    if ("internal fault" in ended.output) != case.interrupts:
        wrong.append(f"standard error tells of an internal fault: {not case.interrupts}")
    verdict.wrong = [f"{count} x {text}" for text, count in Counter(wrong).items()]
    return verdict


def _silence(needing: Sequence[Call], others: Sequence[Call]) -> Iterable[str]:
    if not needing or not others:
        yield "there was no load of one kind"


def _replies(case: Case, calls: Iterable[Call]) -> Iterable[str]:
    needing = {_REPLIES[who] for who in case.replies}
    for call in calls:
        right = needing if call.kind == NEEDS else {RIGHT[call.kind]}
        if case.interrupts:
            right = right | {_REPLIES[DEFAULT]}
        if _action_and_name(call) not in right and not (case.interrupts and call.status == 0):
            yield f"{call.kind}: {call.status} {call.body[:80]}"
        if call.seconds > CALL_TIMEOUT_S:
            yield f"{call.kind}: not within {CALL_TIMEOUT_S:.0f} s"


def _action_and_name(call: Call) -> tuple[str, str] | None:
    """Return action and name of a reply, ``None`` for an invalid one."""
    try:
        reply = json.loads(call.body)
        result = reply.get("result") or {}
    except (ValueError, AttributeError):
        return None
    names = (result.get(key) for key in ("name", "call_tag", "location"))
    action = reply.get("action", "")
    return ("" if "location" in result else action), next((n for n in names if n), "")


def _outcomes(lines: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(
        step["outcome"] for line in lines for step in line["steps"] if step["plugin"] == "bad"
    )


def _blame(
    case: Case, lines: Sequence[dict[str, Any]], outcomes: dict[str, int], calls: Sequence[Call]
) -> Iterable[str]:
    """Check for one line per call, and for failures of this plugin only."""
    answered = sum(call.status != 0 for call in calls)
    if len(lines) != answered:
        yield f"{len(lines)} audit lines of {answered} calls that were answered"
    well = (*WELL, "skipped") if DEFAULT in case.replies else WELL
    for line in lines:
        for step in line["steps"]:
            if step["plugin"] != "bad" and step["outcome"] not in well:
                yield f"{step['plugin']} is blamed: {step['outcome']} {step.get('detail', '')[:80]}"
    for outcome in outcomes:
        if outcome not in case.outcomes:
            yield f"a step that is {outcome}"
    if case.is_asked and not case.interrupts:
        yield from (f"no step that is {o}" for o in case.has_to_occur if o not in outcomes)
        details = [step.get("detail", "") for line in lines for step in line["steps"]]
        if not any(case.detail in detail for detail in details):
            yield f"no step says {case.detail!r}: {max(details, key=len, default='')[:120]}"
