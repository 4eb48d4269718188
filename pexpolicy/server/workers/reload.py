"""Reload of all workers by a two-phase commit, and all messages between supervisor and workers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from pexpolicy.child import UNLIMITED, Channel, ChildError
from pexpolicy.config.files import read_file
from pexpolicy.config.settings import ConfigError
from pexpolicy.observability.snapshot import Snapshot
from pexpolicy.server.generations import GenerationRunner
from pexpolicy.server.reload import Reloader
from pexpolicy.server.reload_triggers import ReloadResult


class Prepare(msgspec.Struct, tag=True, frozen=True):
    """To a worker: build and open the generation of this content of the configuration file."""

    content: bytes


class Commit(msgspec.Struct, tag=True, frozen=True):
    """To a worker: activate the prepared generation."""


class Abandon(msgspec.Struct, tag=True, frozen=True):
    """To a worker: close the prepared generation."""


class Refresh(msgspec.Struct, tag=True, frozen=True):
    """To a worker: report the metrics now."""


class Merged(msgspec.Struct, tag=True, frozen=True):
    """To a worker that is scraped: the metrics of all workers."""

    snapshot: Snapshot


class Alive(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its event loop is running, and what it has counted."""

    snapshot: Snapshot | None = None
    is_refreshed: bool = False
    """True for the report that ``Refresh`` asked for."""


class Scrape(msgspec.Struct, tag=True, frozen=True):
    """From a worker that is scraped: what it has counted. ``Merged`` is the answer."""

    snapshot: Snapshot


class Serving(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it answers calls. ``files`` are those of its configuration."""

    announcement: str
    config_hash: str
    files: tuple[str, ...]


class Prepared(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the generation is open and not active yet."""

    config_hash: str


class Refused(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the configuration cannot be used."""

    problems: tuple[str, ...]
    temporary: bool = False
    """True if a lifespan failed, so another attempt may succeed."""
    files: tuple[str, ...] = ()
    """The files that were read."""


class Committed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the prepared generation is active."""

    result: ReloadResult


ReloadOrder = Prepare | Commit | Abandon
Order = ReloadOrder | Refresh | Merged
Report = Alive | Scrape | Serving | Prepared | Refused | Committed

ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
REPORTS: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


class WorkerConnection(Channel[Report]):
    """The supervisor's end of the socket to one worker.

    ``handle`` is called with each report. ``config_hash`` is that of the active configuration of
    the worker, empty before it answers calls.
    """

    def __init__(self, end: socket.socket, handle: Callable[[Report], None]) -> None:
        super().__init__("a worker", end, REPORTS.decode)
        self.limit = UNLIMITED
        self.config_hash = ""
        self._handle = handle

    async def listen(self) -> None:
        """Read the reports of the worker until it ends."""
        ended = asyncio.Event()
        self.on_end = ended.set
        await self.attach()
        await ended.wait()
        self.config_hash = ""

    def on_message(self, message: Report) -> None:
        """Pass on a report; it may be the answer to an order."""
        if isinstance(message, Serving):
            self.config_hash = message.config_hash
        elif isinstance(message, Committed):
            self.config_hash = message.result.config_hash
        self._handle(message)
        if not isinstance(message, Alive | Scrape | Serving):
            self.answer(message)


class Participant(Protocol):
    """A worker that can prepare, commit and abandon a configuration."""

    async def ask(self, message: Order) -> Report:
        """Send an order and return its report; raise ``ConnectionResetError`` if it has ended."""

    def send(self, message: Order) -> None:
        """Send an order that has no report."""


class ServingWorker(Participant, Protocol):
    """A worker that answers calls from the configuration with this hash."""

    config_hash: str


P = TypeVar("P", bound=Participant)
ENDED = (ConnectionResetError, ChildError)
"""Raised for a worker that has ended."""


class ReloadCoordinator:
    """Reloads all workers; ``workers`` returns those that answer calls.

    ``content`` is that of the configuration file when the active configuration was read: a worker
    that replaces another one starts with it. Set ``active_hash`` and ``files`` when the first
    worker answers calls.
    """

    def __init__(
        self, config: Path, content: bytes, workers: Callable[[], Collection[ServingWorker]]
    ) -> None:
        self._config = config
        self._workers = workers
        self.content = content
        self.active_hash = ""
        self.files: tuple[str, ...] = ()

    async def reload(self) -> ReloadResult:
        """Reload all workers from the present file.

        Reload again for a worker that has started meanwhile with the previous configuration.
        """
        result = await self._reload()
        while result.done and any(w.config_hash != self.active_hash for w in self._workers()):
            result = await self._reload()
        return result

    async def _reload(self) -> ReloadResult:
        try:
            content = read_file(self._config)
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            return ReloadResult(self.active_hash, problems=(problem,), files=self.files)
        result = await reload_all(self._workers(), content, self.active_hash)
        if result.done:
            self.content, self.active_hash = content, result.config_hash
            self.files = result.files
        else:
            self.files = tuple(dict.fromkeys((*self.files, *result.files)))
        return replace(result, files=self.files)


async def reload_all(
    workers: Collection[Participant], content: bytes, active_hash: str
) -> ReloadResult:
    """Reload all workers to the content of the configuration file, or none.

    A worker that ends meanwhile is ignored. ``active_hash`` is that of the configuration that stays
    active if a worker refuses the new one.
    """
    reports = await _ask_all(workers, Prepare(content))
    prepared = [worker for worker, report in reports if isinstance(report, Prepared)]
    refusals = [report for _, report in reports if isinstance(report, Refused)]
    hashes = {report.config_hash for _, report in reports if isinstance(report, Prepared)}
    problems: list[str] = []
    if refusals:
        problems = [problem for refusal in refusals for problem in refusal.problems]
    elif not prepared:
        problems = ["no worker is running"]
    elif len(hashes) > 1:
        problems = ["a file changed while the workers read it"]
    if not problems:
        for _, report in await _ask_all(prepared, Commit()):
            if isinstance(report, Committed):
                return report.result
        problems = ["all workers ended during the reload"]
    else:
        for worker in prepared:
            worker.send(Abandon())
    files = (file for refusal in refusals for file in refusal.files)
    return ReloadResult(
        active_hash,
        problems=tuple(dict.fromkeys(problems)),
        files=tuple(dict.fromkeys(files)),
    )


async def _ask_all(workers: Collection[P], order: Order) -> list[tuple[P, Report]]:
    """Send an order to all workers and return the reports of those that have not ended."""
    reports = await asyncio.gather(*(w.ask(order) for w in workers), return_exceptions=True)
    for report in reports:
        if isinstance(report, BaseException) and not isinstance(report, ENDED):
            raise report
    pairs = zip(workers, reports, strict=True)
    return [(worker, report) for worker, report in pairs if not isinstance(report, BaseException)]


class SupervisorConnection(Channel[Order]):
    """A worker's end of the socket to the supervisor."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__("the supervisor", end, ORDERS.decode)
        self.limit = UNLIMITED
        self.reloads: asyncio.Queue[ReloadOrder] = asyncio.Queue()
        self.on_metrics: Callable[[Refresh | Merged], None] = lambda _: None

    def on_message(self, message: Order) -> None:
        """Queue what concerns a reload, which takes time; metrics do not wait for it."""
        if isinstance(message, Refresh | Merged):
            self.on_metrics(message)
        else:
            self.reloads.put_nowait(message)


class ReloadParticipant:
    """The worker's side of a reload: executes the orders of the supervisor."""

    def __init__(self, reloader: Reloader, supervisor: SupervisorConnection) -> None:
        self._reloader = reloader
        self._supervisor = supervisor
        self._prepared: GenerationRunner | None = None

    async def run(self) -> None:
        """Execute the orders one by one."""
        while True:
            match await self._supervisor.reloads.get():
                case Prepare(content):
                    self._supervisor.send(await self._prepare(content))
                case Commit():
                    self._supervisor.send(self._commit())
                case Abandon():
                    await self._abandon()

    async def _prepare(self, content: bytes) -> Report:
        await self._abandon()
        try:
            self._prepared = await self._reloader.prepare(content)
        except ConfigError as error:
            result = self._reloader.refuse(error)
            return Refused(result.problems, files=result.files)
        return Prepared(self._prepared.generation.policy.config_hash)

    def _commit(self) -> Report:
        if self._prepared is None:
            return Refused(("nothing is prepared",))
        prepared, self._prepared = self._prepared, None
        return Committed(self._reloader.commit(prepared))

    async def _abandon(self) -> None:
        if self._prepared is not None:
            prepared, self._prepared = self._prepared, None
            await self._reloader.abandon(prepared)
