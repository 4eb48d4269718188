"""The factory of the audit log: builds it from the configuration."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pexpolicy.audit.audit_log import AuditLog
from pexpolicy.audit.console import render
from pexpolicy.audit.hash_chain import HashChain, NoHashChain, Signer, last_position
from pexpolicy.audit.journal import Journal
from pexpolicy.audit.records import as_json
from pexpolicy.audit.redaction import Redaction, redaction_of
from pexpolicy.audit.rotation import Rotation, rotated
from pexpolicy.audit.shipped import ShippedLines
from pexpolicy.audit.sinks import GroupCommitSink, JournalSink
from pexpolicy.audit.spool import SPOOL_BYTES, Spool, WriteResult, orphaned_lines
from pexpolicy.audit.state import AlertWriter, AuditState
from pexpolicy.audit.targets import AppendFile, Stream, Target, tail_of
from pexpolicy.audit.torn_lines import repair_file
from pexpolicy.config.schema.audit import AuditTable
from pexpolicy.config.secrets import private_key

if TYPE_CHECKING:
    from pexpolicy.config.settings import Settings

MEGABYTE, GIGABYTE, HOUR = 1 << 20, 1 << 30, 3600
BUFFER_BYTES = 16 * MEGABYTE
"""Maximum size of the lines in memory when the spool is full or there is none."""
PAGE = 1 << 16
"""Bytes that a file may use in addition to its content: the largest memory page."""


def audit_of(settings: Settings) -> AuditLog:
    """Return the audit log of a configuration; raises ``OSError`` if it cannot be opened."""
    table = settings.audit.model_copy(update={"instance": settings.instance})
    path = settings.resolve(table.path) if table.path else None
    spool = settings.resolve(table.spool) if table.spool else None
    key = settings.sign_key.get_secret_value() if settings.sign_key else None
    redaction = redaction_of(settings)
    return open_audit(path, redaction, table, spool=spool, sign_key=key, writes_end=True)


def open_audit(
    path: Path | None,
    redaction: Redaction | None = None,
    table: AuditTable | None = None,
    *,
    spool: Path | None = None,
    sign_key: str | None = None,
    writes_end: bool = False,
) -> AuditLog:
    """Return an audit log to a file or standard output; on a terminal, coloured text not JSON.

    Raises ``OSError`` if the file cannot be opened, and ``InvalidKeyError``.
    """
    table = table or AuditTable()
    if path is None and sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed", "standard output")
    on_terminal = path is None and sys.stdout.isatty()
    chain = NoHashChain() if on_terminal else HashChain(table.instance)
    signer = None if sign_key is None or on_terminal else Signer(private_key(sign_key))
    state = AuditState()
    target, rotate = _target(path, chain, table, state)
    spool_file = None if spool is None else Spool(spool, chain.boot_id, SPOOL_BYTES)
    # A line in memory does not count as recorded at this level.
    capacity = 0 if table.level == "required" else BUFFER_BYTES
    journal = Journal(
        target,
        chain,
        state,
        spool=spool_file,
        capacity=capacity,
        rotate=rotate,
        signer=signer,
        line_before=partial(_line_before, target),
    )
    journal.writes_end = writes_end and not on_terminal
    if isinstance(target, AppendFile) and spool is not None:
        _write_orphaned(spool, target)
    answers = table.on_fail == "answer"
    if table.level == "file":
        # Several lines can be written in one piece to a file, with other writers too.
        batches = answers and isinstance(target, AppendFile)
        sink = JournalSink(journal, answers=answers, batches=batches)
    else:
        least = WriteResult.SPOOLED if table.level == "required" else WriteResult.BUFFERED
        sink = GroupCommitSink(journal, BUFFER_BYTES, answers=answers, least=least)
    shown, rejects = render if on_terminal else as_json, table.on_fail == "reject"
    return AuditLog(sink, shown, redaction, state=state, rejects=rejects)


def _target(
    path: Path | None, chain: HashChain, table: AuditTable, state: AuditState
) -> tuple[Target, Callable[[bool], bool] | None]:
    """Return the file or stream that lines go to, and the function that rotates it."""
    if path is None:
        descriptor = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            # Another user opened it; this process may lack permission to reopen it.
            with suppress(PermissionError):
                out = Path(f"/dev/fd/{descriptor}")
                return AppendFile(out, chain.mark, audit_only=False), None
        return Stream(descriptor), None
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
    rotation = Rotation(size, age, table.keep)
    shipped = None
    if table.ship is not None:

        def lose(file: Path) -> None:
            state.removed_unshipped += 1
            AlertWriter().alert(f"{file} was removed before it was in the database: see max_gb")

        shipped, most = ShippedLines(path), table.ship.max_gb * GIGABYTE
        removable = partial(shipped.removable, most=most, lose=lose)
        rotation = replace(rotation, removable=removable)

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


def _line_before(target: Target) -> bytes:
    """Return what names the last line of the file, or of the last one that was rotated from it."""
    if isinstance(target, AppendFile):
        if position := last_position(target.tail()):
            return b',"after":"%b"' % position
        for path in rotated(target.path)[-1:]:
            return b',"previous_file":"%b"' % last_position(tail_of(path))
    return b""


def _write_orphaned(spool: Path, file: AppendFile) -> None:
    """Write the spooled lines of processes that have died.

    Lines for which the disk has no space stay for the next start.
    """
    with suppress(OSError):
        for lines in orphaned_lines(spool, AlertWriter().alert):
            space = file.space()
            if space is not None and space[0] < len(lines) + PAGE:
                return
            file.write(lines)
