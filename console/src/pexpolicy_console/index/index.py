"""The index of a running console: a thread that writes it, and one that searches it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from pexpolicy.audit.redaction import Personal
from pexpolicy.cli.for_console import Database, DatabaseUnavailable
from pexpolicy.config.files import open_own
from pexpolicy_console.index.lines import TenantOf
from pexpolicy_console.index.reader import LIMIT_S, IndexReader, took_too_long
from pexpolicy_console.index.writer import IndexState, IndexWriter

POLL_INTERVAL_S = 0.25
RETRY_INTERVAL_S = 5.0

Result = TypeVar("Result")


class Index:
    """Indexes the audit while it is open. ``audit`` is ``None`` without an audit file."""

    def __init__(
        self,
        folder: Path,
        audit: Path | None,
        personal: Personal | None = None,
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
            self._writer = IndexWriter(folder, audit, database=mine[0], tenant_of=tenant_of)
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
        lock: IO[bytes] | None = None
        while not self._stop.is_set():
            try:
                lock = lock or _locked(self._folder)
                if not writer.step():
                    self._stop.wait(POLL_INTERVAL_S)
            except OSError as error:
                writer.state.problem = f"the index cannot be written: {error}"
                self._stop.wait(RETRY_INTERVAL_S)
        writer.close()
        if lock is not None:
            lock.close()

    async def ask(
        self, search: Callable[..., Result], *arguments: Any
    ) -> tuple[Result, str] | tuple[None, str]:
        """Return what a search finds, in a thread; ``None`` and why if that is not possible."""
        if self._reader is None:
            text = "the audit goes to standard output: write [audit] path in the configuration"
            return None, text
        work = partial(search, self._reader, *arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._searches, work), ""
        except DatabaseUnavailable as error:
            return None, str(error)
        except sqlite3.Error as error:
            if took_too_long(error):
                text = f"the search took more than {LIMIT_S:g} s: add a period or a whole alias"
                return None, text
            return None, f"the index cannot be read: {error}"


def _locked(folder: Path) -> IO[bytes]:
    """Return a file whose lock makes this the only process that writes the index of a folder until
    it ends, if only by a kill; raise ``OSError``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.fdopen(open_own(folder / "lock", os.O_WRONLY | os.O_CREAT), "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        msg = "another console with this folder writes it, and searches here find its lines"
        raise OSError(msg) from None
    return file
