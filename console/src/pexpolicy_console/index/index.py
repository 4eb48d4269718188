"""The index of a running console: a thread that writes it, and one that searches it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from pexpolicy.audit.redaction import Personal
from pexpolicy.cli.for_console import Database, DatabaseUnavailable
from pexpolicy.config.files import open_own
from pexpolicy_console.index.lines import TenantOf
from pexpolicy_console.index.reader import LIMIT_S, IndexReader, took_too_long
from pexpolicy_console.index.writer import IndexState, IndexWriter

POLL_INTERVAL_S = 0.25
RETRY_INTERVAL_S = 5.0
MAX_BYTES = 4 << 30
"""Size of the index, from which on the oldest lines are removed from it."""

Result = TypeVar("Result")


class IndexUnavailable(Exception):
    """The index cannot be searched; the message says why."""


class Index:
    """Indexes the audit while it is open. ``audit`` is ``None`` without an audit file."""

    def __init__(
        self,
        folder: Path,
        audit: Path | None,
        personal: Personal | None = None,
        max_bytes: int = MAX_BYTES,
        database: Callable[[], Database] | None = None,
        tenant_of: TenantOf | None = None,
    ) -> None:
        """``database`` makes a connection to that with the lines of all servers."""
        self._folder = folder
        self._stop = threading.Event()
        self._searches = ThreadPoolExecutor(1, thread_name_prefix="index-search")
        self._thread: threading.Thread | None = None
        self._writer: IndexWriter | None = None
        self._reader: IndexReader | None = None
        if audit is not None:
            mine = [None, None] if database is None else [database(), database()]
            self._writer = IndexWriter(
                folder, audit, max_bytes, database=mine[0], tenant_of=tenant_of
            )
            self._reader = IndexReader(folder, audit, personal, database=mine[1])

    @property
    def state(self) -> IndexState:
        """How far the index is."""
        return self._writer.state if self._writer is not None else IndexState()

    def open(self) -> None:
        """Start to follow the audit."""
        if self._writer is not None:
            self._thread = threading.Thread(target=self._follow, args=(self._writer,), name="index")
            self._thread.start()

    def close(self) -> None:
        """Stop; what is indexed stays."""
        self._stop.set()
        self._searches.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            self._thread.join()

    def _follow(self, writer: IndexWriter) -> None:
        with ExitStack() as stack:
            is_locked = False
            while not self._stop.is_set():
                try:
                    if not is_locked:
                        stack.enter_context(_locked(self._folder))
                        is_locked = True
                    waits = 0.0 if writer.step() else POLL_INTERVAL_S
                except OSError as error:
                    writer.state.problem = f"the index cannot be written: {error}"
                    waits = RETRY_INTERVAL_S
                if waits:
                    self._stop.wait(waits)
            writer.close()

    async def ask(self, search: Callable[[IndexReader], Result]) -> Result:
        """Return what a search finds, in a thread; raise ``IndexUnavailable``."""
        if self._reader is None:
            msg = "the audit goes to standard output: write [audit] path in the configuration"
            raise IndexUnavailable(msg)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._searches, search, self._reader)
        except DatabaseUnavailable as error:
            raise IndexUnavailable(str(error)) from None
        except sqlite3.Error as error:
            msg = f"the index cannot be read: {error}"
            if took_too_long(error):
                msg = f"the search took more than {LIMIT_S:g} s: add a period or a whole alias"
            raise IndexUnavailable(msg) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only one that writes the index of a folder meanwhile; raise ``OSError``.

    The lock of a process that is killed ends with it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(open_own(folder / "lock", os.O_WRONLY | os.O_CREAT), "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = "another console with this folder writes it, and searches here find its lines"
            raise OSError(msg) from None
        yield
