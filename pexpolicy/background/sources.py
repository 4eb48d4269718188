"""Sources: what several plugins share, such as a connection pool, opened once for all of them."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_origin

from pydantic import ValidationInfo
from pydantic_core import CoreSchema, core_schema

from pexpolicy.background.lifespan import Lifespan
from pexpolicy.background.refreshed import Refreshed, own_paths
from pexpolicy.background.schedule import (
    IMPORT,
    JobHistory,
    ScheduledJob,
    collecting_declarations,
    declared_by,
)
from pexpolicy.background.shared import shared_state
from pexpolicy.background.shared_state import SharedState
from pexpolicy.config.files import (
    Look,
    NamedPath,
    kept_copies,
    known_at,
    stat_files,
    track_secret,
    tracking,
)
from pexpolicy.config.problems import PluginBuildError, Problem
from pexpolicy.config.schema.plugins import SourceTable
from pexpolicy.config.secrets import revealed
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.context import hook_context
from pexpolicy.text import suggest

GROUP = "pexpolicy.sources"
"""The group of entry points that name drivers."""

T = TypeVar("T")


def digest_of(value: object) -> bytes:
    """Return the hash of a value of the configuration; its keys are in the order of the file."""
    return hashlib.blake2b(repr(value).encode("utf-8", "replace"), digest_size=16).digest()


class _SourceType:
    """The validator of ``Source[T]``; the context of the validation has the ``SourceLease``."""

    def __get_pydantic_core_schema__(self, expected: Any, _: object) -> CoreSchema:
        origin = get_origin(expected)
        is_whole = origin is None or origin in (Union, UnionType)
        kind = object if expected is Any else expected if is_whole else origin
        isinstance(None, kind)  # a protocol that cannot be checked raises TypeError here

        def driver(value: object, info: ValidationInfo) -> object:
            return driver_of(value, kind, (info.context or {}).get("sources"))

        return core_schema.with_info_plain_validator_function(driver)


Source = Annotated[T, _SourceType()]
"""A setting that names a table ``[sources.NAME]``; its value is the driver of that source.

``T`` is the class of the driver, or a base of it. The driver is open while the plugin is.
"""


def driver_of(value: object, expected: type, lease: SourceLease | None) -> Any:
    """Return the driver that a setting names; tests may pass a driver itself.

    Raises ``ValueError``.
    """
    if not isinstance(value, str):
        if isinstance(value, expected) and not isinstance(value, dict | list | int | float):
            return value
        raise ValueError("write the NAME of a table [sources.NAME]")
    if lease is None:
        raise ValueError('sources are for plugins of the server process: isolation = "none"')
    shared = lease.source(value)
    if isinstance(shared.driver, expected):
        return shared.driver
    wanted = getattr(expected, "__name__", expected)
    has = f"has the driver {shared.driver_name}, a {type(shared.driver).__name__}"
    raise ValueError(f"[sources.{value}] {has}; name a source that is a {wanted}")


@dataclass(eq=False)
class SharedSource:
    """A driver, and the number of policies that use it."""

    name: str
    driver_name: str
    digest: bytes
    """The hash of its class and table."""
    driver: Any
    versions: Look
    """The files that it was built from."""
    refreshed: tuple[Refreshed[Any], ...]
    jobs: tuple[ScheduledJob, ...]
    secrets: tuple[Path | str, ...]
    """Files and environment variables with its secrets."""
    root: Path | None = None
    """The folder of the paths in its table, if it has any: another one with each bundle."""
    paths: tuple[NamedPath, ...] = ()
    is_of_copies: bool = False
    """Whether it was built from copies, which the files themselves may differ from."""
    users: int = 1
    lifespan: Lifespan | None = None
    """Set once it was opened."""

    @property
    def is_usable(self) -> bool:
        """False once it has ended by a failure, or one of its files has changed."""
        ended = self.lifespan is not None and self.lifespan.has_ended
        return not (ended or self.is_of_copies) and stat_files(self.versions) == self.versions


class SharedResources:
    """What the policies of one process share: sources, shared state, and the history of jobs.

    A policy is built in a thread while others are closed, so its methods may be called in any
    thread.
    """

    def __init__(self) -> None:
        self.history = JobHistory()
        self._lock = threading.Lock()
        self._shared: dict[str, SharedSource] = {}
        self.state: SharedState | None = None
        """The state that they share with other processes, while one of them serves."""

    @asynccontextmanager
    async def shared_state(
        self, settings: Settings, log: Log | None, *, in_server: bool
    ) -> AsyncIterator[SharedState]:
        """Yield the shared state, that of the first policy; ``[shared]`` needs a restart, except
        the content of its ``password_file``.
        """
        state = self.state = self.state or shared_state(settings, log, is_dry=not in_server)
        state.password = revealed(settings.shared_password)
        state.users += 1
        try:
            yield state
        finally:
            state.users -= 1
            if not state.users:
                self.state = None
                await state.close()

    def acquire(self, name: str, digest: bytes, root: Path) -> SharedSource | None:
        """Return the source of the same table and files for another user, if there is one."""
        with self._lock:
            shared = self._shared.get(name)
            if shared is None or shared.digest != digest or not shared.is_usable:
                return None
            if shared.root not in (None, root):
                return None
            shared.users += 1
            return shared

    def add(self, shared: SharedSource) -> None:
        """Add a source with one user."""
        with self._lock:
            self._shared[shared.name] = shared

    def release(self, shared: SharedSource) -> bool:
        """Remove a user; return whether it was the last one."""
        with self._lock:
            shared.users -= 1
            if not shared.users and self._shared.get(shared.name) is shared:
                del self._shared[shared.name]
            return not shared.users


class SourceLease:
    """The sources that one policy uses, in the order in which settings name them.

    ``problems`` are those of their tables, ``unused`` the tables that no plugin names.
    """

    def __init__(
        self,
        shared: SharedResources,
        tables: Mapping[str, SourceTable],
        root: Path,
        make: Callable[[str, type, Mapping[str, Any], Mapping[str, Any]], Any],
        *,
        is_complete: bool = True,
    ) -> None:
        """``make`` builds a driver from its class and table, with a context for the validators of
        its settings. ``is_complete``: no table was left out because of its errors.
        """
        self._resources = shared
        self._is_complete = is_complete
        self.problems: list[Problem] = []
        self.unused: tuple[str, ...] = ()
        self._tables: dict[str, SourceTable | None] = {**tables}
        """Those that are not released; ``None`` for one with an error."""
        self._root = root
        self._make = make
        self._used: dict[str, SharedSource] = {}

    @contextmanager
    def resolving(self) -> Iterator[None]:
        """Build each source that a setting names inside, then check the other tables.

        The tables are released at the end.
        """
        try:
            yield
            used = set(self._used)
            for name in self._tables:
                self._resolve(name)
            self.unused = tuple(name for name in self._used if name not in used)
            self.release(self.unused)
        except BaseException:
            self.release()
            raise
        finally:
            self._tables = {}

    @property
    def files(self) -> list[Path]:
        """The files that the sources were built from."""
        return [file for shared in self for file in shared.versions]

    def __iter__(self) -> Iterator[SharedSource]:
        return iter([*self._used.values()])  # threads read it, too

    def source(self, name: str) -> SharedSource:
        """Return a source, which is built when the first setting names it.

        Raises ``ValueError``.
        """
        if name not in self._tables and self._is_complete:
            raise ValueError(f"there is no table [sources.{name}]{suggest(name, self._tables)}")
        self._resolve(name)
        if name not in self._used:
            raise ValueError(f"the table [sources.{name}] has an error")
        return self._used[name]

    def _resolve(self, name: str) -> None:
        """Build a source that was not built yet, unless its table has an error."""
        table = None if name in self._used else self._tables.get(name)
        try:
            if table is not None:
                self._used[name] = self._acquire(name, table)
        except PluginBuildError as error:
            self._tables[name] = None
            self.problems += error.under(("sources", name))

    def _acquire(self, name: str, table: SourceTable) -> SharedSource:
        driver_class = _driver_class(name, table.driver)
        # The class is another one after its module was changed.
        digest = digest_of([id(driver_class), table.settings])
        if (known := self._resources.acquire(name, digest, self._root)) is not None:
            for place in known.secrets:
                track_secret(place)
            return known
        read_at = time.time()
        with (
            tracking() as tracked,
            collecting_declarations() as declared,
            hook_context(f"sources.{name}", "__init__"),
        ):
            paths: list[NamedPath] = []
            context = {"root": self._root, "paths": paths}
            driver = self._make(table.driver, driver_class, table.settings, context)
        refreshed = declared_by(driver, declared, Refreshed)
        named = (*tracked.files, *(one.path for one in paths))
        made = SharedSource(
            name,
            table.driver,
            digest,
            driver,
            known_at(stat_files(tracked.files), read_at),
            refreshed,
            declared_by(driver, declared, ScheduledJob),
            tuple(tracked.secrets),
            self._root if any(one.is_relative_to(self._root) for one in named) else None,
            own_paths(("sources", name), paths, refreshed),
            is_of_copies=kept_copies() is not None,
        )
        self._resources.add(made)
        return made

    async def open(self, log: Log | None, *, in_server: bool) -> None:
        """Open the sources that are not open yet; raises ``PluginBuildError``."""
        history = self._resources.history if in_server else None
        state = self._resources.state
        for shared in self:
            if shared.lifespan is not None:
                continue
            owner, driver = f"sources.{shared.name}", shared.driver
            shared.lifespan = Lifespan(
                owner, driver, log, shared.refreshed, shared.jobs, history=history, state=state
            )
            try:
                await shared.lifespan.open()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                text = f"cannot be opened: {describe_error(error).summary}"
                raise PluginBuildError(text, key=("sources", shared.name)) from error

    async def close(self) -> None:
        """Close the sources that no other policy uses."""
        for lifespan in self._take(self._used):
            await lifespan.close()

    def release(self, names: Iterable[str] | None = None) -> None:
        """Release sources, by default those of a policy that never served."""
        for lifespan in self._take(self._used if names is None else names):
            lifespan.close_soon()

    def _take(self, names: Iterable[str]) -> list[Lifespan]:
        """Forget sources; return the lifespans to close, the one opened last first."""
        taken = [self._used.pop(name) for name in reversed(list(names))]
        last = [shared.lifespan for shared in taken if self._resources.release(shared)]
        return [*filter(None, last)]


def _driver_class(name: str, driver: str) -> type:
    """Import a driver; raises ``PluginBuildError``."""
    available = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    if driver not in available:
        known = suggest(driver, sorted(available))
        raise PluginBuildError(f"no driver {driver} is installed{known}", key="driver")
    try:
        with hook_context(f"sources.{name}", IMPORT):
            driver_class = available[driver].load()
        if isinstance(driver_class, type) and hasattr(driver_class, "__aenter__"):
            return driver_class
        text = f"{driver}: {available[driver].value} is not an asynchronous context manager class"
    except BaseException as error:  # noqa: BLE001 - importing runs whatever the package holds
        text = f"{driver} cannot be imported: {describe_error(error).summary}"
    raise PluginBuildError(text, key="driver")
