"""The sides of a replay: a configuration at the time of each record, or another server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from multidict import MultiDict, MultiMapping

from pexpolicy.audit.redaction import redaction_of
from pexpolicy.builder import policy_from
from pexpolicy.conformance.http_client import Wire
from pexpolicy.endpoints.base import JPEG
from pexpolicy.explain.explanation import request_of
from pexpolicy.models.context import HOOK_CONTEXT, DryRunClock
from pexpolicy.models.outcome import ANSWERED, Outcome
from pexpolicy.models.request import Request, by_prefix, header_name, header_values, parameters_of
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.replay.comparison import PICTURE, Side, of_answer, of_reply
from pexpolicy.replay.records import Call

NO_ID = "00000000-0000-7000-8000-000000000000"
"""The decision ID of a call whose record has none; equal replays have equal replies."""
MAX_ANSWER_S = 10.0
"""Seconds for one answer of a configuration, whose plugins have no limits of their own here."""
MAX_FAILURES = 5
"""Calls in a row without a reply after which the replay ends."""
_EVENTS = frozenset(("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"))
_UNAUTHORIZED = 401


class NotReplayableError(Exception):
    """The answer to a call says nothing about the one at the time; the text says why."""


class ServerFailedError(Exception):
    """The server cannot be reached, or refuses access."""


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
            raise ConnectionRefusedError("a replay asks no network")


class _ReadParameters:
    """Parameters that remember which of ``watched`` were read; a walk through all reads each."""

    def __init__(self, params: MultiMapping[str], watched: Iterable[str]) -> None:
        self._params = params
        self._watched = frozenset(watched)
        self.read: set[str] = set()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def noted(*names: str) -> Any:
            self.read |= self._watched.intersection(names[:1]) if names else self._watched
            return getattr(self._params, method)(*names)

        return noted

    def __getitem__(self, name: str) -> Any:
        return self.getone(name)

    def __contains__(self, name: str) -> bool:
        return bool(self.getall(name, ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


def _watch(request: Request, watched: Iterable[str]) -> set[str]:
    """Make a request remember which of these parameters are read of it; return them."""
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
    return reads.read


class ReplayClock(DryRunClock):
    """A wall clock at the time of a record, which remembers whether it was read."""

    was_read = False

    def __call__(self) -> float:
        """Return seconds since 1970."""
        self.was_read = True
        return super().__call__()


class Replayed(NamedTuple):
    """The answer of one side to a recorded call."""

    side: Side
    read: set[str]
    """The missing parameters that were read, and the time where that is missing and was read."""
    outcome: Outcome | None = None
    """That of a configuration."""


class ReplayPolicy:
    """A policy that answers recorded calls."""

    def __init__(self, policy: Policy, clock: ReplayClock, block: NetworkBlock) -> None:
        self.policy = policy
        self.redaction = redaction_of(policy.settings)
        self._clock = clock
        self._block = block

    async def answer(self, call: Call) -> Replayed:
        """Return the answer that takes effect; raise ``NotReplayableError``."""
        recorded = call.request
        request, at, line = request_of(self.policy.settings, recorded), recorded.at, recorded.line
        watched = (*call.missing, *call.hashed)
        read = _watch(request, watched) if watched else set()
        self._clock.at = None if at is None else at.timestamp()
        self._clock.was_read = False
        try:
            async with asyncio.timeout(MAX_ANSWER_S):
                answer = await self.policy.answer(request, (line and line.decision_id) or NO_ID)
        except TimeoutError:
            raise NotReplayableError(f"no answer within {MAX_ANSWER_S:g} s") from None
        for step in answer.outcome.steps:
            if step.outcome not in ANSWERED and step.plugin in self._block.plugins:
                raise NotReplayableError(f"the plugin {step.plugin} asks the network")
        if at is None and self._clock.was_read:
            read.add("its time")
        # The alias in the path is always read.
        if hashed := {*read, "alias"}.intersection(call.hashed):
            names = ", ".join(sorted(hashed))
            raise NotReplayableError(f"{names} is hashed or left out, and a plugin reads it")
        return Replayed(of_answer(answer, self.redaction), read, answer.outcome)


@asynccontextmanager
async def opened(path: Path, block: NetworkBlock) -> AsyncIterator[ReplayPolicy]:
    """Build a configuration and open it for a replay; raise ``ConfigError``.

    Its plugins cannot connect to anything, and none is late on a busy machine.
    """
    clock = ReplayClock()
    context = BuildContext(is_repeatable=True, wall_clock=clock, time_limits=False)
    block.is_active = True
    try:
        policy = policy_from(path, context=context)
        async with policy.serving():
            yield ReplayPolicy(policy, clock, block)
    finally:
        block.is_active = False


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The URL of a policy profile, the part before ``/policy/v1``, and how to reach it."""

    url: str
    authorization: str | None = None
    """The ``Authorization`` header."""

    def __str__(self) -> str:
        return self.url


class PolicyServer:
    """Asks a policy server at the present time."""

    def __init__(self, wire: Wire, block: NetworkBlock) -> None:
        self._wire = wire
        self._block = block
        self._failures = 0

    async def answer(self, call: Call) -> Replayed:
        """Return the reply that takes effect; raise ``NotReplayableError``, and
        ``ServerFailedError`` where the server answers nothing any more.
        """
        self._block.is_active = False
        reply = await self._wire.get(call.request.target())
        self._block.is_active = True
        if reply.status == _UNAUTHORIZED:
            msg = f"{self._wire.base} refuses access (401): user or password is wrong or missing"
            raise ServerFailedError(msg)
        if reply.failure:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise ServerFailedError(f"{self._wire.base} does not answer: {reply.failure}")
            raise NotReplayableError(f"the server gave no reply: {reply.failure}")
        self._failures = 0
        if reply.media_type == JPEG:
            return Replayed(Side("continue", reply.status, PICTURE, is_ours=False), set())
        try:
            body = msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            body = None
        return Replayed(of_reply(call.request.endpoint, reply.status, body), set())
