"""Control socket, through which ``pexpolicy reload`` reaches a running server.

Only the user of the server can connect to it. Its name contains a hash of the path of the
configuration and the process number, so the command finds all servers with a configuration.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from pexpolicy.child import readable
from pexpolicy.tasks import hide


class ReloadResult(msgspec.Struct, frozen=True):
    """The result of a reload; ``problems`` is empty if the new configuration is active.

    ``config_hash`` is that of the active configuration. ``changes`` are what changed, by
    name. ``notes`` are warnings for the operator and keys that need a restart. ``files`` are
    those to watch for the next change.
    """

    config_hash: str
    plugins: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """True when the new configuration is active."""
        return not self.problems

    def __str__(self) -> str:
        if self.done:
            names = ", ".join(self.plugins) or "no plugins"
            return f"reloaded ({names}; {self.config_hash})"
        count = len(self.problems)
        return (
            f"not reloaded: {count} error{'s' if count > 1 else ''}; "
            f"{self.config_hash} stays active"
        )


RELOAD = b"reload\n"
"""The request. The reply is a line of JSON, a ``ReloadResult``."""
RELOAD_TIMEOUT_S = 180.0
"""Seconds to wait for the reply: more than the build and the lifespans may take."""
REQUEST_TIMEOUT_S = 10.0
"""Seconds to wait for the request of a client."""
CONNECT_PAUSE_S = 0.05
"""Seconds between two attempts to connect while many clients do."""
SERVICE_FOLDER = Path("/run/pexpolicy")
"""The folder of a systemd unit with ``RuntimeDirectory=pexpolicy``."""


def folders() -> Iterator[Path]:
    """Yield the folders for control sockets of this user, in order of preference."""
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        for name in os.environ.get(variable, "").split(":"):
            if name:
                yield Path(name)
    yield SERVICE_FOLDER
    if (own := _own_folder()) is not None:
        yield own


def _own_folder() -> Path | None:
    """Return the folder of this user among the temporary files.

    Return ``None`` if there is no writable one, as in a container with a read-only root.
    """
    try:
        return Path(tempfile.gettempdir()) / f"pexpolicy-{os.getuid()}"
    except FileNotFoundError:
        return None


def name_of(config: Path) -> str:
    """Return the common prefix of the socket names of all servers with a configuration.

    Symbolic links are not resolved, because some deployments change the configuration through them.
    """
    path = os.path.abspath(config)  # noqa: PTH100 - Path.absolute keeps ".."
    return f"pexpolicy-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"


def sockets_of(config: Path) -> list[Path]:
    """Return the sockets of all servers with a configuration, also of killed ones."""
    found: list[Path] = []
    for folder in dict.fromkeys(folders()):
        with suppress(OSError):
            # systemd creates the folder of a service for the user of the service.
            if _is_trusted(folder) or (folder == SERVICE_FOLDER and os.getuid() == 0):
                found += sorted(folder.glob(f"{name_of(config)}-*.sock"))
    return found


def bind(config: Path) -> tuple[socket.socket, Path] | None:
    """Bind the control socket; return it and its path, or ``None`` if no folder can be used."""
    name = f"{name_of(config)}-{os.getpid()}.sock"
    for folder in folders():
        try:
            if folder == _own_folder():
                folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_trusted(folder):
                continue
            _remove_stale(folder)
            return _listen(folder / name), folder / name
        except OSError:
            continue
    return None


def _remove_stale(folder: Path) -> None:
    """Remove the sockets of servers that were killed."""
    for path in folder.glob("pexpolicy-*.sock"):
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.setblocking(False)  # noqa: FBT003 - positional only
            try:
                client.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)


def _is_trusted(folder: Path) -> bool:
    """Return whether a folder belongs to this user and no other user may write to it."""
    status = folder.lstat()
    is_own = status.st_uid == os.getuid()
    return stat.S_ISDIR(status.st_mode) and is_own and not status.st_mode & 0o022


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # A killed server may have had the same process number.
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def control_socket(
    config: Path, reload: Callable[[], Awaitable[ReloadResult]]
) -> AsyncIterator[socket.socket | None]:
    """Answer commands until exit; yield the socket, or ``None`` if no folder can be used."""
    if (bound := bind(config)) is None:
        yield None
        return
    listener, path = bound

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hide(asyncio.current_task())
        with suppress(OSError, ValueError):
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                line = await reader.readline()
            if line == RELOAD:
                result = readable(msgspec.to_builtins(await reload()))
                writer.write(msgspec.json.encode(result) + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, sock=listener)
    try:
        yield listener
    finally:
        server.close()
        path.unlink(missing_ok=True)


def ask_for_reload(config: Path) -> list[ReloadResult | None]:
    """Reload all servers with this configuration; the result is ``None`` for one that has ended."""
    results: list[ReloadResult | None] = []
    for path in sockets_of(config):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(RELOAD_TIMEOUT_S)
            try:
                _connect(connection, path)
            except (ConnectionRefusedError, FileNotFoundError):
                # The server was killed and its socket remained.
                path.unlink(missing_ok=True)
                continue
            line = _exchange(connection)
            results.append(msgspec.json.decode(line, type=ReloadResult) if line else None)
    return results


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect within ``RELOAD_TIMEOUT_S``, also while the queue of the socket is full."""
    deadline = time.monotonic() + RELOAD_TIMEOUT_S
    while True:
        try:
            connection.connect(str(path))
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(CONNECT_PAUSE_S)
        else:
            return


def _exchange(connection: socket.socket) -> bytes:
    """Send the command and return the reply; empty if the server ends before."""
    try:
        connection.sendall(RELOAD)
        with connection.makefile("rb") as replies:
            return replies.readline()
    except ConnectionError:
        return b""
