"""Pictures in a folder, found by name in the listing of the folder."""

from __future__ import annotations

import asyncio
import os
import stat
import time
import unicodedata
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from pexpolicy import Alias, get_logger
from pexpolicy_avatars.source import MAX_BYTES, PictureError
from pexpolicy_avatars.template import Template

THREADS = 2
SETTLED_NS = 2_000_000_000
"""A folder that changed more recently than this before it was listed is listed again: a later
change may have the same timestamp.
"""
log = get_logger(__name__)


class Listing(NamedTuple):
    """The names of the files in a folder, by their normal form."""

    names: Mapping[str, str]
    changed_ns: int
    is_settled: bool


class Folder:
    """Reads pictures. An alias selects one of the names that the folder has; no path is made of it.

    Links that lead out of the folder are not followed.
    """

    name = "folder"

    def __init__(self, folder: Path, files: Sequence[Template]) -> None:
        self._folder = folder
        self._files = tuple(files)
        self._lock = Lock()
        self._listing = Listing({}, -1, is_settled=False)
        self._threads: ThreadPoolExecutor

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Start the threads that read."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="avatars-folder")
        try:
            if not await asyncio.get_running_loop().run_in_executor(
                self._threads, self._folder.is_dir
            ):
                log.warning("there is no folder of pictures yet", folder=str(self._folder))
            yield
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the picture of an alias, ``None`` without one; raises ``PictureError``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.read, alias)

    def read(self, alias: Alias) -> bytes | None:
        """Read the picture of an alias; otherwise like ``fetch``, and blocks."""
        try:
            name = find(self._names(), self._files, alias)
            return None if name is None else _content(self._folder, name)
        except OSError as error:
            raise PictureError(f"{self._folder} cannot be read: {error.strerror}") from None

    def _names(self) -> Mapping[str, str]:
        with self._lock:
            changed = self._folder.stat().st_mtime_ns
            if changed != self._listing.changed_ns or not self._listing.is_settled:
                is_settled = time.time_ns() - changed > SETTLED_NS
                names = by_normal_form(os.listdir(self._folder))  # noqa: PTH208 - names, not paths
                self._listing = Listing(names, changed, is_settled)
            return self._listing.names


def by_normal_form(names: Iterable[str]) -> Mapping[str, str]:
    """Return file names by their normal form, without hidden files."""
    return {_normal(name): name for name in sorted(names) if not name.startswith(".")}


def find(names: Mapping[str, str], files: Iterable[Template], alias: Alias) -> str | None:
    """Return the name of the file that the first template leads to, ``None`` if there is none."""
    for template in files:
        name = template.fill(alias)
        if name is not None and (found := names.get(_normal(name))) is not None:
            return found
    return None


def _normal(name: str) -> str:
    """Return a name in lower case; macOS stores accents as characters of their own."""
    return unicodedata.normalize("NFC", name.lower())


def _content(folder: Path, name: str) -> bytes | None:
    """Return the content of a file in a folder, ``None`` if it is gone.

    No error names the file, which has the name of a person.
    """
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))  # noqa: PTH118 - Path has no realpath
    if os.path.commonpath((root, path)) != root:
        raise PictureError("the file is a link that leads out of the folder")
    try:
        # Opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PictureError("it is not a regular file")
        if status.st_size > MAX_BYTES:
            text = f"the file has {status.st_size:,} bytes, and {MAX_BYTES:,} are the limit"
            raise PictureError(text)
        return file.read(MAX_BYTES)
