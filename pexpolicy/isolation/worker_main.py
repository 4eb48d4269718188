"""Worker process: it builds one plugin and answers the server's requests.

Plain ``def`` hooks run in a thread here too, so they may run event loops of their own and do not
block tasks of the plugin's lifespan; the server kills the whole process when they are late.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, cast

import msgspec

from pexpolicy.background.schedule import entered
from pexpolicy.chain.fold import Draft, hooks_of
from pexpolicy.config.files import reading, tracking
from pexpolicy.config.problems import ConfigWarning, PluginBuildError, Problem
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.isolation import messages
from pexpolicy.isolation.child import MAX_FRAME, UNLIMITED, Channel, ChildError, parent_socket
from pexpolicy.log import LogHandler, LogLevels, ServerLog, capturing, level_number
from pexpolicy.models.context import HOOK_CONTEXT, LiveValues, using_live_values
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Request, annotations_of, withheld_values
from pexpolicy.plugins.binding import bind_hook, bind_observer, describe, report_of
from pexpolicy.plugins.metrics import PLUGIN_METRICS
from pexpolicy.plugins.plugin import BuiltPlugin, build
from pexpolicy.tasks import start_background

METRICS_INTERVAL_S = 0.25
"""Seconds between two updates of metrics; a worker that is killed loses what it counted since."""


def main() -> int:
    """Build the plugin, and serve until the server ends the connection."""
    requests = _RequestServer()
    log = ServerLog()
    PLUGIN_METRICS.keep_changes()
    with capturing(log) as handler, log.output.background():
        order, serves = requests.receive()
        report, plugin = _build(order, handler)
        if plugin is not None and serves:
            return _run(requests, plugin, report, log)
        requests.send(report)
        return 0 if plugin is not None else 1


def _run(
    requests: _RequestServer, plugin: BuiltPlugin, report: messages.Report, log: ServerLog
) -> int:
    """Serve until the server ends the connection; return the exit code."""
    runner = asyncio.Runner()
    try:
        runner.run(requests.serve(plugin, report))
    except BaseException as error:  # noqa: BLE001 - a plugin can end the event loop as it likes
        # Pending tasks are not cancelled: their cancellation would be reported as a failure.
        _print(f"{plugin.available}: its worker ends: {describe_error(error).summary}")
        log.output.flush()
        os._exit(error.code if isinstance(error, SystemExit) and type(error.code) is int else 1)
    runner.close()
    return 0


def _build(order: Any, handler: LogHandler) -> tuple[messages.Report, BuiltPlugin | None]:
    """Build the plugin as the server would; return the report, and the plugin if it was built."""
    try:
        # It comes from the server, which started this process.
        available, table, root, kept = pickle.loads(order)  # noqa: S301
    except Exception as error:  # noqa: BLE001 - importing runs whatever a module holds
        text = f"its class cannot be imported in a worker process: {describe_error(error).summary}"
        return messages.BuildFailed([([], text)]), None
    # Each line of this process belongs to the plugin.
    handler.use(LogLevels(level_number(table.log_level or "info"), modules={"": available.name}))
    live = LiveValues(table.known.get("event_sources"))
    with tracking() as tracked, using_live_values(live), reading(kept):
        plugins, problems = build({available.name: table}, {available.name: available}, root)
        told, failed = describe(plugins, root)
    problems = [*problems, *failed]
    for plugin in plugins:
        key = ("plugins", plugin.name)
        if not plugin.hooks.keys().isdisjoint(("routes", "api_routes")):
            text = 'its routes need isolation = "none": the listener is in the server process'
            problems.append(Problem(key, f"{plugin.available}: {text}"))
        if plugin.refreshed or plugin.jobs or plugin.shared:
            text = 'uses Refreshed, schedule or shared state, which need isolation = "none"'
            problems.append(Problem((*key, "isolation"), text))
        if live.used:
            text = f'conditions on {", ".join(sorted(live.used))} need isolation = "none"'
            problems.append(Problem((*key, "isolation"), text))
    if problems:
        # Keys start with plugins.NAME here, and are relative in a message.
        return messages.BuildFailed(_encode(problems, 2)), None
    plugin = plugins[0]
    hooks, names = list(plugin.hooks), [*map(str, told.files)]
    secrets = [(str(place), isinstance(place, Path)) for place in tracked.secrets]
    paths = [(str(path), [*key], use) for path, key, use in plugin.paths]
    warnings, rejects = _encode(told.warnings, 3), plugin.can_reject
    return messages.Ready(hooks, warnings, rejects, names, secrets, paths), plugin


def _encode(
    items: Iterable[Problem | ConfigWarning], prefix: int
) -> list[tuple[messages.Place, str]]:
    def place(item: Problem | ConfigWarning) -> messages.Place:
        return [part if isinstance(part, int) else str(part) for part in item.key[prefix:]]

    return [(place(item), str(item.text)) for item in items]


class _RequestServer(Channel[messages.Order]):
    """The channel to the server; answers its requests, one at a time."""

    def __init__(self) -> None:
        super().__init__("the server", parent_socket(), pickle.loads)
        self.limit = UNLIMITED
        self.on_end = self._leave
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._plugin: BuiltPlugin

    async def serve(self, plugin: BuiltPlugin, report: messages.Report) -> None:
        """Answer requests within the plugin's lifespan, until the server ends the connection.

        ``report`` is sent when the lifespan has been entered.
        """
        self._plugin = plugin
        hooks = chain.from_iterable(map(hooks_of, ENDPOINTS))
        self._links = {hook: bind_hook(plugin, hook) for hook in hooks}
        found = (bind_observer(plugin, single) for single in ("on_decision", "on_event"))
        self._observers = {one.hook: one for one in found if one is not None}
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        await self.attach()
        is_open = False
        try:
            HOOK_CONTEXT.set(((plugin.name, "lifespan"), None))
            async with entered(plugin.lifespan() or nullcontext()):
                is_open = True
                self._report(report)
                self.limit = MAX_FRAME
                self._send_metrics_again(loop)
                await self._closing.wait()
        except PluginBuildError as error:
            self._report(messages.BuildFailed(_encode(error.problems, 0)))
        except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
            fault = describe_error(error)
            if is_open:
                _print(f"{plugin.available}: its lifespan failed: {fault.summary}")
            else:
                self._report(messages.Reply(fault=fault))
        finally:
            # The event loop closes the descriptor that its handler writes to before the handler.
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _leave(self) -> None:
        if not self.has_ended and not self._closing.is_set():
            self._send_metrics()
        self._closing.set()

    def _send_metrics(self) -> None:
        """Send what has changed since the last time."""
        if changes := PLUGIN_METRICS.take_changes():
            self._report(messages.MetricsUpdate([(*key, v) for key, v in changes.items()]))

    def _send_metrics_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._send_metrics()
        loop.call_later(METRICS_INTERVAL_S, self._send_metrics_again, loop)

    def on_message(self, message: messages.Order) -> None:
        """Answer a question in a task of its own: what a hook does to its context ends there."""
        _ = start_background(self._respond(*message), self._tasks)

    async def _respond(self, kind: str, *arguments: Any) -> None:
        requests: list[Request] = []
        try:
            if kind == "decide":
                requests = [arguments[2]]
                reply = await self._decide(*arguments)
            elif kind == "observe":
                requests = [one.request for one in arguments[1] if isinstance(one, Outcome)]
                reply = await self._observe(*arguments)
            else:
                reply = messages.Reply(content=await report_of(self._plugin))
        except DecisionError as error:
            reply = messages.invalid(error, _secrets(requests))
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            reply = messages.Reply(fault=describe_error(error, _secrets(requests)))
        if kind == "decide" and (made := annotations_of(requests[0])) is not None:
            notes = [(n, *one) for own in made.by_plugin.values() for n, one in own.items()]
            complete = not made.left_out
            reply = msgspec.structs.replace(reply, annotations=notes, is_complete=complete)
        self._report(reply)

    async def _decide(
        self, name: str, hook: str, request: Request, decision: Decision | None
    ) -> messages.Reply:
        """Decide a request, or adjust a decision."""
        endpoint, asked = ENDPOINTS[name], cast("Any", request)
        link = self._links[hook]
        if decision is not None:
            asked = Draft(request, decision)
        assert link is not None
        HOOK_CONTEXT.set((link.names, request))
        answer = await link.ask(asked)
        if answer is None or answer is decision:
            return messages.Reply()
        admitted = endpoint.check_answer(answer, request)
        return messages.decided(admitted if isinstance(admitted, Decision) else await admitted)

    async def _observe(self, hook: str, batch: list[Any]) -> messages.Reply:
        HOOK_CONTEXT.set(((self._plugin.name, hook), getattr(batch[0], "request", None)))
        await self._observers[hook].notify(batch)
        return messages.Reply()

    def _report(self, report: messages.Report) -> None:
        """Send a report unless the connection is closing; one that is too long is a failure."""
        if self._closing.is_set():
            return
        try:
            self.send(report)
        except ChildError as error:
            self.send(messages.Reply(fault=error.fault))


def _secrets(requests: list[Request]) -> list[str]:
    return [secret for request in requests for secret in withheld_values(request)]


def _print(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - standard error is that of the server


if __name__ == "__main__":
    sys.exit(main())
