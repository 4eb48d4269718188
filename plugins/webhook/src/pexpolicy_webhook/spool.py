"""Spool: a bounded folder of events that are not delivered yet.

Each instance of the plugin appends to a segment of its own, a file of one event a line, and keeps
it locked. A second file has the number of bytes that were delivered. A segment without a lock
belongs to an instance that has ended: the first one that gets the lock delivers the rest. So
several worker processes, a reload and a killed server need no coordination. What was written
survives the end of the process, but not a power failure.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pexpolicy import get_logger
from pexpolicy.config.files import open_own

log = get_logger(__name__)
SEGMENT_BYTES = 1 << 20
"""Size from which a segment is followed by another one, or a part of a large spool."""
MAX_OPEN = 64
"""Segments that an instance has open, of two files each; more only while many are small."""
EVENTS, POSITION, NEW = ".events", ".position", ".new"
_DIGITS = 20
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO}
_UNUSABLE |= {errno.EINVAL, errno.EMLINK, errno.EFBIG}
"""Errors of one file, such as that of another user; the other segments are delivered."""


class SpoolFullError(OSError):
    """The spool has no room for further events; they are offered again."""


@dataclass
class Segment:
    """One file: bytes that were written, and those of them that were delivered."""

    path: Path
    fd: int
    position_fd: int
    written: int = 0
    delivered: int = 0
    is_growing: bool = False

    @property
    def pending(self) -> int:
        """Bytes that are not delivered yet."""
        return self.written - self.delivered

    def read(self, count: int, limit: int) -> list[bytes]:
        """Return up to ``count`` events of together about ``limit`` bytes."""
        piece = os.pread(self.fd, min(self.pending, limit), self.delivered)
        if b"\n" not in piece:
            piece = os.pread(self.fd, self.pending, self.delivered)
        end = piece.rfind(b"\n") + 1
        return piece[:end].split(b"\n")[:-1][:count]

    def acknowledge(self, size: int) -> None:
        """Record that the next ``size`` bytes were delivered."""
        self.delivered += size
        os.pwrite(self.position_fd, f"{self.delivered:0{_DIGITS}}".encode(), 0)

    def close(self) -> None:
        """Release the lock; delete the files if all was delivered."""
        if self.pending <= 0:
            for path in (self.path, self.path.with_suffix(POSITION)):
                path.unlink(missing_ok=True)
        os.close(self.position_fd)
        os.close(self.fd)


class Spool:
    """The segments of one instance; ``limit`` bounds the whole folder, in bytes.

    ``append`` is called in another thread than the rest.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        """Open the folder; raises ``OSError``."""
        self._folder = folder
        self._limit = limit
        self._segment_bytes = max(SEGMENT_BYTES, limit // MAX_OPEN)
        self._lock = threading.Lock()
        self._segments: deque[Segment] = deque()
        self._used = 0
        self._measured_at = 0.0
        self._unusable: set[Path] = set()
        self.is_open = True
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.adopt()
        except OSError:
            self.close()
            raise

    @property
    def pending(self) -> int:
        """Bytes of this instance that are not delivered yet."""
        with self._lock:
            return sum(segment.pending for segment in self._segments)

    @property
    def used(self) -> int:
        """Bytes of all files of the folder, as last measured."""
        return self._used

    def append(self, events: list[bytes]) -> None:
        """Write events; raises ``SpoolFullError`` if there is no room, and other ``OSError``."""
        data = b"\n".join(events) + b"\n"
        with self._lock:
            if not self.is_open:
                raise SpoolFullError(errno.ESHUTDOWN, "the spool is closed")
            if self._used + len(data) > self._limit or time.monotonic() - self._measured_at > 1.0:
                self.measure()
            if self._used + len(data) > self._limit:
                text = f"the spool {self._folder} is full ({self._limit >> 20} MiB)"
                raise SpoolFullError(errno.ENOSPC, text)
            segment = self._segments[-1] if self._segments else None
            if segment is None or not segment.is_growing:
                segment = self._begin()
            try:
                if os.write(segment.fd, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - as if all
            except OSError:
                os.ftruncate(segment.fd, segment.written)
                raise
            segment.written += len(data)
            self._used += len(data)
            segment.is_growing = segment.written < self._segment_bytes

    def _begin(self) -> Segment:
        """Create the next segment; it gets its name when it is locked."""
        path = self._folder / f"{time.time_ns():020}-{uuid4().hex}{EVENTS}"
        new = path.with_suffix(NEW)
        fd = open_own(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            new.rename(path)
            position = _position_of(path)
        except OSError:
            os.close(fd)
            raise
        segment = Segment(path, fd, position, is_growing=True)
        self._segments.append(segment)
        return segment

    def take(self, count: int, limit: int) -> tuple[Segment, list[bytes]] | None:
        """Return the next events to deliver, up to ``count`` of together about ``limit`` bytes.

        ``None`` if there are none. Segments without any are deleted.
        """
        with self._lock:
            while self._segments:
                segment = self._segments[0]
                if segment.pending > 0:
                    if events := segment.read(count, limit):
                        return segment, events
                    text = "a segment of the spool was truncated, and its events are lost"
                    log.warning(text, file=str(segment.path), bytes=segment.pending)
                    segment.delivered = segment.written
                self._segments.popleft().close()
            return None

    def acknowledge(self, segment: Segment, events: Sequence[bytes]) -> None:
        """Record that these events, the next ones of a segment, were delivered."""
        with self._lock:
            if self.is_open:
                segment.acknowledge(sum(map(len, events)) + len(events))

    def measure(self) -> None:
        """Measure the folder, which other processes write into as well."""
        used = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    used += entry.stat().st_size
        self._used, self._measured_at = used, time.monotonic()

    def adopt(self) -> None:
        """Take over the segments of instances that have ended, the oldest first."""
        with self._lock:
            if not self.is_open:
                return
            own = {segment.path for segment in self._segments}
            found = [path for path in self._folder.glob(f"*{EVENTS}") if path not in own]
            # The others once these are delivered; each descriptor is one connection less.
            room = max(MAX_OPEN - len(self._segments), 1)
            for path in sorted(sorted(found)[:room], reverse=True):
                if (segment := self._open(path)) is not None:
                    self._segments.appendleft(segment)
            self.measure()

    def _open(self, path: Path) -> Segment | None:
        """Open and lock a segment; a file that cannot be one is left, and told once."""
        try:
            return _opened(path, self._limit)
        except OSError as error:
            if error.errno not in _UNUSABLE:
                raise
            if path not in self._unusable:
                self._unusable.add(path)
                problem = error.strerror
                log.warning("a file of the spool is left out", file=str(path), problem=problem)
            return None

    def close(self) -> None:
        """Release all segments to other instances."""
        with self._lock:
            self.is_open = False
            while self._segments:
                self._segments.popleft().close()


def _opened(path: Path, limit: int) -> Segment | None:
    """Open and lock a segment; ``None`` where another instance has it, or has delivered it."""
    try:
        fd = open_own(path, os.O_RDWR | os.O_APPEND, most=limit)
    except FileNotFoundError:
        return None
    if not _is_locked(fd, path):
        os.close(fd)
        return None
    try:
        size = os.fstat(fd).st_size
        written = _whole_lines(fd, size)
        position = _position_of(path)
    except OSError:
        os.close(fd)  # and release the lock
        raise
    text = os.pread(position, _DIGITS, 0)
    delivered = int(text) if len(text) == _DIGITS and text.isdigit() else 0
    if written < size:
        log.warning("a killed process left an incomplete event", file=str(path))
    return Segment(path, fd, position, written, min(delivered, written))


def _position_of(path: Path) -> int:
    return open_own(path.with_suffix(POSITION), os.O_RDWR | os.O_CREAT)


def _is_locked(fd: int, path: Path) -> bool:
    """Lock a file; false where another instance has locked or deleted it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last owner may have deleted it after it was opened here.
        return os.path.samestat(os.fstat(fd), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _whole_lines(fd: int, size: int) -> int:
    """Return the bytes up to the last line end: a killed process may leave a part of a line."""
    at = size
    while at:
        begin = max(at - 65536, 0)
        end = os.pread(fd, at - begin, begin).rfind(b"\n")
        if end >= 0:
            return begin + end + 1
        at = begin
    return 0
