"""What Infinity makes of the text that a script printed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pexpolicy import Decision, DecisionError, Redirect, Reject
from pexpolicy.conformance.replies import read_envelope
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.text import brief
from pexpolicy_local_policy.script_process import Rendering
from pexpolicy_local_policy.secrets import covered, covered_value, given_secrets, without
from pexpolicy_local_policy.variables import ENDPOINT_OF, JSON_NUMBERS, ScriptInput

ACTIONS = {
    "service": ("continue", "reject", "redirect"),
    "participant": ("continue", "reject"),
}
"""The actions of the scripts that have any (transcribed)."""
BASELINE = {
    "service": "service_config",
    "participant": "participant",
    "media_location": "suggested_media_overflow_locations",
}
"""The variable that the result of a script of each kind replaces, or changes."""
KEPT = "Infinity keeps the configuration that stood before [disputed: some say it rejects the call]"
_MAX_EXCERPT = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Infinity does with the output of a script.

    ``dropped`` says why it is not applied; without it, ``action`` and ``result`` are. ``decision``
    is the same as a checked decision, where the result has one.
    """

    action: str = ""
    result: Any = None
    dropped: str = ""
    warnings: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Names of fields that differ from those before the script."""
    decision: Decision | None = None
    document: Any = None
    """The whole JSON that the script printed, ``None`` where it is none."""

    @property
    def summary(self) -> str:
        """Return the verdict in one line."""
        if self.dropped:
            return f"dropped: {self.dropped}. {KEPT}"
        if self.action == "redirect":
            return "applied: the caller is redirected"
        if self.action == "reject":
            return "applied: the call is rejected"
        if not self.result:
            return "applied: continue, and nothing is changed"
        if not self.changed:
            return "applied: continue, with the same fields as before the script"
        return f"applied: continue, changes {', '.join(map(self._changed, self.changed))}"

    def _changed(self, name: str) -> str:
        removed = name in PROTECTIONS and not self.result.get(name)
        return f"{brief_name(name)} (removed)" if removed else brief_name(name)


def brief_name(name: str) -> str:
    """Return the name of a field for a message."""
    return name if name.isidentifier() else covered_value(name)


def judge(found: ScriptInput, rendering: Rendering, extras: Extras = NO_EXTRAS) -> Verdict:
    """Return what Infinity does after a script has run with these variables."""
    failure = rendering.failure
    if failure is not None:
        prefix = "" if failure.kind == "not applied" else "the script failed: "
        return Verdict(dropped=f"{prefix}{failure}")
    duplicates: dict[str, None] = {}
    try:
        document = _parsed(rendering.text, duplicates, given_secrets(found))
    except ValueError as error:
        return Verdict(dropped=f"the output is not JSON: {error}")
    if not isinstance(document, dict):
        shown = covered_value(document, given_secrets(found))
        text = f"the output is {shown}, not an object"
        return Verdict(dropped=text, document=document)
    warnings = [
        f"{brief_name(key)} is printed twice in one object; the last one counts, as far as is known"
        for key in duplicates
    ]
    verdict = _document(found, document, extras)
    return replace(verdict, document=document, warnings=(*warnings, *verdict.warnings))


def _parsed(text: str, duplicates: dict[str, None], secrets: Collection[str]) -> Any:
    """Return the value of a JSON text, and add repeated keys; raises ``ValueError``."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in pairs:
            if key in made:
                duplicates[key] = None
            made[key] = value
        return made

    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text, object_pairs_hook=unique, **JSON_NUMBERS)
    except json.JSONDecodeError as error:
        lines = text.splitlines() or [""]
        line = lines[error.lineno - 1] if error.lineno <= len(lines) else ""
        start = max(error.colno - 1 - _MAX_EXCERPT // 2, 0)
        excerpt = covered(line, secrets)[start : start + _MAX_EXCERPT].strip()
        at = f" at {brief(excerpt)}" if excerpt else " at its end"
        raise ValueError(f"{error.msg.lower()}{at} (line {error.lineno} of the output)") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _document(found: ScriptInput, document: Mapping[str, Any], extras: Extras) -> Verdict:
    kind = found.kind
    warnings: list[str] = []
    actions = ACTIONS.get(kind, ())
    action = document.get("action")
    if actions and action not in actions:
        shown = covered_value(action, given_secrets(found))
        given = f"action = {shown}" if "action" in document else "there is no action, which"
        return Verdict(dropped=f"{given} is not one of {', '.join(actions)}")
    if not actions and "action" in document:
        warnings.append("action: scripts for media locations have none")
        action = None
    result = document.get("result")
    if "result" not in document:
        if kind == "media_location" or action == "redirect":
            return Verdict(str(action or ""), dropped="there is no result")
        warnings.append("there is no result, and Pexip's text asks for one, such as {}")
    elif not isinstance(result, dict):
        shown = covered_value(result, given_secrets(found))
        return Verdict(str(action or ""), dropped=f"result is {shown}, not an object")
    verdict = _action(found, str(action or "continue"), result or {}, extras)
    return replace(verdict, warnings=(*warnings, *verdict.warnings))


def _action(found: ScriptInput, action: str, result: dict[str, Any], extras: Extras) -> Verdict:
    if action == "reject":
        return _rejected(found, result)
    if action == "redirect":
        try:
            redirect = Redirect.from_result(result)
        except DecisionError as error:
            return Verdict(action, result, dropped=_why(error))
        return Verdict(action, result, warnings=redirect.warnings, decision=redirect)
    if not result:
        if found.kind == "media_location":
            return Verdict(action, result, dropped="the result has no location")
        return Verdict(action, result)
    return _result(found, result, extras)


def _rejected(found: ScriptInput, result: dict[str, Any]) -> Verdict:
    if found.kind == "service":
        text = ("the result of a reject is not used",) if result else ()
        return Verdict("reject", result, warnings=text, decision=Reject())
    reason = {name: value for name, value in result.items() if name == "reject_reason"}
    try:
        decision = Reject.from_result(reason)
    except DecisionError as error:
        return Verdict("reject", result, dropped=_why(error))
    others = [name for name in result if name != "reject_reason"]
    text = (f"{brief_name(others[0])}: a reject has nothing but reject_reason",) if others else ()
    return Verdict("reject", result, warnings=text, decision=decision)


def _result(found: ScriptInput, result: dict[str, Any], extras: Extras) -> Verdict:
    """Judge the fields that the script has changed; the others are Infinity's own, and valid."""
    endpoint = ENDPOINT_OF[found.kind]
    before = found.variables.get(BASELINE[found.kind]) or {}
    changed = [name for name in result if name not in before or before[name] != result[name]]
    if found.kind == "service":
        changed += [name for name in before if name not in result]
    body = {"status": "success", "action": "continue", "result": result}
    reading = read_envelope(endpoint, body, extras)
    fields = dict(reading.result if isinstance(reading.result, Mapping) else result)
    decision = None
    while decision is None:
        try:
            decision = ENDPOINTS[endpoint].from_result(fields, extras)
        except DecisionError as error:
            name = str(error.refusal.key[0]) if error.refusal.key else "service_type"
            if name in changed or not before:
                return Verdict("continue", result, dropped=_why(error))
            if fields.pop(name, None) is None:
                break
    warnings = [*reading.repairs, *(decision.warnings if decision is not None else ())]
    secrets = given_secrets(found)
    shown = [without(text, secrets) for text in warnings if _concerns(text, changed, before)]
    return Verdict(
        "continue",
        result,
        warnings=(*shown, *_limits(found, changed)),
        changed=tuple(changed),
        decision=decision,
    )


def _concerns(text: str, changed: Sequence[str], before: Mapping[str, Any]) -> bool:
    """Return False for a warning about a field that the script has not changed."""
    name = text.partition(":")[0].partition("[")[0].partition(".")[0]
    return not before or name in changed


def _limits(found: ScriptInput, changed: Sequence[str]) -> list[str]:
    """Return what Infinity ignores of the changes."""
    direction = found.call_info.get("call_direction")
    if found.kind == "service" and direction == "dial_out" and {*changed} - {"prefer_ipv6"}:
        text = "a call that dials out joins a running service: only prefer_ipv6 has an effect"
        return [f"{text} [transcribed]"]
    return []


def _why(error: DecisionError) -> str:
    issue = error.refusal
    where = f"{issue.field}: " if issue.field else ""
    mark = f" [{issue.mark}]" if issue.mark else ""
    value = f" (and not {brief(issue.value)})" if issue.shown and issue.field else ""
    return f"{where}{issue.text}{value}{mark}"
