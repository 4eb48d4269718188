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
import pwd
import signal
import socket
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pexpolicy.config.files import Look, known_at, stat_files
from pexpolicy.errors import Log
from pexpolicy.server.process import READY, ShutdownSignal, notify
from pexpolicy.tasks import hide, run_in_thread, start_background
from pexpolicy.text import printable, readable


class ReloadResult(msgspec.Struct, frozen=True):
    """The result of a reload; ``problems`` is empty if the new configuration is active.

    ``policy_hash`` is that of the active configuration. ``changes`` are what changed, by
    name. ``notes`` are warnings for the operator and keys that need a restart. ``files`` are
    those to watch for the next change.
    """

    policy_hash: str
    plugins: Texts = ()
    problems: Texts = ()
    notes: Texts = ()
    files: Texts = ()
    changes: Texts = ()

    @property
    def done(self) -> bool:
        """True when the new configuration is active."""
        return not self.problems

    def __str__(self) -> str:
        if self.done:
            names = ", ".join(self.plugins) or "no plugins"
            return f"reloaded ({names}; {self.policy_hash})"
        count = len(self.problems)
        errors = "1 error" if count == 1 else f"{count} errors"
        return f"not reloaded: {errors}; {self.policy_hash} stays active"


Texts = tuple[str, ...]
"""Lines for people, or names."""
Reload = Callable[[str, str], Awaitable[ReloadResult]]
"""Reloads for an author, who may be unknown, from the present files or those kept by a policy hash.
"""
MAX_AUTHOR = 100
RELOAD_TIMEOUT_S = 180.0
"""Seconds to wait for the reply: more than the build and the lifespans may take."""
SERVICE_FOLDER = Path("/run/pexpolicy")
"""The folder of a systemd unit with ``RuntimeDirectory=pexpolicy``."""
OWN_FOLDER = f"pexpolicy-{os.getuid()}"
"""The folder of this user among the temporary files."""


def folders() -> list[Path]:
    """Return the folders for control sockets of this user, in order of preference."""
    names = os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    found = [*map(Path, filter(None, names)), SERVICE_FOLDER]
    with suppress(OSError):  # without a writable one, as in a container with a read-only root
        found.append(Path(tempfile.gettempdir()) / OWN_FOLDER)
    return list(dict.fromkeys(found))


def name_of(config: Path) -> str:
    """Return the common prefix of the socket names of all servers with a configuration.

    Symbolic links are not resolved, because some deployments change the configuration through them.
    """
    path = os.path.abspath(config)  # noqa: PTH100 - Path.absolute keeps ".."
    return f"pexpolicy-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"


def sockets_of(config: Path) -> list[Path]:
    """Return the sockets of all servers with a configuration, also of killed ones."""
    found: list[Path] = []
    for folder in folders():
        with suppress(OSError):
            # systemd creates the folder of a service for the user of the service.
            if _is_trusted(folder) or (folder == SERVICE_FOLDER and os.getuid() == 0):
                found += sorted(folder.glob(f"{name_of(config)}-*.sock"))
    return found


def _is_trusted(folder: Path) -> bool:
    """Return whether a folder belongs to this user and no other user may write to it."""
    found = folder.lstat()
    return found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022


@asynccontextmanager
async def control_socket(config: Path, reload: Reload) -> AsyncIterator[bool]:
    """Answer commands until exit; yield whether a folder can be used.

    A command is a line of JSON with the arguments of ``reload``, and its reply one with the result.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hide(asyncio.current_task())
        with suppress(OSError, ValueError):
            author, kept = msgspec.json.decode(await reader.readline(), type=tuple[str, str])
            result = await reload(printable(author)[:MAX_AUTHOR], kept)
            writer.write(msgspec.json.encode(readable(msgspec.to_builtins(result))) + b"\n")
            await writer.drain()
        writer.close()

    for folder in folders():
        with suppress(OSError):
            if folder.name == OWN_FOLDER:
                folder.mkdir(mode=0o700, exist_ok=True)
            if _is_trusted(folder):
                path = folder / f"{name_of(config)}-{os.getpid()}.sock"
                server = await asyncio.start_unix_server(answer, path, start_serving=False)
                path.chmod(0o600)
                await server.start_serving()
                break
    else:
        yield False
        return
    try:
        yield True
    finally:
        server.close()
        path.unlink(missing_ok=True)


def ask_for_reload(config: Path, author: str = "", kept: str = "") -> list[ReloadResult | None]:
    """Reload all servers with this configuration; the result is ``None`` for one that has ended.

    ``author`` asks for it, by default the user of this process, or of ``sudo``. ``kept`` is the
    policy hash of an earlier configuration to go back to.
    """
    if not author:
        with suppress(KeyError):
            author = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    results: list[ReloadResult | None] = []
    for path in sockets_of(config):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                # The server was killed and its socket remained.
                path.unlink(missing_ok=True)
                continue
            connection.settimeout(RELOAD_TIMEOUT_S)
            line = b""
            with suppress(ConnectionError), connection.makefile("rb") as replies:
                connection.sendall(msgspec.json.encode(readable((author, kept))) + b"\n")
                line = replies.readline()
            results.append(msgspec.json.decode(line, type=ReloadResult) if line else None)
    return results


POLL_INTERVAL_S = 1.0
"""Seconds between two polls of the files."""


def _terminals() -> list[int]:
    return [*filter(os.isatty, range(3))]


@dataclass(eq=False)
class ReloadTriggers:
    """Calls ``work`` at each trigger, one call at a time, and reports the result.

    Used by a server of one process and by the supervisor of several, which forks and therefore
    ``uses_threads`` for nothing. ``echo`` prints a line for the operator.
    """

    config: Path
    work: Reload
    stop: ShutdownSignal
    log: Log
    echo: Callable[[str], None]
    uses_threads: bool = True
    _known: Look = field(default_factory=dict)
    """The versions of the watched files at the last reload."""
    _logged: Texts = ()
    """The errors of the last reload."""
    _started_on: list[int] = field(default_factory=_terminals)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @asynccontextmanager
    async def active(self, files: Iterable[Path], read_at: float) -> AsyncIterator[None]:
        """Reload on each trigger until exit.

        ``files`` are those of the active configuration, read at ``read_at`` or later, in seconds
        since the epoch.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self._known = known_at(await self._poll(files), read_at)
        _ = start_background(self._watch(), self._tasks)
        async with control_socket(self.config, self.reload) as is_open:
            if not is_open:
                self.log.warning(
                    "no folder for the control socket: pexpolicy reload is unavailable, use SIGHUP"
                )
            try:
                yield
            finally:
                loop.remove_signal_handler(signal.SIGHUP)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                for task in self._tasks:
                    task.cancel()

    def reload(self, author: str = "", kept: str = "") -> asyncio.Task[ReloadResult]:
        """Start a reload, in a task that is hidden from plugins and ends with the server."""
        return start_background(self._run(author, kept), self._tasks)

    def _on_hangup(self) -> None:
        """Reload, or stop if the terminal of the server was closed."""
        if self._started_on == _terminals():
            _ = self.reload()
        else:
            self.stop.request_immediate()

    async def _watch(self) -> None:
        """Reload after a change of the files.

        Two polls have to see the same new versions: a file that is being written is not read.
        """
        latest: Look = {}
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            # A change during a reload is detected by a later poll.
            before, latest = latest, await self._poll(self._known)
            if not self._lock.locked() and before == latest != self._known:
                self._known = latest
                _ = self.reload()

    async def _poll(self, files: Iterable[Path]) -> Look:
        """Return the present versions; a file server may hang."""
        if not self.uses_threads:
            return stat_files(files)
        return await run_in_thread(lambda: stat_files(files), "pexpolicy-watch")

    async def _run(self, author: str, kept: str) -> ReloadResult:
        async with self._lock:
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            read_at = time.time()
            result = await self.work(author, kept)
            # A newer version may not be the one that was read, so it counts as a change.
            self._known = known_at(await self._poll(map(Path, result.files)), read_at)
            notify(READY)
        if result.done:
            notes = (f"warning: {note}" for note in result.notes)
            for line in (str(result), *result.changes, *notes):
                self.echo(line)
        elif result.problems == self._logged:
            self.log.warning("the configuration was not reloaded: it has the same errors")
        else:
            for problem in result.problems:
                self.log.warning("the configuration was not reloaded", error=problem)
        self._logged = result.problems
        return result
