"""The audit file of a server under test, counted in lines."""

from pathlib import Path

_CHUNK = 1 << 20


class AuditFile:
    """Counts the lines that come in from now on; ``path`` None stands for a server without one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = path.stat().st_size if path else 0

    @property
    def present(self) -> bool:
        """Whether there is a file to count in."""
        return self._path is not None

    def grown(self) -> int:
        """Lines ended since the last time, or since this object was made; 0 without a file."""
        if not self._path:
            return 0
        with self._path.open("rb") as file:
            file.seek(self._seen)
            lines = sum(part.count(b"\n") for part in iter(lambda: file.read(_CHUNK), b""))
            self._seen = file.tell()
        return lines
