"""What Infinity makes of the text that a script printed, without the secrets that it was given."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pexpolicy import Decision, DecisionError, Redirect, Reject, Request
from pexpolicy.conformance.replies import read_envelope
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.models.request import secrets_of
from pexpolicy.text import brief
from pexpolicy_local_policy.script_process import Rendering
from pexpolicy_local_policy.variables import ENDPOINT_OF, JSON_NUMBERS, Kind, ScriptInput

HIDDEN = "***"
_FEWEST = 2
"""Characters at the end of a cut text that may be the beginning of a secret."""
_CUT = re.compile(r"['\"]?…|\Z")
_DIGIT = re.compile(r"\d")


def masked(text: str, request: Request, found: ScriptInput) -> str:
    """Return a text without PINs and passwords of the call and of its service."""
    secrets = {*secrets_of(request), *given_secrets(found)}
    text = without(text, secrets)
    shown: list[str] = []
    at = 0
    for cut in _CUT.finditer(text):
        part = text[at : cut.start()]
        begun = max((_begun(part, secret) for secret in secrets), default=0)
        shown += (part[: len(part) - begun], HIDDEN if begun else "", cut[0])
        at = cut.end()
    return "".join(shown)


def _begun(part: str, secret: str) -> int:
    """Return how many characters at the end of a cut text are the beginning of a secret.

    Callers send secrets of thousands of characters, so no pattern is compiled for each beginning.
    """
    longest = min(len(part), len(secret) - 1)
    lengths = range(longest, _FEWEST - 1, -1)
    return next((length for length in lengths if secret.startswith(part[-length:])), 0)


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``***`` for each of these secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def given_secrets(found: ScriptInput) -> set[str]:
    """Return the PINs and passwords among the variables of a script."""
    service = found.service_config or {}
    values = [service.get(name) for name in PROTECTIONS]
    values.append(found.call_info.get("third_party_passcode"))
    return {str(value) for value in values if value is not None and str(value)}


def covered(text: str, secrets: Iterable[str] = ()) -> str:
    """Return an output of the same length without secrets and digits, which may be those of a PIN.

    Cover the whole text before you cut an excerpt of it: a part of a secret is not recognized.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "*" * len(secret))
    return _DIGIT.sub("*", text)


def covered_value(value: Any, secrets: Iterable[str] = ()) -> str:
    """Return a value of an output on a short line, without secrets and digits."""
    if isinstance(value, str):
        return brief(covered(value, secrets))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else brief(value)


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
    warnings: list[str] = []
    made: dict[str, Any] = {}
    try:
        _read(found, rendering.text, extras, made, warnings)
    except DecisionError as error:
        made["dropped"] = _why(error)
    except _DroppedError as error:
        made["dropped"] = str(error)
    return Verdict(**made, warnings=tuple(warnings))


class _DroppedError(Exception):
    """An output that Infinity does not apply; the text says why."""


def _read(
    found: ScriptInput, text: str, extras: Extras, made: dict[str, Any], warnings: list[str]
) -> None:
    """Add the parts of the verdict to ``made``; raises ``_DroppedError`` and ``DecisionError``."""
    kind, secrets = found.kind, given_secrets(found)
    document = made["document"] = _parsed(text, warnings, secrets)
    if not isinstance(document, dict):
        raise _DroppedError(f"the output is {covered_value(document, secrets)}, not an object")
    actions: Sequence[str] = ACTIONS.get(kind, ())
    action: Any = document.get("action") if actions else "continue"
    if actions and action not in actions:
        shown = covered_value(action, secrets)
        given = f"action = {shown}" if "action" in document else "there is no action, which"
        raise _DroppedError(f"{given} is not one of {', '.join(actions)}")
    made["action"] = action
    if not actions and "action" in document:
        warnings.append("action: scripts for media locations have none")
    result = document.get("result", {})
    if not isinstance(result, dict):
        raise _DroppedError(f"result is {covered_value(result, secrets)}, not an object")
    if "result" not in document:
        if kind == "media_location" or action == "redirect":
            raise _DroppedError("there is no result")
        warnings.append("there is no result, and Pexip's text asks for one, such as {}")
    made["result"] = result
    _judge_result(found, action, extras, made, warnings)


def _judge_result(
    found: ScriptInput, action: str, extras: Extras, made: dict[str, Any], warnings: list[str]
) -> None:
    result = made["result"]
    if action == "redirect":
        made["decision"] = redirect = Redirect.from_result(result)
        warnings += redirect.warnings
    elif action == "reject":
        made["decision"] = _rejected(found.kind, result, warnings)
    elif result:
        _judge_fields(found, result, extras, made, warnings)
    elif found.kind == "media_location":
        raise _DroppedError("the result has no location")


def _parsed(text: str, warnings: list[str], secrets: Collection[str]) -> Any:
    """Return the value of a JSON text; raises ``_DroppedError``."""
    duplicates: dict[str, None] = {}

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            duplicates.update(dict.fromkeys(name for name in made if counts[name] > 1))
        return made

    try:
        found = json.loads(text, object_pairs_hook=unique, **JSON_NUMBERS)
    except json.JSONDecodeError as error:
        what = "it is empty"
        if text.strip():
            line = (text.splitlines() or [""])[error.lineno - 1 :][:1]
            start = max(error.colno - 1 - _MAX_EXCERPT // 2, 0)
            excerpt = covered("".join(line), secrets)[start : start + _MAX_EXCERPT].strip()
            at = f" at {brief(excerpt)}" if excerpt else " at its end"
            what = f"{error.msg.lower()}{at} (line {error.lineno} of the output)"
    except RecursionError:
        what = "it is nested too deeply"
    except ValueError as error:
        what = str(error)
    else:
        warnings += [
            f"{brief_name(name)} is printed twice in one object; the last one counts, as far as is "
            "known"
            for name in duplicates
        ]
        return found
    raise _DroppedError(f"the output is not JSON: {what}")


def _rejected(kind: Kind, result: dict[str, Any], warnings: list[str]) -> Reject:
    if kind == "service":
        warnings += ["the result of a reject is not used"] if result else []
        return Reject()
    others = [name for name in result if name != "reject_reason"]
    warnings += [f"{brief_name(name)}: a reject has nothing but reject_reason" for name in others]
    return Reject.from_result({n: value for n, value in result.items() if n not in others})


def _judge_fields(
    found: ScriptInput,
    result: dict[str, Any],
    extras: Extras,
    made: dict[str, Any],
    warnings: list[str],
) -> None:
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
                raise
            if fields.pop(name, None) is None:
                break
    doubts = [*reading.repairs, *(decision.warnings if decision is not None else ())]
    secrets = given_secrets(found)
    warnings += [without(text, secrets) for text in doubts if _concerns(text, changed, before)]
    direction = found.call_info.get("call_direction")
    if found.kind == "service" and direction == "dial_out" and {*changed} - {"prefer_ipv6"}:
        text = "a call that dials out joins a running service: only prefer_ipv6 has an effect"
        warnings.append(f"{text} [transcribed]")
    made.update(changed=tuple(changed), decision=decision)


def _concerns(text: str, changed: Sequence[str], before: Mapping[str, Any]) -> bool:
    """Return False for a warning about a field that the script has not changed."""
    name = text.partition(":")[0].partition("[")[0].partition(".")[0]
    return not before or name in changed


def _why(error: DecisionError) -> str:
    issue = error.refusal
    where = f"{issue.field}: " if issue.field else ""
    mark = f" [{issue.mark}]" if issue.mark else ""
    value = f" (and not {brief(issue.value)})" if issue.shown and issue.field else ""
    return f"{where}{issue.rule}{value}{mark}"
