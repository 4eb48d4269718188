"""Triggers of a reload: SIGHUP, a changed file, and ``pexpolicy reload`` by the control socket.

Only the user of the server can connect to the socket. Its name contains a hash of the path of the
configuration and the process number, so the command finds all servers with a configuration.

Files are polled. Kernel notifications would require watching the folders: they fire for each audit
line that is written there, and miss changes on file servers and of the targets of symbolic links.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from pexpolicy.config.files import Look, stat_files
from pexpolicy.errors import Log
from pexpolicy.server.process import READY, ShutdownSignal, Terminal, notify, reloading
from pexpolicy.tasks import hide, run_in_thread, start_background
from pexpolicy.text import readable


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


FILE_POLL_INTERVAL_S = 0.5
"""Seconds between two polls. A file counts as changed after two polls saw the same new version, so
a file that is being written is not read."""

Poll = Callable[[tuple[Path, ...]], Awaitable[Look]]
"""Returns the present version of each file."""


async def poll_in_thread(files: tuple[Path, ...]) -> Look:
    """Return the present versions without blocking; a file server may hang."""
    try:
        return await run_in_thread(lambda: stat_files(files), "pexpolicy-watch")
    except RuntimeError:
        # No thread can be started: plugins have used them all up.
        return stat_files(files)


async def poll_directly(files: tuple[Path, ...]) -> Look:
    """Return the present versions, in a process that forks and therefore must not use threads."""
    return stat_files(files)


class FileWatcher:
    """Polls files and calls ``changed`` when some have changed and are no longer being written."""

    def __init__(self, changed: Callable[[], None], poll: Poll = poll_in_thread) -> None:
        self._changed = changed
        self._poll = poll
        self._known: Look = {}
        self._latest: Look = {}

    async def sample(self) -> Look:
        """Return the present versions of the watched files."""
        return await self._poll(tuple(self._known))

    async def watch(self, files: Iterable[Path], before: Look, read_at: float) -> None:
        """Watch these files instead; see ``start``."""
        self.start(await self._poll(tuple(files)), before, read_at)

    def start(self, now: Look, before: Look, read_at: float) -> None:
        """Start with files that were read at ``read_at`` or later, in seconds since the epoch.

        ``before`` holds the versions of some of them at that time, ``now`` the versions of all. A
        version that is newer than ``read_at`` may not be the one that was read, so it counts as a
        change.
        """
        old = {f: v if v is not None and v.is_older_than(read_at) else None for f, v in now.items()}
        self._known = {file: before.get(file, version) for file, version in old.items()}
        self._latest = {}

    def is_changed(self, versions: Look) -> bool:
        """Return whether a poll and the one before it saw the same change."""
        settled = versions == self._latest
        self._latest = versions
        # The set of watched files may have changed during the poll.
        if not settled or versions == self._known or versions.keys() != self._known.keys():
            return False
        self._known = versions
        return True

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(FILE_POLL_INTERVAL_S)
            if self.is_changed(await self.sample()):
                self._changed()


Reload = Callable[[], Awaitable[ReloadResult]]


class ReloadTriggers:
    """Calls ``reload`` at each trigger, one call at a time, and reports the result.

    Used by a server of one process and by the supervisor of several. ``echo`` prints a line for
    the operator.
    """

    def __init__(
        self,
        config: Path,
        reload: Reload,
        stop: ShutdownSignal,
        log: Log,
        echo: Callable[[str], None],
        poll: Poll = poll_in_thread,
    ) -> None:
        self._config = config
        self._reload = reload
        self._stop = stop
        self._log = log
        self._echo = echo
        self._terminal = Terminal()
        self._watcher = FileWatcher(self._on_changed_file, poll)
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[ReloadResult]] = set()
        self._listener: socket.socket | None = None

    @asynccontextmanager
    async def active(self, files: Iterable[Path], read_at: float) -> AsyncIterator[None]:
        """Reload on each trigger until exit.

        ``files`` are those of the active configuration, read at ``read_at`` or later, in seconds
        since the epoch.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        await self._watcher.watch(files, {}, read_at)
        watchers = [
            loop.create_task(work) for work in (self._watcher.run(), self._terminal.watch())
        ]
        for task in watchers:
            hide(task)
        async with control_socket(self._config, self.reload) as self._listener:
            if self._listener is None:
                self._log.warning(
                    "no folder for the control socket: pexpolicy reload is unavailable, use SIGHUP"
                )
            try:
                yield
            finally:
                loop.remove_signal_handler(signal.SIGHUP)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                for running in (*watchers, *self._tasks):
                    running.cancel()

    async def reload(self) -> ReloadResult:
        """Reload and return the result."""
        return await self._start()

    def request(self) -> None:
        """Start a reload without waiting for it."""
        _ = self._start()

    def close(self) -> None:
        """Close the copy of the control socket in a forked process."""
        if self._listener is not None:
            self._listener.close()

    def _start(self) -> asyncio.Task[ReloadResult]:
        """Reload in a task that is hidden from plugins and ends with the server."""
        return start_background(self._run(), self._tasks)

    def _on_hangup(self) -> None:
        """Reload, or stop if the terminal of the server was closed."""
        if self._terminal.is_closed:
            self._stop.request_immediate()
        else:
            self.request()

    def _on_changed_file(self) -> None:
        """Reload, unless a reload is running: a later change is detected by the next poll."""
        if not self._lock.locked():
            self.request()

    async def _run(self) -> ReloadResult:
        async with self._lock:
            notify(reloading())
            read_at, before = time.time(), await self._watcher.sample()
            result = await self._reload()
            await self._watcher.watch(map(Path, result.files), before, read_at)
            notify(READY)
        if result.done:
            notes = (f"warning: {note}" for note in result.notes)
            for line in (str(result), *result.changes, *notes):
                self._echo(line)
        else:
            self._log.warning("the configuration was not reloaded", problems=result.problems)
        return result
