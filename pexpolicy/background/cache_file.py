"""Cache file: the last value of refreshed data on disk, for the next start."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from pexpolicy.config.file_tracking import read_file

T = TypeVar("T")
MODE = 0o600
STALE_S = 60.0
"""Age from which on an unfinished file is one that a killed process has left."""


class CacheFileError(Exception):
    """A cache file cannot be used; the text has the reason."""


class _Header(msgspec.Struct):
    """The first line of a cache file; the value follows as JSON."""

    key: str
    fetched_at: float
    """Seconds since the epoch."""
    sha256: str


class CacheFile(Generic[T]):
    """A file that holds one value as JSON, readable by its owner only.

    ``kind`` is the type of the value, as pydantic reads and writes it: ``dict[str, int]``, a
    model, a dataclass. Raises ``TypeError`` for one that pydantic does not know. The file is
    replaced in one step, and its folder must exist.
    """

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path = Path(path)
        self._is_first = True
        try:
            self._values: TypeAdapter[T] = TypeAdapter(kind)
        except PydanticSchemaGenerationError:
            msg = (
                f"a CacheFile cannot hold {kind!r}: write a type that pydantic knows, such as "
                "dict[str, int], a dataclass or a model"
            )
            raise TypeError(msg) from None

    def load(self, key: str) -> tuple[T, float] | None:
        """Return the value and when it was fetched; ``None`` for no file, or one of another key.

        Raises ``CacheFileError`` for a file that cannot be read or is damaged.
        """
        try:
            head, _, content = read_file(self.path).partition(b"\n")
            header = msgspec.json.decode(head, type=_Header)
            if header.sha256 != hashlib.sha256(content).hexdigest():
                raise CacheFileError(f"{self.path} is damaged")
            if header.key != _digest(key):
                return None
            return self._values.validate_json(content, strict=True), header.fetched_at
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheFileError(f"{self.path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            # Neither msgspec nor pydantic may be quoted: they repeat the value.
            raise CacheFileError(f"{self.path} is damaged, or of another type") from None

    def save(self, value: T, key: str, fetched_at: float) -> None:
        """Replace the file. Raises ``OSError``, and ``CacheFileError`` for another type."""
        try:
            content = self._values.dump_json(value, warnings="error")
        except ValueError:
            raise CacheFileError(f"the value for {self.path} is of another type") from None
        header = _Header(_digest(key), fetched_at, hashlib.sha256(content).hexdigest())
        if self._is_first:
            self._is_first = False
            self._remove_unfinished()
        new = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            # A torn file after a power failure is detected by its hash, so nothing is synced.
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines((msgspec.json.encode(header), b"\n", content))
            new.replace(self.path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def _remove_unfinished(self) -> None:
        """Remove what killed processes have left: it may hold passwords."""
        before = time.time() - STALE_S
        for path in self.path.parent.glob(f".{escape(self.path.name)}.{'[0-9a-f]' * 8}"):
            with suppress(OSError):
                if path.lstat().st_mtime < before:
                    path.unlink()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
