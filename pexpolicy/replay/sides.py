"""The sides of a replay: a configuration at the time of each record, or another server."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from multidict import MultiDict, MultiMapping

from pexpolicy.audit.redaction import Redaction, redaction_of
from pexpolicy.builder import policy_from
from pexpolicy.conformance.disposition import read_envelope
from pexpolicy.conformance.http_client import Wire
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JPEG
from pexpolicy.explain.explanation import LocalPolicy
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.models.contract import Extras
from pexpolicy.models.decision import Continue
from pexpolicy.models.outcome import ANSWERED, TIMED_OUT
from pexpolicy.models.request import (
    Request,
    by_prefix,
    header_name,
    header_values,
    parameters_of,
    set_origin,
)
from pexpolicy.plugins.plugin import BuiltPlugin
from pexpolicy.policy import Answer, BuildContext, Policy
from pexpolicy.replay.records import Call
from pexpolicy.replay.replies import RecordedReply, foreign_reply
from pexpolicy.testing.coverage import CoverageItem

NO_ID = "00000000-0000-7000-8000-000000000000"
"""The decision ID of a call whose record has none; equal replays have equal replies."""
NO_NETWORK = "a replay asks no network"
DECIDED_BY = "local policy"
"""``decided_by`` of an answer that a script has changed."""
CONCURRENT = 8
"""Requests to a server at a time; a Conferencing Node has more."""
MAX_FAILURES = 20
"""Calls in a row without a reply after which the replay ends."""
NO_REPLY = "the server gave no reply"
_CLOCK = "pex_now"
_EVENTS = frozenset(("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"))
_UNAUTHORIZED = 401


class NetworkBlock:
    """Refuses connections of this process while it is active, and remembers who tried one.

    Python cannot remove an audit hook, so an inactive one stays in the process.
    """

    def __init__(self) -> None:
        self.plugins: set[str] = set()
        """The plugins that tried to connect; an empty name for what no plugin did."""
        self.is_active = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: object) -> None:
        if self.is_active and event in _EVENTS:
            (plugin, _hook), _request = HOOK_CONTEXT.get()
            self.plugins.add(plugin)
            raise ConnectionRefusedError(NO_NETWORK)


class _ReadParameters(MultiMapping[str]):
    """Parameters that remember which of ``watched`` were read; a walk through all reads each."""

    def __init__(self, params: MultiMapping[str], watched: Iterable[str]) -> None:
        self._params = params
        self._watched = frozenset(watched)
        self.read: set[str] = set()
        """Those of ``watched`` that were read."""

    def _noted(self, *names: str) -> MultiMapping[str]:
        self.read |= self._watched.intersection(names) if names else self._watched
        return self._params

    def getall(self, key: str, *default: Any) -> Any:
        """Return all values of a parameter."""
        return self._noted(key).getall(key, *default)

    def getone(self, key: str, *default: Any) -> Any:
        """Return the first value of a parameter."""
        return self._noted(key).getone(key, *default)

    def __getitem__(self, key: str) -> str:
        return self._noted(key)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._noted())

    def __len__(self) -> int:
        return len(self._noted())

    def items(self) -> Any:
        """Return all names with their values."""
        return self._noted().items()

    def values(self) -> Any:
        """Return all values."""
        return self._noted().values()


def _watch(request: Request, watched: Iterable[str]) -> _ReadParameters:
    """Make a request remember which of these parameters are read of it; return the memory.

    ``alias`` is the one in the path, which is always read.
    """
    params = request.params
    reads = _ReadParameters(params, watched)
    request.__dict__["params"] = reads
    # Their parsers go through all parameters in search of some.
    for attribute, parameter in parameters_of(type(request)).items():
        if parameter.read is header_values:
            wire = header_name(parameter.wire)
            concerned = any(header_name(name) == wire for name in watched)
        elif parameter.read is by_prefix:
            concerned = any(name.startswith(parameter.wire) for name in watched)
        else:
            continue
        if not concerned:
            request.__dict__[attribute] = parameter.read(MultiDict(params), parameter.wire)
    return reads


class Moment:
    """The time of a record, and whether it was read."""

    __slots__ = ("at", "was_read")

    def __init__(self, at: float | None) -> None:
        self.at = at
        self.was_read = False


_MOMENT: ContextVar[Moment | None] = ContextVar("pexpolicy_replayed_moment", default=None)
"""Set for each call; its tasks and threads inherit it, so that calls may be asked meanwhile."""


class ReplayClock:
    """A wall clock at the time of the record that is being replayed."""

    def __call__(self) -> float:
        """Return seconds since 1970."""
        moment = _MOMENT.get()
        if moment is None:
            return time.time()
        moment.was_read = True
        return time.time() if moment.at is None else moment.at


@dataclass(slots=True)
class Replayed:
    """The answer to a recorded call."""

    answer: Answer
    """The answer that takes effect."""
    ours: Answer
    """The answer of the server, which a script of the node may have changed."""
    read: frozenset[str]
    """The missing parameters that were read."""
    network: str
    """A plugin that would have asked the network, or empty."""
    depends_on_time: bool
    verdict: str = ""
    """What the node made of the output of its script."""
    unknown: str = ""
    """Why the answer that takes effect is not known."""
    used: Sequence[CoverageItem] = ()
    """What the server decided by, with coverage."""


class ReplayPolicy:
    """A policy that answers recorded calls."""

    def __init__(self, policy: Policy, block: NetworkBlock | None) -> None:
        self.policy = policy
        self.redaction: Redaction = redaction_of(policy.settings)
        self.max_calls = min(map(_max_calls, policy.plugins), default=sys.maxsize)
        """The calls that may be asked at a time without one having to wait for another."""
        self._block = block

    async def answer(self, call: Call) -> Replayed:
        """Return the answer to a call, and what it depends on.

        On a busy machine a plugin may be late that is not late otherwise, so it is asked again.
        """
        found = await self._answer(call)
        steps = found.answer.outcome.steps if found.answer.outcome.has_slow_or_failed_steps else ()
        if not found.network and any(step.outcome == TIMED_OUT for step in steps):
            return await self._answer(call)
        return found

    async def _answer(self, call: Call) -> Replayed:
        request = ENDPOINTS[call.endpoint].parse(call.params, call.alias)
        set_origin(request, lambda: call.url, call.peer)
        watched = (*call.missing, *call.hashed)
        reads = _watch(request, watched) if watched else None
        moment = Moment(call.at)
        _MOMENT.set(moment)
        answer = await self.policy.answer(request, call.decision_id or NO_ID)
        network = ""
        if self._block is not None and answer.outcome.has_slow_or_failed_steps:
            failed = (s.plugin for s in answer.outcome.steps if s.outcome not in ANSWERED)
            network = next((name for name in failed if name in self._block.plugins), "")
        read: frozenset[str] = frozenset()
        if reads is not None:
            # The alias in the path is always read.
            read = frozenset((*reads.read, *{"alias"}.intersection(call.hashed)))
        return Replayed(answer, answer, read, network, moment.was_read)


@asynccontextmanager
async def opened(path: Path, block: NetworkBlock | None) -> AsyncIterator[ReplayPolicy]:
    """Build a configuration and open it for a replay; raise ``ConfigError``.

    With a ``block`` its plugins cannot connect to anything.
    """
    context = BuildContext(is_repeatable=True, wall_clock=ReplayClock())
    if block is not None:
        block.is_active = True
    try:
        policy = policy_from(path, context=context)
        async with policy.serving():
            yield ReplayPolicy(policy, block)
    finally:
        if block is not None:
            block.is_active = False


def _max_calls(plugin: BuiltPlugin) -> int:
    if plugin.is_isolated:
        return plugin.table.processes
    return plugin.table.threads if plugin.threads is not None else sys.maxsize


class NodeScripts:
    """Makes of our answer what the node makes of it."""

    def __init__(self, local_policy: LocalPolicy) -> None:
        self._local_policy = local_policy

    async def follow(self, call: Call, replayed: Replayed, extras: Extras) -> Replayed:
        """Return the answer that takes effect after the script, and what it depends on."""
        ours = replayed.answer
        request = ENDPOINTS[call.endpoint].parse(call.params, call.alias)
        decision = ours.outcome.decision
        found = await self._local_policy.after(call.endpoint, request, decision, call.at, extras)
        if found is None:
            return replayed
        names = self._local_policy.reads(call.endpoint)
        read = {name for name in (*call.missing, *call.hashed) if _reads(names, name)}
        final = ours
        if found.final is not None:
            reason = f"{found.script} after {ours.outcome.decided_by}"
            made = found.final.with_reason(reason)
            outcome = msgspec.structs.replace(ours.outcome, decision=made, decided_by=DECIDED_BY)
            reply = ENDPOINTS[call.endpoint].reply(made, outcome.decision_id, DECIDED_BY)
            final = Answer(outcome, reply)
        verdict = f"{found.script}: {found.verdict}"
        return replace(
            replayed,
            answer=final,
            read=replayed.read | read,
            depends_on_time=replayed.depends_on_time or _CLOCK in names,
            verdict="" if found.unknown else verdict,
            unknown=verdict if found.unknown else "",
        )

    async def follow_reply(
        self, call: Call, reply: RecordedReply, extras: Extras
    ) -> RecordedReply | str:
        """Return the reply of another server as it takes effect after the script, or why that is
        not known.
        """
        request = ENDPOINTS[call.endpoint].parse(call.params, call.alias)
        body = {"status": "success", "action": reply.action, "result": reply.result}
        decision = read_envelope(call.endpoint, body, extras).decision or Continue()
        found = await self._local_policy.after(call.endpoint, request, decision, call.at, extras)
        if found is None or (found.final is None and not found.unknown):
            return reply
        if found.unknown or found.final is None:
            return f"{found.script}: {found.verdict}"
        made = ENDPOINTS[call.endpoint].reply(found.final, NO_ID, DECIDED_BY)
        followed = foreign_reply(call.endpoint, made.status, msgspec.json.decode(made.body))
        return followed._replace(decided_by=None, reason=None, is_ours=False)


def _reads(names: frozenset[str], parameter: str) -> bool:
    if parameter.startswith("idp_attribute"):
        return "idp_attributes" in names
    return parameter in names


class ServerFailedError(Exception):
    """The server cannot be reached, or refuses access."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The URL of a policy profile, the part before ``/policy/v1``, and how to reach it."""

    url: str
    authorization: str | None = None
    """The ``Authorization`` header."""


class PolicyServer:
    """Asks a policy server, several calls at a time."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._failures = 0
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def replies(self, calls: Sequence[Call]) -> list[RecordedReply | str]:
        """Return the reply to each call, or why there is none; raise ``ServerFailedError``."""
        return await asyncio.gather(*map(self._reply, calls))

    async def _reply(self, call: Call) -> RecordedReply | str:
        async with self._slots:
            if self._failures >= MAX_FAILURES:
                return f"{NO_REPLY}: it was not asked"
            reply = await self._wire.get(call.url)
        if reply.status == _UNAUTHORIZED:
            msg = f"{self._wire.base} refuses access (401): user or password is wrong or missing"
            raise ServerFailedError(msg)
        if reply.failure or reply.torn:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                msg = f"{self._wire.base} does not answer: {reply.failure or 'the reply is torn'}"
                raise ServerFailedError(msg)
            return f"{NO_REPLY}: {reply.failure or 'it is torn'}"
        self._failures = 0
        if reply.media_type == JPEG:
            return RecordedReply("continue", reply.status, "a picture")
        try:
            body = msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            body = None
        return foreign_reply(call.endpoint, reply.status, body)
