"""The scripts of a node after our answer, for ``pexpolicy replay``."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, get_args

from jinja2 import TemplateSyntaxError, nodes

from pexpolicy import Continue, Decision, MediaLocation, Reject, Request, Service
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.explanation import LocalPolicyError, LocalPolicyOutcome
from pexpolicy.models.contract import Extras
from pexpolicy_local_policy.language import parse
from pexpolicy_local_policy.script_process import COMMAND_SECONDS, Job, ScriptPool
from pexpolicy_local_policy.variables import (
    CALL_INFO,
    ENDPOINT_OF,
    KIND_OF,
    PARTICIPANT,
    Kind,
    ScriptInput,
    from_request,
    read_json,
    read_text,
)
from pexpolicy_local_policy.verdict import judge, masked

SUGGESTED = "suggested_media_overflow_locations"


def input_before(endpoint: str, request: Request) -> tuple[ScriptInput, tuple[str, ...]]:
    """Return the variables of a script that decides by itself, and those that are unknown.

    What Infinity has configured is known to the node only.
    """
    kind = KIND_OF[endpoint]
    unknown = ("service_config", SUGGESTED) if kind == "media_location" else ("service_config",)
    return from_request(kind, request), unknown


def input_after(
    endpoint: str,
    request: Request,
    decision: Decision,
    own: Mapping[str, Any] | None = None,
) -> tuple[ScriptInput, tuple[str, ...]]:
    """Return the variables of a script that follows a decision, and those that are unknown.

    ``own`` are variables that Infinity itself has for the call: ``service_config``, and the
    suggested locations.
    """
    own = own or {}
    kind, fields = KIND_OF[endpoint], _fields(decision)
    found = from_request(kind, request)
    changed = {**found.variables, "service_config": own.get("service_config")}
    unknown = []
    if kind == "service" and not isinstance(decision, Continue):
        changed["service_config"] = fields if isinstance(decision, Service) else None
    elif changed["service_config"] is None:
        unknown.append("service_config")
    if kind != "media_location":
        disposition = decision.action.upper()
        changed["call_info"] = {**found.call_info, "external_policy_disposition": disposition}
    elif isinstance(decision, MediaLocation):
        changed[SUGGESTED] = suggested(fields)
    elif SUGGESTED in own:
        changed[SUGGESTED] = own[SUGGESTED]
    else:
        unknown.append(SUGGESTED)
    if kind == "participant" and not isinstance(decision, Reject):
        known = {name: value for name, value in fields.items() if name in PARTICIPANT}
        changed["participant"] = {**changed["participant"], **known}
    return ScriptInput(kind, changed), tuple(unknown)


def suggested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``suggested_media_overflow_locations`` for a location that was chosen."""
    overflow = [
        *(fields.get("overflow_locations") or ()),
        *(
            fields[name]
            for name in ("primary_overflow_location", "secondary_overflow_location")
            if fields.get(name)
        ),
        *(None, None),
    ]
    return {
        "location": fields.get("location"),
        "primary_overflow_location": overflow[0],
        "secondary_overflow_location": overflow[1],
    }


def final_decision(
    endpoint: str, ours: Decision, made: Decision, extras: Extras
) -> Decision | None:
    """Return the decision that takes effect on a node, ``None`` where that is ours, unchanged.

    ``made`` is the decision of the script. It replaces a service; for participants it holds what
    changes only, and the overflow locations of external policy stay.
    """
    final = made
    if made.action == ours.action == "continue" and endpoint != "service_configuration":
        fields, before = _fields(made), _fields(ours)
        if endpoint == "media_location" and isinstance(ours, MediaLocation):
            fields = {"location": fields.get("location", before.get("location"))}
        merged = {**before, **fields}
        final = ENDPOINTS[endpoint].from_result(merged, extras) if merged else made
    is_same = final.action == ours.action and _fields(final) == _fields(ours)
    return None if is_same else final


def _fields(decision: Decision) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decision.result or b"{}")
    return found


_WIRE_NAMES = {"ms_subnet": "ms-subnet", "p_asserted_identity": "p_Asserted-Identity"}
_WORDS = re.compile(r"\w+").findall
_WHOLE = re.compile(
    r"\b(?:call_info|participant)\b(?!\s*\.\s*(?!(?:get|items|keys|values)\b)\w)"
).search
"""Finds a variable that may be read by a name that the script does not write after a dot."""


class NodePolicy:
    """Scripts by endpoint, and the variables that Infinity itself has for the call."""

    def __init__(
        self, scripts: Mapping[str, tuple[Path, str]], own: Mapping[str, Any] | None = None
    ) -> None:
        self._scripts = scripts
        self._own = own
        self._names = {name: names_in(source) for name, (_, source) in scripts.items()}
        self._pool = ScriptPool(1, COMMAND_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start the process of the scripts."""
        async with self._pool.running():
            yield self

    async def after(
        self,
        endpoint: str,
        request: Request,
        decision: Decision,
        now: float | None,
        extras: Extras,
    ) -> LocalPolicyOutcome | None:
        """Return what the node makes of a decision, ``None`` where it has no script for it."""
        if endpoint not in self._scripts:
            return None
        path, source = self._scripts[endpoint]
        found, unknown = input_after(endpoint, request, decision, self._own)
        rendering = await self._pool.run(Job(source, found.variables, now, unknown))
        verdict = judge(found, rendering, extras)
        text = verdict.summary
        unknown_to_us = rendering.failure is not None and rendering.failure.kind == "unknown"
        if rendering.failure is not None and unknown_to_us:
            what = SUGGESTED if SUGGESTED in rendering.failure.text else "the service of Infinity"
            text = f"not known: {rendering.failure}; add a JSON file with {what}"
        made, final = verdict.decision, None
        kept = verdict.action == "continue" and not verdict.changed
        is_own = isinstance(decision, Continue) and made is not None and kept
        if not verdict.dropped and made is None and not verdict.result:
            made = Continue()
        if made is not None and not is_own:
            final = final_decision(endpoint, decision, made, extras)
        if final is not None and verdict.action == "continue" and not verdict.result:
            text = (
                "applied: continue without a result, which leaves the call to Infinity [reported]"
            )
        return LocalPolicyOutcome(path.name, masked(text, request, found), unknown_to_us, final)

    def reads(self, endpoint: str) -> frozenset[str]:
        """Return the names that a script uses, as attributes, keys, functions or filters."""
        return self._names.get(endpoint, frozenset())


def load(scripts: Sequence[str], service_config: Path | None = None) -> NodePolicy:
    """Return scripts, each a file or ``KIND=FILE``; raises ``LocalPolicyError``."""
    found: dict[str, tuple[Path, str]] = {}
    for written in scripts:
        named, equals, rest = written.partition("=")
        is_named = bool(equals) and named in get_args(Kind)
        path = Path(rest if is_named else written)
        source = read_text(path)
        if is_named:
            name = next(name for name, kind in KIND_OF.items() if kind == named)
        else:
            name = ENDPOINT_OF[told_kind(source)]
        if name in found:
            msg = f"{path} and {found[name][0]} are both for {name}"
            raise LocalPolicyError(msg)
        found[name] = (path, source)
    return NodePolicy(found, _own(service_config))


def told_kind(source: str) -> Kind:
    """Return the kind that the variables of a script tell; service for one that cannot be read."""
    try:
        names = {node.name for node in parse(source).find_all(nodes.Name)}
    except (TemplateSyntaxError, RecursionError):
        return "service"
    if "participant" in names:
        return "participant"
    return "media_location" if SUGGESTED in names else "service"


def names_in(source: str) -> frozenset[str]:
    """Return the words of a script: whatever it may read is among them."""
    found = {*_WORDS(source)}
    if _WHOLE(source):
        found.update(*CALL_INFO.values(), PARTICIPANT)
    found.update(wire for name, wire in _WIRE_NAMES.items() if name in found)
    return frozenset(found)


def _own(path: Path | None) -> Mapping[str, Any] | None:
    """Return the variables in a file: a service alone, or several by name as on the test page."""
    if path is None:
        return None
    found = read_json(path)
    if isinstance(found, dict) and not found.keys() & {"service_config", SUGGESTED}:
        found = {"service_config": found}
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name, {}), dict) for name in ("service_config", SUGGESTED)
    ):
        msg = f'{path} is no object, such as {{"name": ...}}'
        raise LocalPolicyError(msg)
    return found
