"""The scripts of a node, for ``pexpolicy explain`` and ``pexpolicy replay``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, get_args

from jinja2 import TemplateSyntaxError, nodes

from pexpolicy import Continue, Decision, MediaLocation, Request
from pexpolicy.explain.local_policy import LocalPolicyError, LocalPolicyOutcome
from pexpolicy_local_policy.node import SUGGESTED, input_after, job_of
from pexpolicy_local_policy.sandbox import parse
from pexpolicy_local_policy.script_process import ScriptPool
from pexpolicy_local_policy.secrets import masked
from pexpolicy_local_policy.variables import ENDPOINT_OF, KIND_OF, Kind
from pexpolicy_local_policy.verdict import judge

SECONDS = 2.0
"""Limit of one run of a script."""


class NodePolicy:
    """Scripts by endpoint, and the service that Infinity itself has for the call."""

    def __init__(
        self, scripts: Mapping[str, tuple[Path, str]], own_service: Mapping[str, Any] | None = None
    ) -> None:
        self._scripts = scripts
        self._own_service = own_service
        self._pool = ScriptPool(1, SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start the process of the scripts."""
        async with self._pool.running():
            yield self

    async def after(
        self, endpoint: str, request: Request, decision: Decision, now: float | None
    ) -> LocalPolicyOutcome | None:
        """Return what the node makes of a decision, ``None`` where it has no script for it."""
        if endpoint not in self._scripts:
            return None
        path, source = self._scripts[endpoint]
        found, unknown = input_after(endpoint, request, decision, self._own_service)
        rendering = await self._pool.run(job_of(source, found, unknown, now))
        verdict = judge(found, rendering)
        notes = [*(f"pex_debug_log: {line}" for line in rendering.debug), *verdict.warnings]
        if isinstance(decision, MediaLocation) and "overflow_locations" in verdict.changed:
            notes.append("overflow locations of external policy stay as they are [reported]")
        text = verdict.summary
        if rendering.failure is not None and rendering.failure.kind == "unknown":
            text = f"not known: {rendering.failure}; add --service-config FILE"
        made = verdict.decision
        if not verdict.dropped and made is None and not verdict.result:
            made = Continue()
        return LocalPolicyOutcome(
            path.name,
            not verdict.dropped,
            masked(text, request, found),
            verdict.changed,
            made,
            tuple(masked(note, request, found) for note in notes),
        )


def load(scripts: Sequence[str], endpoint: str | None, service_config: Path | None) -> NodePolicy:
    """Return scripts, each a file or ``KIND=FILE``; raises ``LocalPolicyError``."""
    found: dict[str, tuple[Path, str]] = {}
    for written in scripts:
        named, equals, rest = written.partition("=")
        is_named = bool(equals) and named in get_args(Kind)
        path = Path(rest if is_named else written)
        source = _text(path)
        if is_named:
            name = next(name for name, kind in KIND_OF.items() if kind == named)
        else:
            name = endpoint if endpoint in KIND_OF else ENDPOINT_OF[kind_of(source, path)]
        if name in found:
            msg = f"{path} and {found[name][0]} are both for {name}"
            raise LocalPolicyError(msg)
        found[name] = (path, source)
    return NodePolicy(found, _service(service_config))


def kind_of(source: str, path: Path) -> Kind:
    """Return the kind that the variables of a script tell; raises ``LocalPolicyError``."""
    try:
        tree = parse(source)
    except TemplateSyntaxError as error:
        msg = f"{path}, line {error.lineno}: {error.message}"
        raise LocalPolicyError(msg) from None
    except RecursionError:
        msg = f"{path}: is nested too deeply"
        raise LocalPolicyError(msg) from None
    names = {node.name for node in tree.find_all(nodes.Name)}
    if "participant" in names:
        return "participant"
    return "media_location" if SUGGESTED in names else "service"


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise LocalPolicyError(msg) from None
    except UnicodeDecodeError:
        msg = f"{path} is not UTF-8 text"
        raise LocalPolicyError(msg) from None


def _service(path: Path | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, LocalPolicyError):
            raise
        msg = f"{path} is not JSON: {error}"
        raise LocalPolicyError(msg) from None
    if isinstance(found, dict) and isinstance(found.get("service_config"), dict):
        found = found["service_config"]
    if not isinstance(found, dict):
        msg = f'{path} is no object, such as {{"name": ...}}'
        raise LocalPolicyError(msg)
    return found
