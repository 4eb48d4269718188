"""Where ``pexpolicy reload`` finds a running server: a socket that only its user can reach.

The name of the socket says which configuration the server has, and which process it is. So the
command needs to know the configuration only, and may find several servers.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SERVICE_FOLDER = Path("/run/pexpolicy")
"""Where a unit of systemd with ``RuntimeDirectory=pexpolicy`` has its sockets."""


def folders() -> Iterator[Path]:
    """The folders for sockets of the user, the best one first."""
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        for name in os.environ.get(variable, "").split(":"):
            if name:
                yield Path(name)
    yield SERVICE_FOLDER
    if (own := _own_folder()) is not None:
        yield own


def _own_folder() -> Path | None:
    """The user's folder among temporary files; ``None`` where nothing can be written, as in a
    container whose root is read-only.
    """
    try:
        return Path(tempfile.gettempdir()) / f"pexpolicy-{os.getuid()}"
    except FileNotFoundError:
        return None


def name_of(config: Path) -> str:
    """The beginning of the names of sockets of servers with a configuration.

    Symbolic links are not followed: that they lead elsewhere is how some configurations change.
    """
    path = os.path.abspath(config)  # noqa: PTH100 - Path.absolute keeps the dots
    return f"pexpolicy-{hashlib.sha256(path.encode()).hexdigest()[:16]}"


def sockets_of(config: Path) -> list[Path]:
    """The sockets of servers with a configuration, living or dead."""
    found: list[Path] = []
    for folder in dict.fromkeys(folders()):
        with suppress(OSError):
            if _is_trusted(folder):
                found += sorted(folder.glob(f"{name_of(config)}-*.sock"))
    return found


def bind(config: Path) -> tuple[socket.socket, Path] | None:
    """A socket that listens for commands, and its path; ``None`` where there is no place for it."""
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
    """Remove what servers left behind that were killed."""
    for path in folder.glob("pexpolicy-*.sock"):
        with socket.socket(socket.AF_UNIX) as visitor, suppress(OSError):
            visitor.setblocking(False)  # noqa: FBT003 - it takes no keyword
            try:
                visitor.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)


def _is_trusted(folder: Path) -> bool:
    """True for a folder that nobody else may put a socket into."""
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
