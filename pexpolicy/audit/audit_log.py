"""The audit log: makes the line of each call and hands it to a sink; built of the configuration."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pexpolicy.audit.console import Terminal
from pexpolicy.audit.hash_chain import HashChain, Signer, last_position
from pexpolicy.audit.journal import Alert, AuditState, Journal
from pexpolicy.audit.records import DecisionRecord, as_json, line_of
from pexpolicy.audit.redaction import Redaction, plain_steps, redaction_of
from pexpolicy.audit.rotation import Rotation, ShippedLines, rotated
from pexpolicy.audit.sinks import GroupCommitSink, JournalSink
from pexpolicy.audit.spool import SPOOL_BYTES, Spool, WriteResult, orphaned_lines
from pexpolicy.audit.targets import AppendFile, Stream, Target, repair_file, tail_of
from pexpolicy.config.schema.audit import AuditTable
from pexpolicy.config.secrets import private_key
from pexpolicy.config.settings import Settings
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
        redaction: Redaction,
        *,
        state: AuditState | None = None,
        rejects: bool = False,
    ) -> None:
        self.redaction = redaction
        """Removes secrets and personal values."""
        self.state = state or AuditState()
        self.rejects = rejects
        self.sink = sink
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: object) -> Awaitable[bool] | None:
        """Write a line."""
        return self.sink.record(as_json(line))

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
        return DecisionRecord(
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
            removed=[*withheld, *removed],
            redaction_error=redaction_error,
        )

    def shadow(
        self,
        policy_hash: str,
        actual: Outcome,
        shadow: Outcome,
        differs: bool | None,  # noqa: FBT001 - a callback
    ) -> None:
        """Write what a shadow plugin would have decided, and whether it differs from ``actual``."""
        error = None
        try:
            steps, result, annotations, removed = self.redaction.outcome(shadow)
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
        facts = {"plugin": plugin, "peer": peer, **facts, "policy_hash": policy_hash}
        return self.write(line_of("change", **facts))

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

    def start_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check the file on this loop, also while there are no calls."""
        self._timer = loop.call_later(self.sink.tick(), self.start_timer, loop)

    def close(self) -> None:
        """Write waiting lines, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        self.sink.close()


MEGABYTE, GIGABYTE, HOUR = 1 << 20, 1 << 30, 3600
BUFFER_BYTES = 16 * MEGABYTE
"""Maximum size of the lines in memory when the spool is full or there is none."""
PAGE = 1 << 16
"""Bytes that a file may use in addition to its content: the largest memory page."""


def audit_of(settings: Settings, alert: Alert) -> AuditLog:
    """Return the audit log of a configuration: to a file or standard output, where a terminal gets
    coloured text, not JSON.

    Raises ``OSError`` if the file cannot be opened, and ``InvalidKeyError``.
    """
    table, key = settings.audit, settings.sign_key
    path = settings.resolve(table.path) if table.path else None
    spool = settings.resolve(table.spool) if table.spool else None
    if path is None and sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed", "standard output")
    chain, state = HashChain(settings.instance), AuditState()
    target, rotate = _target(path, chain, table, state, alert)
    is_record = not isinstance(target, Terminal)
    signer = Signer(private_key(key.get_secret_value())) if key and is_record else None
    # A line in memory does not count as recorded at this level.
    capacity = 0 if table.level == "required" else BUFFER_BYTES
    journal = Journal(
        target,
        chain,
        state,
        alert,
        spool=None if spool is None else Spool(spool, chain.boot_id, SPOOL_BYTES),
        capacity=capacity,
        rotate=rotate,
        signer=signer,
        line_before=partial(_line_before, target),
    )
    journal.writes_end = is_record
    if isinstance(target, AppendFile) and spool is not None:
        _write_orphaned(spool, target, alert)
    answers = table.on_fail == "answer"
    if table.level == "file":
        # Several lines can be written in one piece to a file, with other writers too.
        batches = answers and isinstance(target, AppendFile)
        sink = JournalSink(journal, answers=answers, batches=batches)
    else:
        least = WriteResult.SPOOLED if table.level == "required" else WriteResult.BUFFERED
        sink = GroupCommitSink(journal, BUFFER_BYTES, answers=answers, least=least)
    rejects = table.on_fail == "reject"
    return AuditLog(sink, redaction_of(settings), state=state, rejects=rejects)


def _target(
    path: Path | None, chain: HashChain, table: AuditTable, state: AuditState, alert: Alert
) -> tuple[Target, Callable[[bool], bool] | None]:
    """Return the file or stream that lines go to, and the function that rotates it."""
    if path is None:
        return _standard_output(chain.mark), None
    if path.is_fifo():  # lines wait until it has a reader
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return Stream(pipe), None
        finally:
            os.close(pipe)
    file = AppendFile(path, chain.mark)
    # A killed server may have left a torn line in a file that another one rotated since. Two files
    # suffice, as a server rotates at most once a second.
    for previous in rotated(path)[-2:]:
        repair_file(previous)
    size = table.rotate_mb and table.rotate_mb * MEGABYTE
    age = table.rotate_hours and table.rotate_hours * HOUR
    rotation, shipped = Rotation(size, age, table.keep), None

    def lose(file: Path) -> None:
        state.removed_unshipped += 1
        alert(f"{file} was removed before it was in the database: see max_gb")

    if table.ship is not None:
        shipped, most = ShippedLines(path), table.ship.max_gb * GIGABYTE
        rotation.removable = partial(shipped.removable, most=most, lose=lose)

    def rotate(anyway: bool) -> bool:  # noqa: FBT001 - its only argument
        if shipped is not None:
            state.shipped_until = shipped.read()
        is_due = anyway or rotation.is_due(path, file.size)
        return is_due and rotation.rotate(path, file.is_current)

    # A server that ends within a second of each start never gets to its first check.
    with suppress(OSError):
        if rotate(False):  # noqa: FBT003 - its only argument
            file.reopen()
    return file, rotate


def _standard_output(mark: bytes) -> Target:
    descriptor = sys.stdout.fileno()
    if sys.stdout.isatty():
        return Terminal(descriptor)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        # Another user opened it; this process may lack permission to reopen it.
        with suppress(PermissionError):
            return AppendFile(Path(f"/dev/fd/{descriptor}"), mark, audit_only=False)
    return Stream(descriptor)


def _line_before(target: Target) -> bytes:
    """Return what names the last line of the file, or of the last one that was rotated from it."""
    if isinstance(target, AppendFile):
        if position := last_position(target.tail()):
            return b',"after":"%b"' % position
        for path in rotated(target.path)[-1:]:
            return b',"previous_file":"%b"' % last_position(tail_of(path))
    return b""


def _write_orphaned(spool: Path, file: AppendFile, alert: Alert) -> None:
    """Write the spooled lines of processes that have died.

    Lines for which the disk has no space stay for the next start.
    """
    with suppress(OSError):
        for lines in orphaned_lines(spool, alert):
            space = file.space()
            if space is not None and space[0] < len(lines) + PAGE:
                return
            file.write(lines)
