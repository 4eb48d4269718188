"""The writer of the index: follows the audit files, and keeps the index within its size."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pexpolicy_console.index.audit_files import (
    AuditFile,
    AuditFiles,
    ChunkReader,
    DamagedFileError,
)
from pexpolicy_console.index.lines import parse
from pexpolicy_console.index.segment import VERSION, ParsedLine, SegmentWriter

SEGMENT_LINES = 500_000
"""Lines from which on a new segment is begun."""
SUFFIXES = ("", "-wal", "-shm")


@dataclass(slots=True)
class IndexState:
    """How far the index is."""

    lines: int = 0
    """Lines in the index."""
    behind_bytes: int = 0
    """Bytes of audit files that are not indexed yet; compressed files count with their size."""
    audit_bytes: int = 0
    size: int = 0
    """Bytes of the index on the disk."""
    damaged: int = 0
    """Lines that are not audit lines, and compressed files that end within one, since the start."""
    problem: str = ""
    """Why the index is not written."""


class IndexWriter:
    """Indexes what was appended to the audit, in ``step``. One thread uses it."""

    def __init__(
        self, folder: Path, audit: Path, max_bytes: int, segment_lines: int = SEGMENT_LINES
    ) -> None:
        self.state = IndexState()
        self._folder = folder
        self._files = AuditFiles(audit)
        self._chunks = ChunkReader()
        self._max_bytes = max_bytes
        self._segment_lines = segment_lines
        self._segment: SegmentWriter | None = None
        self._older_lines = 0

    def step(self) -> bool:
        """Index the next lines; return False where there are none.

        A damaged index is removed, and built again by the next steps. Raises ``OSError``.
        """
        try:
            return self._step()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                # Such as a full disk; what is there is whole.
                self.close()
                raise OSError(str(error)) from None
            self.remove()
            return True

    def _step(self) -> bool:
        segment = self._segment or self._open()
        files = self._files.scan()
        behind = [(file, self._position(segment, file)) for file in files]
        self.state.audit_bytes = sum(file.size for file in files)
        if any(not file.is_compressed and file.size < position for file, position in behind):
            # Cut or replaced by an older copy: other lines may be where the indexed ones were.
            self.remove()
            return True
        for file, position in behind:
            if self._is_read(segment, file):
                continue
            try:
                content = self._read(file, position)
            except FileNotFoundError:
                return True  # it was renamed after the scan
            if not content:
                if file.is_compressed:
                    segment.add(file, [], position, is_end=True)
                    self._chunks.close()
                continue
            lines = list(self._parsed(content, position))
            segment.add(file, lines, position + len(content))
            if segment.count >= self._segment_lines:
                self._segment = segment = self._next(segment)
            self._measure(segment, files)
            return True
        # One that was removed before its end would stay open, and on the disk.
        self._chunks.close()
        self._measure(segment, files)
        return False

    def _read(self, file: AuditFile, position: int) -> bytes:
        try:
            return self._chunks.read(file, position)
        except DamagedFileError:
            self.state.damaged += 1
            return b""

    def _parsed(self, content: bytes, position: int) -> Iterator[ParsedLine]:
        for raw in content.split(b"\n")[:-1]:
            line = parse(raw)
            if line is not None:
                yield ParsedLine(line, position, len(raw))
            elif raw.strip(b" "):
                self.state.damaged += 1
            position += len(raw) + 1

    def _position(self, segment: SegmentWriter, file: AuditFile) -> int:
        progress = segment.files.get(file.head)
        return 0 if progress is None else progress.position

    def _is_read(self, segment: SegmentWriter, file: AuditFile) -> bool:
        progress = segment.files.get(file.head)
        if progress is None:
            return False
        if file.is_compressed:
            return progress.complete == file.version
        return progress.position >= file.size

    def _measure(self, segment: SegmentWriter, files: list[AuditFile]) -> None:
        state = self.state
        state.lines = self._older_lines + segment.count
        state.behind_bytes = sum(
            file.size if file.is_compressed else file.size - self._position(segment, file)
            for file in files
            if not self._is_read(segment, file)
        )
        state.size = sum(_size(path) for path in segments(self._folder))
        state.problem = self._files.problem

    def _open(self) -> SegmentWriter:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = segments(self._folder)
        counts = {path: _lines_in(path) for path in found}
        # A segment without its tables was being created when the process ended.
        while found and counts[found[-1]] is None:
            _remove(found.pop())
        if any(counts[path] is None for path in found):
            self.remove()
            found = []
        path = found[-1] if found else self._folder / "000001.db"
        self._segment = SegmentWriter(path, {}, 1)
        self._older_lines = sum(counts[one] or 0 for one in found[:-1])
        return self._segment

    def _next(self, segment: SegmentWriter) -> SegmentWriter:
        """Begin a new segment, and remove the oldest ones while the index is too large."""
        segment.finish()
        self._older_lines += segment.count
        number = int(segment.path.stem) + 1
        path = self._folder / f"{number:06d}.db"
        following = SegmentWriter(path, segment.files, segment.next_id)
        segment.close()
        found = segments(self._folder)
        total = sum(_size(one) for one in found)
        while total > self._max_bytes and len(found) > 2:  # noqa: PLR2004 - the newest two stay
            oldest = found.pop(0)
            total -= _size(oldest)
            self._older_lines -= _lines_in(oldest) or 0
            _remove(oldest)
        return following

    def remove(self) -> None:
        """Remove the whole index."""
        self.close()
        # The newest one first, as it has the positions: what is left after a kill has no gap.
        for path in reversed(segments(self._folder)):
            _remove(path)

    def close(self) -> None:
        """Close the newest segment."""
        self._chunks.close()
        if self._segment is not None:
            self._segment.close()
            self._segment = None


def segments(folder: Path) -> list[Path]:
    """Return the segments of an index, the oldest first."""
    return sorted(folder.glob("[0-9]*.db"))


def _lines_in(path: Path) -> int | None:
    """Return the number of lines in a segment; ``None`` if it cannot be used."""
    try:
        base = sqlite3.connect(path)
        try:
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                return None
            (first,) = base.execute("SELECT id FROM first").fetchone()
            (last,) = base.execute("SELECT max(id) FROM line").fetchone()
            return 0 if last is None else last - first + 1
        finally:
            base.close()
    except (sqlite3.Error, TypeError):
        return None


def _size(path: Path) -> int:
    total = 0
    for suffix in SUFFIXES:
        try:
            total += Path(f"{path}{suffix}").stat().st_size
        except OSError:
            continue
    return total


def _remove(path: Path) -> None:
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
