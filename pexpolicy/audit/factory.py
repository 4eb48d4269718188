"""From the configuration to an audit that writes."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pexpolicy.audit.append_file import AppendFile
from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.backlog import Backlog, WriteResult
from pexpolicy.audit.checkpoints import Signer
from pexpolicy.audit.console import readable
from pexpolicy.audit.group_commit import Durability, GroupCommitSink
from pexpolicy.audit.hash_chain import HashChain, NoHashChain
from pexpolicy.audit.journal import Journal
from pexpolicy.audit.redaction import Redaction, redaction_of
from pexpolicy.audit.rotation import Rotation, rotated
from pexpolicy.audit.sinks import BatchingSink, DirectSink, Sink
from pexpolicy.audit.spool import Spool, orphans
from pexpolicy.audit.state import AlertWriter, AuditState
from pexpolicy.audit.stream import Stream
from pexpolicy.audit.torn_lines import mend_file
from pexpolicy.config.schema.audit import AuditTable
from pexpolicy.config.signing_key import private_key

if TYPE_CHECKING:
    from pexpolicy.config.settings import Settings

MEGABYTE = 1 << 20
PAGE = 1 << 16
"""Bytes that a file may take in addition to what is written: the largest page of memory."""
HOUR = 3600


def audit_of(settings: Settings) -> AuditLog:
    """The audit that a configuration asks for; raises ``OSError`` when it cannot be opened."""
    table = settings.audit
    path = settings.resolve(table.path) if table.path else None
    return open_audit(
        path,
        redaction_of(settings),
        table,
        spool=settings.resolve(table.spool) if table.spool else None,
        sign_key=settings.sign_key.get_secret_value() if settings.sign_key else None,
        says_end=True,
    )


def open_audit(
    path: Path | None,
    redaction: Redaction | None = None,
    table: AuditTable | None = None,
    *,
    spool: Path | None = None,
    sign_key: str | None = None,
    says_end: bool = False,
    alarms: AlertWriter | None = None,
) -> AuditLog:
    """The audit to a file, or to standard output; readable colours instead of JSON on a terminal.

    Raises ``OSError`` when the file cannot be opened, and ``KeyUnusableError``.
    """
    table = table or AuditTable()
    watched = path is None and sys.stdout.isatty()
    seal = NoHashChain() if watched else HashChain(table.instance)
    signer = None
    if sign_key is not None and not watched:
        key = private_key(sign_key)
        signer = Signer(key, table.checkpoint_lines, table.checkpoint_seconds)
    target, rotate = _target(path, seal, table)
    state = AuditState()
    required = table.level == "required"
    waits = None if spool is None else Spool(spool, seal.boot_id, table.spool_mb * MEGABYTE)
    # What is held in memory is no record, and a call that waits for one is handed back.
    room = 0 if required else table.buffer_mb * MEGABYTE
    journal = Journal(
        target,
        seal,
        Backlog(room, waits, state),
        alarms=alarms,
        rotate=rotate,
        checkpoints=signer,
    )
    journal.says_end = says_end and not watched
    if spool is not None and isinstance(target, AppendFile):
        _take_over(spool, target)
    return AuditLog(
        _sink(table, journal, gathers=isinstance(target, AppendFile)),
        readable if watched else None,
        redaction,
        state=state,
        rejects=table.on_fail == "reject",
        required=required,
    )


def _target(
    path: Path | None, seal: HashChain, table: AuditTable
) -> tuple[AppendFile | Stream, Callable[[bool], bool] | None]:
    """Where lines go, and what rotates it."""
    if path is None:
        return _standard_output(seal), None
    if path.is_fifo():
        return _pipe(path), None
    file = AppendFile(path, seal.mark)
    # A server that was killed may have left half a line there, if others went on writing. They
    # rotate once a second at most.
    for before in rotated(path)[-2:]:
        mend_file(before)
    rotation = Rotation(
        None if table.rotate_mb is None else table.rotate_mb * MEGABYTE,
        None if table.rotate_hours is None else table.rotate_hours * HOUR,
        table.keep,
    )

    def rotate(anyway: bool) -> bool:  # noqa: FBT001 - the one thing that is said
        if not anyway and not rotation.is_due(path, file.size):
            return False
        return rotation.rotate(path, file.is_current)

    return file, rotate


def _standard_output(seal: HashChain) -> AppendFile | Stream:
    descriptor = sys.stdout.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        # Somebody else opened it, who may do what this program may not.
        with suppress(PermissionError):
            return AppendFile(Path(f"/dev/fd/{descriptor}"), seal.mark, ours=False)
    return Stream(descriptor)


def _pipe(path: Path) -> Stream:
    """A named pipe; a reader who comes later finds what fits into it."""
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return Stream(descriptor)
    finally:
        os.close(descriptor)


def _take_over(spool: Path, file: AppendFile) -> None:
    """Write the lines that writers left in the spool when they died.

    What the disk has no room for waits on, for the next start: a write that is cut off would leave
    nothing but blanks.
    """
    with suppress(OSError):
        for lines in orphans(spool):
            space = file.space()
            if space is not None and space[0] < len(lines) + PAGE:
                return
            file.write(lines)


def _sink(table: AuditTable, journal: Journal, *, gathers: bool) -> Sink:
    """``gathers``: several lines can be written in one piece, also beside other writers."""
    answers = table.on_fail == "answer"
    room = table.buffer_mb * MEGABYTE
    if table.level == "file":
        return (
            BatchingSink(journal) if gathers and answers else DirectSink(journal, answers=answers)
        )
    least = WriteResult.SPOOLED if table.level == "required" else WriteResult.HELD
    return GroupCommitSink(journal, Durability(answers=answers, least=least), room)
