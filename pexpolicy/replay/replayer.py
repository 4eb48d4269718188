"""The replay of one block of records."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from pexpolicy.conformance.http_client import connected
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.explanation import load_local_policy, local_policy_files
from pexpolicy.models.difference import Changes
from pexpolicy.policy import Answer
from pexpolicy.replay.answers import Answering, Answers
from pexpolicy.replay.comparison import (
    action_of,
    compare_answers,
    compare_with_record,
    without_ids,
)
from pexpolicy.replay.record_files import Block
from pexpolicy.replay.records import Call, Exactness, Unusable, records
from pexpolicy.replay.replies import RecordedReply, recorded_action
from pexpolicy.replay.result import Example, Group, GroupKey, Tally
from pexpolicy.replay.sides import (
    NetworkBlock,
    NodeScripts,
    PolicyServer,
    Replayed,
    ReplayPolicy,
    ServerAddress,
    opened,
)
from pexpolicy.testing.coverage import Coverage

_TIME = "its time"
PART_S = 0.5
"""Time after which the counts so far are yielded."""
_IN_REASONS = ("alias", "name", "address", "tag", "uuid")
"""Ends of the names of parameters whose values differ from call to call."""
_DISTINCT = re.compile(r"[0-9@:].*..|..[0-9@:]")
"""Found in values that are no words of a reason by accident."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is replayed and compared: the new configuration, and the other side."""

    config: Path
    against: Path | ServerAddress | None = None
    """Another configuration, or a server; by default the replies of the records."""
    since: float | None = None
    """Seconds since 1970; records without a time are always replayed."""
    ignore: frozenset[str] = frozenset()
    """Names of fields that may differ."""
    only: tuple[str, ...] = ()
    """Actions, endpoints, plugins or fields that the reported groups have."""
    coverage: bool = False
    """True: the items of plugins that decide are counted."""
    local_policy: tuple[str, ...] = ()
    """Scripts of the node, which follow each answer, as ``FILE`` or ``KIND=FILE``; at most one file
    that ends in ``.json`` is the service that Infinity itself has.
    """


class Replayer:
    """Asks one configuration, or two, about recorded calls, and counts what differs."""

    def __init__(
        self,
        new: ReplayPolicy,
        old: ReplayPolicy | PolicyServer | None,
        job: Job,
        block: NetworkBlock | None = None,
        coverage: Coverage | None = None,
        node: NodeScripts | None = None,
    ) -> None:
        self._new = new
        self._node = node
        self._server = old if isinstance(old, PolicyServer) else None
        self._job = job
        self._block = block
        self._coverage = coverage
        self._redaction = new.redaction
        policy = old if isinstance(old, ReplayPolicy) else None
        self._answering = Answering(new, policy, coverage, node)

    async def parts(self, block: Block) -> AsyncIterator[tuple[Tally, float]]:
        """Yield the counts of consecutive records of a block, and the share of the block up to
        their end: at its end, and before that from time to time.
        """
        tally = Tally()
        if self._coverage is not None and block.number == 0:
            tally.items = self._coverage.items
        found: Iterable[Call | Unusable] = records(block)
        if self._server is not None:
            found = await self._with_replies(found, self._server)
        lines = max(block.content.count(b"\n"), 1)
        since = time.monotonic()
        number = 0
        async for record, answers in self._answering.in_order(map(self._selected, found)):
            number += 1
            if isinstance(record, Call) and answers is not None:
                self._count(tally, f"{block.file}:{record.line}", record, answers)
            elif isinstance(record, Unusable):
                tally.unusable(record.exactness, record.why, f"{block.file}:{record.line}")
            else:
                tally.outside += 1
            if time.monotonic() - since >= PART_S:
                yield tally, min(number / lines, 1.0)
                tally, since = Tally(), time.monotonic()
        yield tally, 1.0

    def _selected(self, found: Call | Unusable) -> Call | Unusable | None:
        """Return a record, or ``None`` for a call outside the period."""
        since = self._job.since
        if isinstance(found, Call) and found.at is not None and since is not None:
            return found if found.at >= since else None
        return found

    async def _with_replies(
        self, found: Iterable[Call | Unusable], server: PolicyServer
    ) -> list[Call | Unusable]:
        """Return the records, each call with the reply of a server, or why there is none."""
        made = [*found]
        calls = [one for one in made if isinstance(one, Call) and self._selected(one)]
        if self._block is not None:
            self._block.is_active = False
        replies = dict(zip(map(id, calls), await server.replies(calls), strict=True))
        if self._block is not None:
            self._block.is_active = True
        for at, call in enumerate(made):
            reply = replies.get(id(call))
            if not isinstance(call, Call) or reply is None:
                continue
            if self._node is not None and isinstance(reply, RecordedReply):
                extras = self._new.policy.settings.extras
                reply = await self._node.follow_reply(call, reply, extras)
            if isinstance(reply, str):
                made[at] = Unusable(call.line, Exactness.NOT_REPLAYABLE, reply)
            else:
                made[at] = call._replace(reply=reply)
        return made

    def _count(self, tally: Tally, place: str, call: Call, answers: Answers) -> None:
        new, old = answers.new, answers.old
        both = (new,) if old is None else (new, old)
        read = new.read if old is None else new.read | old.read
        if call.at is None and any(one.depends_on_time for one in both):
            read |= {_TIME}
        if why := self._not_replayable(call, both, read):
            tally.unusable(Exactness.NOT_REPLAYABLE, why, place)
            return
        exactness = Exactness.EXACT
        if read:
            exactness = Exactness.PARTIAL
            text = f"written without {', '.join(sorted(read))}, which a plugin reads"
            tally.reasons[exactness, text] += 1
        tally.records[exactness] += 1
        tally.extend(call.at)
        tally.verdict(new.verdict)
        if self._coverage is not None:
            outcome = new.ours.outcome
            for step in outcome.steps:
                tally.steps[step.plugin, step.hook or outcome.endpoint, step.outcome] += 1
            tally.used.update(new.used)
        self._compare(tally, call, new.answer, old, place, partial=bool(read))

    @staticmethod
    def _not_replayable(call: Call, both: Iterable[Replayed], read: frozenset[str]) -> str:
        """Return why an answer says nothing about the one at the time; empty where it does."""
        for one in both:
            if one.network:
                return f"the plugin {one.network} asks the network"
        if call.hashed and (hashed := read.intersection(call.hashed)):
            return f"{', '.join(sorted(hashed))} is hashed or left out, and a plugin reads it"
        return next((one.unknown for one in both if one.unknown), "")

    def _compare(
        self,
        tally: Tally,
        call: Call,
        answer: Answer,
        old: Replayed | None,
        place: str,
        *,
        partial: bool,
    ) -> None:
        """Count what the answer changes of that of the other side, which is a reply without one."""
        outcome, reply = answer.outcome, call.reply
        after = action_of(answer, self._redaction)
        if old is not None:
            before = action_of(old.answer, self._redaction)
            by: str | None = old.answer.outcome.decided_by
            reason = old.answer.outcome.decision.reason
            changes = compare_answers(old.answer, answer, self._redaction)
        elif reply is not None:
            before = recorded_action(call.endpoint, reply)
            by, reason = reply.decided_by, reply.reason
            changes = compare_with_record(call.endpoint, reply, answer, self._redaction)
        else:
            tally.uncompared += 1
            tally.matrix[call.endpoint, "", after] += 1
            return
        tally.matrix[call.endpoint, before, after] += 1
        if changes and self._job.ignore:
            changes = {n: c for n, c in changes.items() if n not in self._job.ignore}
        if not changes:
            tally.same += 1
            return
        tally.changed += 1
        new_reason = self._general(outcome.decision.reason, call)
        sides = (by or "", self._general(reason, call), outcome.decided_by, new_reason)
        key = GroupKey(call.endpoint, before, after, *sides, tuple(sorted(changes)))
        if (group := tally.groups.get(key)) is None:
            group = Group(key=key, example=self._example(call, place, changes))
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

    def _example(self, call: Call, place: str, changes: Changes) -> Example:
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
        url = f"{path}?{urlencode(pairs)}"
        return Example(place, call.at, call.decision_id, url, changes, missing, call.peer)


async def open_replayer(stack: AsyncExitStack, job: Job) -> Replayer:
    """Open the configurations of a job on this event loop, until the stack is left.

    Raise ``ConfigError`` and ``LocalPolicyError``.
    """
    node = None
    if job.local_policy:
        scripts, service = local_policy_files(job.local_policy)
        local_policy = load_local_policy(scripts, None, service)
        await stack.enter_async_context(local_policy.running())
        node = NodeScripts(local_policy)
    block = NetworkBlock()
    new = await stack.enter_async_context(opened(job.config, block))
    old: ReplayPolicy | PolicyServer | None = None
    if isinstance(job.against, Path):
        old = await stack.enter_async_context(opened(job.against, block))
    elif job.against is not None:
        address = job.against
        tls = ssl.create_default_context() if address.url.startswith("https:") else None
        wire = connected(address.url, authorization=address.authorization, tls=tls)
        old = PolicyServer(await stack.enter_async_context(wire))
    coverage = Coverage(new.policy) if job.coverage else None
    return Replayer(new, old, job, block, coverage, node)
