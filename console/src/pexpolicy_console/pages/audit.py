"""The page Audit: its health, its files, the verification of its chain, and downloads."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

from pexpolicy.audit.reader import file_and_rotated, raw_lines
from pexpolicy_console.context import Page, Response, Visit, attachment
from pexpolicy_console.login.sessions import Role
from pexpolicy_console.periods import moment

BLOCK = 1 << 16
"""Compressed bytes of a download that are sent at a time."""
_TIMESTAMP = re.compile(rb'\s*\{"timestamp":"([^"]{10,40})"')


class AuditFile(NamedTuple):
    """One file of the audit."""

    name: str
    size: int
    first: str | None
    """The timestamp of its first line."""
    problem: str = ""
    """Why that line cannot be read: the file is compressed and damaged, or of another user."""


async def audit(visit: Visit, problem: str = "", status: int = 200) -> Response:
    """Show the state of the audit."""
    console, path, user = visit.console, visit.console.config.audit, visit.text("user")
    server, server_problem = await console.server.status()
    accesses = None
    if visit.session.role >= Role.ADMIN:
        visit.record_view(access_log=user or "all")
        accesses = await asyncio.to_thread(console.actions.recent, user)
    files = [] if path is None else await asyncio.to_thread(files_of, path)
    return visit.render(
        "audit.html",
        status,
        health=None if server is None else server.audit,
        problems=[text for text in (server_problem, problem) if text],
        audit_path=path,
        in_database=console.config.settings.audit.ship is not None,
        files=files,
        verification=console.verification,
        accesses=accesses,
        user=user,
        since=visit.request.query.get("since", "today"),
        until=visit.text("until"),
    )


async def verify(visit: Visit) -> Response:
    """Start a verification of the chain."""
    visit.record("verify audit")
    visit.console.verification.start()
    raise web.HTTPSeeOther("/audit")


async def download(visit: Visit) -> Response:
    """Send the lines of a period, unchanged, as a compressed file."""
    path, zone = visit.console.config.audit, visit.text("zone")
    try:
        since, until = (moment(visit.text(name), zone) for name in ("since", "until"))
    except ValueError as error:
        return await audit(visit, str(error), 400)
    if path is None:
        raise web.HTTPNotFound
    visit.record("download audit", since=since, until=until)
    blocks = compressed(path, since, until)
    try:
        block = await asyncio.to_thread(next, blocks)
    except OSError as error:
        return await audit(visit, f"{error.filename} cannot be read: {error.strerror}", 503)
    headers = attachment(_name(path, since, until), "application/gzip")
    response = Response(headers=headers)
    await response.prepare(visit.request)
    while block:
        await response.write(block)
        block = await asyncio.to_thread(next, blocks, b"")
    await response.write_eof()
    return response


def files_of(path: Path) -> list[AuditFile]:
    """Return the audit file and those rotated from it, the oldest lines first."""
    found = []
    for file in file_and_rotated(path):
        # A file may be removed or renamed by rotation meanwhile.
        with suppress(FileNotFoundError):
            size, first, problem = file.stat().st_size, None, ""
            try:
                for raw in raw_lines([file]):
                    if raw.damage:
                        problem = "damaged"
                    elif (first := _timestamp(raw.content)) is not None:
                        break
            except PermissionError as error:
                problem = f"cannot be read: {error.strerror}"
            found.append(AuditFile(file.name, size, first, problem))
    return found


def _timestamp(line: bytes) -> str | None:
    match = _TIMESTAMP.match(line)
    return None if match is None else match[1].decode("ascii", "replace")


def _name(path: Path, since: datetime | None, until: datetime | None) -> str:
    times = (f"{one:%Y%m%dT%H%M%SZ}" for one in (since, until) if one is not None)
    stem = re.sub(r"[^A-Za-z0-9.-]", "_", path.stem)
    return f"{'-'.join([stem, *times])}.jsonl.gz"


def compressed(path: Path, since: datetime | None, until: datetime | None) -> Iterator[bytes]:
    """Yield a gzip file of the lines of a period; raises ``OSError`` before its first block.

    Lines without a time belong to the one before. Those after the damage of a file are left out,
    which a verification reports.
    """
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    block, is_within = b"", since is None
    for raw in raw_lines(file_and_rotated(path)):
        if (text := _timestamp(raw.content)) is not None:
            is_within = _is_within(text, since, until)
        if is_within and not raw.damage:
            block += packer.compress(raw.content + b"\n" * raw.terminated)
        if len(block) >= BLOCK:
            yield block
            block = b""
    yield block + packer.flush()


def _is_within(text: str, since: datetime | None, until: datetime | None) -> bool:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return True
    return (since is None or at >= since) and (until is None or at < until)


PAGES = (
    Page("/audit", audit, "Audit"),
    Page("/audit/verify", verify, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/audit/download", download, "", Role.OPERATOR),
)
