"""The replay of one block of records."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from pexpolicy.audit.redaction import REMOVED, Redaction
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JSON
from pexpolicy.explain.coverage import Coverage
from pexpolicy.models.difference import Changes
from pexpolicy.policy import Answer
from pexpolicy.replay.answers import Answering, Answers
from pexpolicy.replay.comparison import (
    action_of,
    compare_answers,
    compare_with_record,
    without_ids,
)
from pexpolicy.replay.network_block import NetworkBlock
from pexpolicy.replay.node_scripts import NodeScripts
from pexpolicy.replay.record_files import Block
from pexpolicy.replay.recorded_reply import RecordedReply, recorded_action
from pexpolicy.replay.records import Call, Exactness, Unusable, records
from pexpolicy.replay.replay_policy import Replayed, ReplayPolicy
from pexpolicy.replay.result import Example, Group, GroupKey, Tally
from pexpolicy.replay.server import PolicyServer

_TIME = "its time"
PART_S = 0.5
"""Time after which the counts so far are yielded."""
_IN_REASONS = ("alias", "name", "address", "tag", "uuid")
"""Ends of the names of parameters whose values differ from call to call."""
_DISTINCT = re.compile(r"[0-9@:].*..|..[0-9@:]")
"""Found in values that are no words of a reason by accident."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What of the records is replayed and compared."""

    since: float | None = None
    """Seconds since 1970; records without a time are always replayed."""
    until: float | None = None
    ignore: frozenset[str] = field(default_factory=frozenset)
    """Names of fields that may differ."""
    only: tuple[str, ...] = ()
    """Actions, endpoints, plugins or fields that the reported groups have."""

    def includes(self, at: float | None) -> bool:
        """Return whether a time is in the period."""
        return at is None or (
            (self.since is None or at >= self.since) and (self.until is None or at < self.until)
        )


class Replayer:
    """Asks one configuration, or two, about recorded calls, and counts what differs."""

    def __init__(
        self,
        new: ReplayPolicy,
        old: ReplayPolicy | PolicyServer | None,
        selection: Selection,
        block: NetworkBlock | None = None,
        coverage: Coverage | None = None,
        node: NodeScripts | None = None,
    ) -> None:
        self._new = new
        self._node = node
        self._old = old if isinstance(old, ReplayPolicy) else None
        self._server = old if isinstance(old, PolicyServer) else None
        self._selection = selection
        self._block = block
        self._coverage = coverage
        self._redaction: Redaction = new.redaction
        self._answering = Answering(new, self._old, coverage, node)

    async def replay(self, block: Block) -> Tally:
        """Return the counts of a block."""
        tally = Tally()
        async for part, _ in self.parts(block):
            tally.merge(part)
        return tally

    async def parts(self, block: Block) -> AsyncIterator[tuple[Tally, float]]:
        """Yield the counts of consecutive records of a block, and the share of the block up to
        their end: at its end, and before that from time to time.
        """
        tally = Tally()
        if self._coverage is not None:
            tally.items = self._coverage.items if block.number == 0 else ()
        if self._server is not None:
            await self._replay_with_server(tally, block, self._server)
            yield tally, 1.0
            return
        lines = max(block.content.count(b"\n"), 1)
        since = time.monotonic()
        number = 0
        async for found, answers in self._answering.in_order(self._found(block)):
            number += 1
            if answers is None:
                self._count_unusable(tally, block, found)
            else:
                assert isinstance(found, Call)
                self._count(tally, block, found, found.reply, answers)
            if time.monotonic() - since >= PART_S:
                yield tally, min(number / lines, 1.0)
                tally, since = Tally(), time.monotonic()
        yield tally, 1.0

    def _found(self, block: Block) -> Iterator[Call | Unusable | None]:
        """Yield the calls to replay, and what there is of other records; ``None`` for one outside
        the period.
        """
        for found in records(block):
            if isinstance(found, Unusable):
                yield found
            else:
                yield found if self._selection.includes(found.at) else None

    def _count_unusable(self, tally: Tally, block: Block, found: Call | Unusable | None) -> None:
        if isinstance(found, Unusable):
            tally.unusable(found.exactness, found.why, f"{block.file}:{found.line}")
        else:
            tally.outside += 1

    async def _replay_with_server(self, tally: Tally, block: Block, server: PolicyServer) -> None:
        calls = []
        for found in self._found(block):
            if isinstance(found, Call):
                calls.append(found)
            else:
                self._count_unusable(tally, block, found)
        with self._block.inactive() if self._block is not None else nullcontext():
            replies = await server.replies(calls)
        for call, reply in zip(calls, replies, strict=True):
            if self._node is not None and isinstance(reply, RecordedReply):
                extras = self._new.policy.settings.extras
                reply = await self._node.follow_reply(call, reply, extras)  # noqa: PLW2901 - the same call's
            if isinstance(reply, str):
                tally.unusable(Exactness.NOT_REPLAYABLE, reply, f"{block.file}:{call.line}")
            else:
                async for _, answers in self._answering.in_order([call]):
                    assert answers is not None
                    self._count(tally, block, call, reply, answers)

    def _count(
        self,
        tally: Tally,
        block: Block,
        call: Call,
        reply: RecordedReply | None,
        answers: Answers,
    ) -> None:
        new, old = answers.new, answers.old
        tally.repeated += answers.is_repeated
        network = new.network or (old.network if old is not None else "")
        read = new.read | old.read if old is not None else new.read
        by_time = new.depends_on_time or (old is not None and old.depends_on_time)
        if by_time and call.at is None:
            read |= {_TIME}
        place = f"{block.file}:{call.line}"
        if network:
            text = f"the plugin {network} asks the network, which needs --network"
            tally.unusable(Exactness.NOT_REPLAYABLE, text, place)
            return
        if hashed := read.intersection(call.hashed):
            text = f"{', '.join(sorted(hashed))} is hashed or left out, and a plugin reads it"
            tally.unusable(Exactness.NOT_REPLAYABLE, text, place)
            return
        if unknown := new.unknown or (old.unknown if old is not None else ""):
            tally.unusable(Exactness.NOT_REPLAYABLE, unknown, place)
            return
        exactness = Exactness.EXACT
        if read:
            exactness = Exactness.PARTIAL
            text = f"written without {', '.join(sorted(read))}, which a plugin reads"
            tally.reasons[exactness, text] += 1
        tally.records[exactness] += 1
        tally.at(call.at)
        tally.verdict(new.verdict)
        self._count_steps(tally, new.ours)
        tally.used.update(new.used)
        self._compare(tally, call, reply, new, old, place, partial=bool(read))

    def _compare(
        self,
        tally: Tally,
        call: Call,
        reply: RecordedReply | None,
        new: Replayed,
        old: Replayed | None,
        place: str,
        *,
        partial: bool,
    ) -> None:
        answer = new.answer
        after = action_of(answer, self._redaction)
        changes: Changes
        if old is not None:
            before = action_of(old.answer, self._redaction)
            by: str | None = old.answer.outcome.decided_by
            reason = old.answer.outcome.decision.reason
            changes = compare_answers(old.answer, answer, self._redaction)
        else:
            if reply is None:
                tally.uncompared += 1
                tally.matrix[call.endpoint, "", after] += 1
                return
            before, by, reason = (
                recorded_action(call.endpoint, reply),
                reply.decided_by,
                reply.reason,
            )
            changes = compare_with_record(call.endpoint, reply, answer, self._redaction)
        tally.matrix[call.endpoint, before, after] += 1
        if changes and self._selection.ignore:
            changes = {n: c for n, c in changes.items() if n not in self._selection.ignore}
        if not changes:
            tally.same += 1
            return
        tally.changed += 1
        if call.at is not None:
            tally.changed_by_hour[int(call.at // 3600)] += 1
        outcome = answer.outcome
        key = GroupKey(
            call.endpoint,
            before,
            after,
            by or "",
            self._general(reason, call),
            outcome.decided_by,
            self._general(outcome.decision.reason, call),
            tuple(sorted(changes)),
        )
        group = tally.groups.get(key)
        if group is None:
            group = Group(key, self._example(call, new.ours, place, changes))
            tally.groups[key] = group
        group.add(call.at, partial=partial)

    def _general(self, reason: str | None, call: Call) -> str:
        """Return a reason with names in braces for values that differ from call to call."""
        if not reason:
            return ""
        for name, value in (*call.params.items(), ("alias", call.alias)):
            if name.endswith(_IN_REASONS) and value in reason and _DISTINCT.search(value):
                reason = reason.replace(value, f"{{{name}}}")
        return without_ids(reason)

    def _example(self, call: Call, answer: Answer, place: str, changes: Changes) -> Example:
        facts, withheld = self._redaction.request(call.endpoint, call.params, call.alias)
        pairs = [
            (name, value)
            for name, values in facts.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        path = ENDPOINTS[call.endpoint].path
        if path.endswith("/"):
            pairs = [(name, value) for name, value in pairs if name != "alias"]
            path += quote(str(facts.get("alias", "")), safe="")
        missing = tuple(dict.fromkeys((*call.missing, *call.hashed, *withheld)))
        return Example(
            place,
            call.at,
            call.decision_id,
            f"{path}?{urlencode(pairs)}",
            changes,
            self._expected(answer),
            missing,
            call.peer,
        )

    def _expected(self, answer: Answer) -> dict[str, Any]:
        outcome, reply = answer.outcome, answer.reply
        expected: dict[str, Any] = {
            "decided_by": outcome.decided_by,
            "action": reply.action,
            "status": reply.status,
        }
        if reply.content_type == JSON:
            result, removed = self._redaction.result(outcome.endpoint, outcome.decision)
            shown = msgspec.json.decode(msgspec.json.encode(result))
            if isinstance(shown, dict) and shown:
                expected["result"] = {
                    name: value
                    for name, value in shown.items()
                    if name not in removed and REMOVED not in str(value)
                }
        return expected

    def _count_steps(self, tally: Tally, answer: Answer) -> None:
        endpoint = answer.outcome.endpoint
        for step in answer.outcome.steps:
            tally.steps[endpoint, step.plugin, step.hook or endpoint, step.outcome] += 1
