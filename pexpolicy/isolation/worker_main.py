"""Worker process: it builds one plugin and answers the server's requests.

Started as ``python -m pexpolicy.isolation.worker_main CONNECTION PIPE`` with two
descriptors: the socket to the server, and a pipe that closes when the server ends. Plain ``def``
hooks run in a thread here too, so they may run event loops of their own and do not block tasks of
the plugin's lifespan; the server kills the whole process when they are late. The plugin's output
goes to the server's standard error.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pickle
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import cast

from pexpolicy.background.declarations import entered
from pexpolicy.chain.adjusters import check_answer
from pexpolicy.chain.fold import Draft
from pexpolicy.config.problems import ConfigWarning, Key, PluginBuildError, Problem
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import ErrorReport, describe_error
from pexpolicy.isolation import messages, process_limits
from pexpolicy.isolation.frames import FrameDecoder, framed
from pexpolicy.isolation.metrics_updates import MetricsSender
from pexpolicy.log.capture import LogHandler, LogLevels, capturing, level_number
from pexpolicy.log.console import ServerLog
from pexpolicy.metrics import PLUGIN_METRICS
from pexpolicy.models.annotations import Annotations
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.hook_context import HOOK_CONTEXT
from pexpolicy.models.request import Request
from pexpolicy.plugins.binding import bind_adjuster, bind_hook, bind_observer, report_of
from pexpolicy.plugins.plugin import (
    BuiltPlugin,
    build,
    plugin_warnings,
    tracked_files,
)

ROUTES_TEXT = 'its routes need isolation = "none": the listener is in the server process'
BACKGROUND_TEXT = (
    'uses Refreshed or schedule, which isolation = "process" does not support: remove one of the '
    "two"
)


def main() -> int:
    """Build the plugin, and serve until the server ends the connection."""
    # Signals that a terminal or a service sends to the whole group are for the server.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # A core dump would hold PINs.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection, pipe = (int(number) for number in sys.argv[1:])
    _exit_with_parent(pipe)
    server = socket.socket(fileno=connection)
    for descriptor in (connection, pipe):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - its own signature
    log = ServerLog()
    PLUGIN_METRICS.keep_changes()
    with capturing(log) as handler, log.output.background():
        report, plugin = _build(_receive_build_request(server), handler)
        server.sendall(framed(report))
        return _run(server, plugin, log) if plugin is not None else 1


def _run(server: socket.socket, plugin: BuiltPlugin, log: ServerLog) -> int:
    """Serve until the server ends the connection; return the exit code."""
    runner = asyncio.Runner()
    try:
        runner.run(_serve(server, plugin))
    except BaseException as error:  # noqa: BLE001 - a plugin can end the event loop as it likes
        # Pending tasks are not cancelled: their cancellation would be reported as a failure.
        _print(f"{plugin.available}: its worker ends: {describe_error(error).summary}")
        log.output.flush()
        os._exit(error.code if isinstance(error, SystemExit) and type(error.code) is int else 1)
    runner.close()
    return 0


def _exit_with_parent(pipe: int) -> None:
    """Have the kernel kill this process when the pipe closes, even inside code that blocks.

    Where that is not possible, as on macOS, the end of the socket is noticed once the plugin's
    code returns.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select((pipe,), (), (), 0)[0]:
        sys.exit(1)


def _receive_build_request(connection: socket.socket) -> messages.BuildRequest:
    frames = FrameDecoder(sys.maxsize)
    while piece := connection.recv(65536):
        for frame in frames.feed(piece):
            return cast("messages.BuildRequest", messages.order(frame))
    sys.exit(1)


def _build(
    message: messages.BuildRequest, handler: LogHandler
) -> tuple[messages.Report, BuiltPlugin | None]:
    """Build the plugin as the server would; return the report, and the plugin if it was built."""
    process_limits.apply(message.file_bytes, message.open_files)
    if message.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = message.python_path
    try:
        # It comes from the server, which started this process.
        available, table, root = pickle.loads(message.plugin)  # noqa: S301
    except Exception as error:  # noqa: BLE001 - importing runs whatever a module holds
        text = f"its class cannot be imported in a worker process: {describe_error(error).summary}"
        return messages.BuildFailed([([], messages.readable(text))]), None
    # Each line of this process belongs to the plugin.
    handler.use(LogLevels(level_number(table.log_level or "info"), modules={"": available.name}))
    plugins, problems = build({available.name: table}, {available.name: available}, root)
    warnings, failed = plugin_warnings(plugins)
    files, unknown = tracked_files(plugins, root)
    problems = [*problems, *failed, *unknown]
    problems += [
        Problem(("plugins", plugin.name), f"{plugin.available}: {ROUTES_TEXT}")
        for plugin in plugins
        if "routes" in plugin.hooks
    ]
    problems += [
        Problem(("plugins", plugin.name, "isolation"), BACKGROUND_TEXT)
        for plugin in plugins
        if plugin.refreshed or plugin.jobs
    ]
    if problems:
        # Keys start with plugins.NAME here, and are relative in a message.
        return messages.BuildFailed(_encode(problems, 2)), None
    plugin = plugins[0]
    hooks, names = list(plugin.hooks), [*map(str, files)]
    return messages.Ready(hooks, _encode(warnings, 3), plugin.can_reject, names), plugin


def _encode(
    items: Iterable[Problem | ConfigWarning], prefix: int
) -> list[tuple[messages.Place, str]]:
    return [(_place(item.key[prefix:]), messages.readable(str(item.text))) for item in items]


def _place(key: Key) -> messages.Place:
    return [part if isinstance(part, int) else messages.readable(str(part)) for part in key]


def _annotated(report: messages.HookReport, made: Annotations) -> messages.Annotated:
    encoded = [
        (name, messages.readable(value) if isinstance(value, str) else value, privacy)
        for values in made.by_plugin.values()
        for name, (value, privacy) in values.items()
    ]
    return messages.Annotated(report, encoded, is_complete=not made.left_out)


class _RequestServer(asyncio.Protocol):
    """Protocol that answers the server's requests, one at a time."""

    def __init__(self, plugin: BuiltPlugin) -> None:
        self.opening = asyncio.Event()
        self.closing = asyncio.Event()
        self.metrics = MetricsSender(self.send)
        self._links = {name: bind_hook(plugin, name) for name in ENDPOINTS}
        self._adjusters = {name: bind_adjuster(plugin, name) for name in ENDPOINTS}
        self._observer = bind_observer(plugin)
        self._plugin = plugin
        self._frames = FrameDecoder()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.close()

    def close(self) -> None:
        """Leave the lifespan."""
        if self._transport is not None and not self.closing.is_set():
            self.metrics.update()
        self.closing.set()
        self.opening.set()

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            order = messages.order(frame)
            if isinstance(
                order, messages.DecideRequest | messages.ObserveRequest | messages.StatusRequest
            ):
                # In a task of its own: what a hook does to its task or context ends with the call.
                task = asyncio.create_task(self._answer(order))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self.opening.set()

    async def _answer(
        self, order: messages.DecideRequest | messages.ObserveRequest | messages.StatusRequest
    ) -> None:
        request = messages.request_of(order) if isinstance(order, messages.DecideRequest) else None
        report: messages.HookReport
        try:
            if isinstance(order, messages.DecideRequest):
                report = await self._ask(order, cast("Request", request))
            elif isinstance(order, messages.ObserveRequest):
                report = await self._observe(order)
            else:
                report = messages.StatusReply(await report_of(self._plugin))
        except DecisionError as error:
            report = messages.invalid(error, messages.secrets_of(order))
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            report = messages.failed(_describe(error, messages.secrets_of(order)))
        if request is None or request.annotations is None:
            self.send(report)
        else:
            self.send(_annotated(report, request.annotations))

    async def _ask(
        self, order: messages.DecideRequest, request: Request
    ) -> messages.OkReply | messages.Decided:
        endpoint = ENDPOINTS[order.endpoint]
        asked: Request | Draft = request
        link, decision = self._links[order.endpoint], None
        if order.decision is not None:
            extras = self._plugin.table.extras
            decision = messages.decision_of(endpoint, order.decision, extras)
            asked = Draft(request, decision)
            link = self._adjusters[order.endpoint]
        assert link is not None
        HOOK_CONTEXT.set((link.names, request))
        answer = await link.ask(asked)
        if answer is None or answer is decision:
            return messages.OkReply()
        check = endpoint.check_answer if decision is None else partial(check_answer, endpoint)
        admitted = check(answer, request)
        return messages.decided(admitted if isinstance(admitted, Decision) else await admitted)

    async def _observe(self, order: messages.ObserveRequest) -> messages.OkReply:
        assert self._observer is not None
        extras = self._plugin.table.extras
        outcomes = [messages.outcome_of(seen, extras) for seen in order.outcomes]
        HOOK_CONTEXT.set(((self._plugin.name, self._observer.hook), outcomes[0].request))
        await self._observer.notify(outcomes)
        return messages.OkReply()

    def send(self, report: messages.Report) -> None:
        """Send a report unless the connection is closing; one that is too long is a failure."""
        if self.closing.is_set():
            return
        assert self._transport is not None
        try:
            frame = framed(report)
        except messages.WorkerError as error:
            frame = framed(messages.failed(error.fault))
        self._transport.write(frame)


async def _serve(connection: socket.socket, plugin: BuiltPlugin) -> None:
    loop = asyncio.get_running_loop()
    requests = _RequestServer(plugin)
    loop.add_signal_handler(signal.SIGTERM, requests.close)
    connection.setblocking(False)  # noqa: FBT003 - its own signature
    await loop.create_unix_connection(lambda: requests, sock=connection)
    await requests.opening.wait()
    if requests.closing.is_set():
        return
    is_open = False
    try:
        HOOK_CONTEXT.set(((plugin.name, "lifespan"), None))
        async with entered(plugin.lifespan() or nullcontext()):
            is_open = True
            requests.send(messages.OkReply())
            requests.metrics.start(loop)
            await requests.closing.wait()
    except PluginBuildError as error:
        requests.send(messages.BuildFailed(_encode(error.problems, 0)))
    except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
        fault = _describe(error)
        if is_open:
            _print(f"{plugin.available}: its lifespan failed: {fault.summary}")
        else:
            requests.send(messages.failed(fault))
    finally:
        # The event loop closes the descriptor that its handler writes to before the handler.
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _describe(error: BaseException, secrets: Sequence[str] = ()) -> ErrorReport:
    """Describe an exception, and name the limit of this process that is its reason."""
    report = describe_error(error, secrets)
    return replace(report, summary=report.summary + process_limits.failure_hint(error))


def _print(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - standard error is that of the server


if __name__ == "__main__":
    sys.exit(main())
