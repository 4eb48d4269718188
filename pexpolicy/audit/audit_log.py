"""The audit log: makes the line of each call and hands it to a sink."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime

from pexpolicy.audit.records import DecisionRecord, as_json, line_of
from pexpolicy.audit.redaction import Redaction, plain_steps
from pexpolicy.audit.sinks import JournalSink
from pexpolicy.audit.state import AuditState
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import CallFacts, alias_of
from pexpolicy.policy import Answer

RESERVE = 64 << 20
"""Free bytes of the disk reserved for decisions, or ``RESERVE_PERCENT`` of a small one."""
RESERVE_PERCENT = 10


class AuditLog:
    """Writes the lines.

    Each method returns ``None`` when the reply may be sent, or an awaitable. If that gives false,
    the line is not recorded and its decision must not be sent: the reply is a reject if ``rejects``
    is true, otherwise Infinity continues by itself.
    """

    def __init__(
        self,
        sink: JournalSink,
        render: Callable[[object], bytes] = as_json,
        redaction: Redaction | None = None,
        *,
        state: AuditState | None = None,
        rejects: bool = False,
    ) -> None:
        self.redaction = redaction or Redaction()
        """Removes secrets and personal values."""
        self.state = state or AuditState()
        self.rejects = rejects
        self._sink = sink
        self._timer: asyncio.TimerHandle | None = None
        self._render = render

    def write(self, line: object) -> Awaitable[bool] | None:
        """Write a line."""
        return self._sink.record(self._render(line))

    def with_redaction(self, redaction: Redaction) -> AuditLog:
        """Return the same audit log with another redaction, for a reloaded configuration."""
        other = copy(self)
        other.redaction = redaction
        return other

    def record(self, call: CallFacts, answer: Answer) -> DecisionRecord:
        """Return the line of a call that the policy answered."""
        outcome, reply = answer.outcome, answer.reply
        decision, request = outcome.decision, outcome.request
        redaction = self.redaction
        redaction_error = None
        try:
            facts, withheld = redaction.request(outcome.endpoint, request.params, alias_of(request))
            steps, result, annotations, removed = redaction.outcome(outcome)
        except Exception as error:  # noqa: BLE001 - better a line without its values than none
            facts, withheld, steps = {}, ["request"], plain_steps(outcome)
            result, annotations, removed = None, {}, ["sent"]
            redaction_error = type(error).__name__
        line = DecisionRecord(
            timestamp=datetime.now(UTC),
            event="decision",
            decision_id=outcome.decision_id,
            endpoint=outcome.endpoint,
            peer=request.peer,
            request=facts,
            steps=steps,
            decided_by=outcome.decided_by,
            reason=decision.reason,
            action=reply.action,
            status=reply.status,
            sent=result,
            ms=int(call.seconds() * 1_000_000) / 1000,
            policy_hash=call.policy_hash,
            warnings=decision.warnings,
            annotations=annotations,
            credential=call.credential,
            environment=request.environment,
        )
        if removed or withheld:
            line.removed = [*withheld, *removed]
            line.redaction_error = redaction_error
        return line

    def shadow(
        self, actual: Outcome, shadow: Outcome, policy_hash: str, *, differs: bool | None
    ) -> None:
        """Write what a shadow plugin would have decided, and whether it differs from ``actual``."""
        error = None
        try:
            shadows = [step.plugin for step in shadow.steps]
            steps, result, annotations, removed = self.redaction.outcome(shadow, shadows)
        except Exception as raised:  # noqa: BLE001 - as for a decision
            steps, result, annotations = plain_steps(shadow), None, {}
            removed, error = ["would_send"], type(raised).__name__
        further = {"annotations": annotations, "removed": removed, "redaction_error": error}
        further["environment"] = actual.request.environment
        line = line_of(
            "shadow",
            decision_id=actual.decision_id,
            endpoint=actual.endpoint,
            steps=steps,
            decided_by=shadow.decided_by,
            reason=shadow.decision.reason,
            action=shadow.decision.action,
            would_send=result,
            differs=differs,
            policy_hash=policy_hash,
        )
        self.write({**line, **{name: value for name, value in further.items() if value}})

    def refused(
        self, why: str, status: int, peer: str | None, policy_hash: str, **facts: object
    ) -> Awaitable[bool] | None:
        """Write the line of a call that was refused before it reached the policy."""
        if isinstance(path := facts.get("path"), str):
            facts["path"] = self.redaction.path(path)
        facts = {"status": status, "peer": peer, **facts, "policy_hash": policy_hash}
        return self.write(line_of("refused", reason=why, **facts))

    def reloaded(self, before: str, after: str, **facts: object) -> None:
        """Write the line of a reload; ``before`` and ``after`` are the hashes of the policies."""
        known = {name: value for name, value in facts.items() if value != ""}
        hashes = {"policy_hash_before": before, "policy_hash": after}
        self.write(line_of("reload", accepted=not facts.get("error"), **known, **hashes))

    def changed(
        self, plugin: str, peer: str, policy_hash: str, facts: Mapping[str, object]
    ) -> Awaitable[bool] | None:
        """Write the line of what a client has changed through a plugin, which names the facts."""
        line = {
            "timestamp": datetime.now(UTC),
            "event": "change",
            "plugin": plugin,
            "peer": peer,
            **facts,
            "policy_hash": policy_hash,
        }
        return self.write(line)

    @property
    def has_room_for_refusals(self) -> bool:
        """False while lines cannot be written, or the disk is nearly full: the remaining space, in
        spool and memory too, is reserved for decisions.
        """
        state = self.state
        is_nearly_full = state.free_bytes is not None and state.free_bytes < RESERVE
        return state.status == "healthy" and (
            not is_nearly_full or state.free_percent >= RESERVE_PERCENT
        )

    def not_recorded(self) -> Awaitable[bool] | None:
        """Return what a call waits for if its line could not be made."""
        return self._sink.lost()

    @contextmanager
    def batching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Write the lines of one turn of ``loop`` together; call ``flush`` before each reply is
        sent.
        """
        self._sink.set_batching(loop)
        try:
            yield
        finally:
            self._sink.set_batching(None)

    def flush(self) -> None:
        """Write batched lines."""
        self._sink.flush()

    def start_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check the file on this loop, also while there are no calls."""
        self._timer = loop.call_later(self._sink.tick(), self.start_timer, loop)

    def reopen(self) -> None:
        """Open the file again, after it was renamed."""
        self._sink.reopen()

    def close(self) -> None:
        """Write waiting lines, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        self._sink.close()
