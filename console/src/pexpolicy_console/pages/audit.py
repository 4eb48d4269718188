"""The page Audit: its health, its files, the verification of its chain, and downloads."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

from aiohttp import hdrs, web

from pexpolicy.audit.reader import file_and_rotated, open_file, raw_lines
from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.index.audit_files import UNREADABLE
from pexpolicy_console.pages.page import Page, record, record_view, render
from pexpolicy_console.periods import moment
from pexpolicy_console.roles import Role

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


async def audit(request: web.Request) -> web.StreamResponse:
    """Show the state of the audit."""
    return await _page(request)


async def verify(request: web.Request) -> web.StreamResponse:
    """Start a verification of the chain."""
    record(request, "verify audit")
    console_of(request).verification.start()
    raise web.HTTPSeeOther("/audit")


async def download(request: web.Request) -> web.StreamResponse:
    """Send the lines of a period, unchanged, as a compressed file."""
    path = console_of(request).config.audit
    try:
        zone = request.query.get("zone", "")
        since, until = (moment(request.query.get(name, ""), zone) for name in ("since", "until"))
    except ValueError as error:
        return await _page(request, problem=str(error), status=400)
    if path is None:
        raise web.HTTPNotFound
    record(request, "download audit", since=since, until=until)
    name = f'attachment; filename="{_name(path, since, until)}"'
    headers = {hdrs.CONTENT_TYPE: "application/gzip", hdrs.CONTENT_DISPOSITION: name}
    response = web.StreamResponse(headers=headers)
    with ExitStack() as stack:
        # Opened before the first is read: rotation renames and removes files meanwhile.
        try:
            files = await asyncio.to_thread(_opened, path, stack)
        except PermissionError as error:
            text = f"{error.filename} cannot be read: {error.strerror}"
            return await _page(request, problem=text, status=503)
        await response.prepare(request)
        blocks = _compressed(files, since, until)
        while block := await asyncio.to_thread(next, blocks, b""):
            await response.write(block)
        await response.write_eof()
    return response


async def _page(request: web.Request, problem: str = "", status: int = 200) -> web.StreamResponse:
    console = console_of(request)
    path = console.config.audit
    server, server_problem = await console.server.status()
    user, is_admin = request.query.get("user", ""), request[SESSION].role >= Role.ADMIN
    if is_admin:
        record_view(request, access_log=user or "all")
    files = [] if path is None else await asyncio.to_thread(files_of, path)
    return render(
        request,
        "audit.html",
        status,
        health=None if server is None else server.audit,
        server_problem=server_problem,
        problem=problem,
        audit_path=path,
        in_database=console.config.settings.audit.ship is not None,
        files=files,
        total=sum(file.size for file in files),
        verification=console.verification,
        accesses=await asyncio.to_thread(console.actions.recent, user) if is_admin else None,
        user=user,
        since=request.query.get("since", "today"),
        until=request.query.get("until", ""),
    )


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


def _opened(path: Path, stack: ExitStack) -> list[IO[bytes]]:
    """Return the audit files, open until the stack is closed."""
    files = []
    for file in file_and_rotated(path):
        with suppress(FileNotFoundError):
            files.append(stack.enter_context(open_file(file)))
    return files


def _lines(files: Iterable[IO[bytes]]) -> Iterator[bytes]:
    """Yield the lines of files; those of a damaged one up to the damage, which a verification
    reports.
    """
    for file in files:
        with suppress(*UNREADABLE):
            yield from file


def _compressed(
    files: Iterable[IO[bytes]], since: datetime | None, until: datetime | None
) -> Iterator[bytes]:
    """Yield a gzip file of the lines of a period. Lines without a time belong to the one before."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    block, is_within = b"", since is None
    for line in _lines(files):
        if (text := _timestamp(line)) is not None:
            is_within = _is_within(text, since, until)
        if is_within:
            block += packer.compress(line)
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
