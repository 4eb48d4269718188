"""The control socket, by which ``pexpolicy reload`` reaches a running server.

Only the user of the server can reach it. Its name says which configuration the server has, and
which process it is: so the command needs to know the configuration only, and may find several
servers.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from pexpolicy.server.reload.result import ReloadResult
from pexpolicy.tasks import hide

RELOAD = b"reload\n"
"""What a client sends. The answer is a line of JSON, a ``ReloadResult``."""
PATIENCE = 180.0
"""Seconds for the answer: longer than a server builds a configuration."""
SERVICE_FOLDER = Path("/run/pexpolicy")
"""Where a unit of systemd with ``RuntimeDirectory=pexpolicy`` has its sockets."""


def folders() -> Iterator[Path]:
    """List the folders for sockets of the user, the best one first."""
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        for name in os.environ.get(variable, "").split(":"):
            if name:
                yield Path(name)
    yield SERVICE_FOLDER
    if (own := _own_folder()) is not None:
        yield own


def _own_folder() -> Path | None:
    """Name the user's folder among temporary files; ``None`` where nothing can be written, as in a
    container whose root is read-only.
    """
    try:
        return Path(tempfile.gettempdir()) / f"pexpolicy-{os.getuid()}"
    except FileNotFoundError:
        return None


def name_of(config: Path) -> str:
    """Give the beginning of the names of sockets of servers with a configuration.

    Symbolic links are not followed: that they lead elsewhere is how some configurations change.
    """
    path = os.path.abspath(config)  # noqa: PTH100 - Path.absolute keeps the dots
    return f"pexpolicy-{hashlib.sha256(path.encode()).hexdigest()[:16]}"


def sockets_of(config: Path) -> list[Path]:
    """Find the sockets of servers with a configuration, living or dead."""
    found: list[Path] = []
    for folder in dict.fromkeys(folders()):
        with suppress(OSError):
            if _is_trusted(folder):
                found += sorted(folder.glob(f"{name_of(config)}-*.sock"))
    return found


def bind(config: Path) -> tuple[socket.socket, Path] | None:
    """Bind a socket for commands; gives it and its path, or ``None`` where there is no folder."""
    name = f"{name_of(config)}-{os.getpid()}.sock"
    for folder in folders():
        try:
            if folder == _own_folder():
                folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_trusted(folder):
                continue
            _clear_away(folder)
            return _bound(folder / name), folder / name
        except OSError:
            continue
    return None


def _clear_away(folder: Path) -> None:
    """Remove the sockets of servers that were killed."""
    for path in folder.glob("pexpolicy-*.sock"):
        with socket.socket(socket.AF_UNIX) as visitor, suppress(OSError):
            visitor.setblocking(False)  # noqa: FBT003 - it takes no keyword
            try:
                visitor.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)


def _is_trusted(folder: Path) -> bool:
    """Check that only this user and root may put a socket into a folder."""
    known = folder.lstat()
    ours = known.st_uid in (os.getuid(), 0) or os.getuid() == 0
    return stat.S_ISDIR(known.st_mode) and ours and not known.st_mode & 0o022


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # A server that was killed may have had the same number.
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def answering(
    config: Path, reload: Callable[[], Awaitable[ReloadResult]]
) -> AsyncIterator[socket.socket | None]:
    """Answer commands while inside; gives the socket, or ``None`` where there is no folder."""
    if (bound := bind(config)) is None:
        yield None
        return
    listener, path = bound

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hide(asyncio.current_task())
        with suppress(OSError, ValueError):
            if await reader.readline() == RELOAD:
                writer.write(msgspec.json.encode(await reload()) + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, sock=listener)
    try:
        yield listener
    finally:
        server.close()
        path.unlink(missing_ok=True)


def ask_for_reload(config: Path) -> list[ReloadResult | None]:
    """Ask each server with this configuration; gives ``None`` for one that ended meanwhile."""
    results: list[ReloadResult | None] = []
    for path in sockets_of(config):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                # The socket of a server that was killed is still there.
                path.unlink(missing_ok=True)
                continue
            line = _answer(connection)
            results.append(msgspec.json.decode(line, type=ReloadResult) if line else None)
    return results


def _answer(connection: socket.socket) -> bytes:
    """Read the line that answers the command; empty from a server that ends instead."""
    try:
        connection.sendall(RELOAD)
        with connection.makefile("rb") as replies:
            return replies.readline()
    except ConnectionError:
        return b""
