"""Worker process: it builds one plugin and answers the server's requests.

Plain ``def`` hooks run in a thread here too, so they may run event loops of their own and do not
block tasks of the plugin's lifespan; the server kills the whole process when they are late.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from pexpolicy.background.schedule import entered
from pexpolicy.chain.chain import hooks_of
from pexpolicy.chain.fold import Draft
from pexpolicy.config.files import reading, tracking
from pexpolicy.config.problems import ConfigWarning, PluginBuildError, Problem
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import ErrorReport, describe_error
from pexpolicy.isolation import messages
from pexpolicy.isolation.child import MAX_FRAME, UNLIMITED, Channel, encode, parent_socket
from pexpolicy.log import LogHandler, LogLevels, ServerLog, capturing, level_number
from pexpolicy.models.context import HOOK_CONTEXT, LiveValues, using_live_values
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Request, annotations_of, withheld_values
from pexpolicy.plugins.binding import bind_hook, bind_observer, describe, report_of
from pexpolicy.plugins.plugin import BuiltPlugin, build
from pexpolicy.tasks import start_background


def main() -> int:
    """Build the plugin, and serve until the server ends the connection."""
    end, log = parent_socket(), ServerLog()
    server = Connection(os.dup(end.fileno()))
    with capturing(log) as handler, log.output.background():
        # It comes from the server, which started this process.
        order, serves = pickle.loads(server.recv_bytes())  # noqa: S301
        report, plugin = _build(order, handler)
        if plugin is not None and serves:
            return _run(_RequestServer(end, plugin), report, log)
        server.send_bytes(_encoded(report))
        return 0 if plugin is not None else 1


def _run(requests: _RequestServer, report: messages.Report, log: ServerLog) -> int:
    """Serve until the server ends the connection; return the exit code."""
    runner = asyncio.Runner()
    try:
        runner.run(requests.serve(report))
    except BaseException as error:  # noqa: BLE001 - a plugin can end the event loop as it likes
        # Pending tasks are not cancelled: their cancellation would be reported as a failure.
        _print(requests.plugin, "worker ends", error)
        log.output.flush()
        os._exit(error.code if isinstance(error, SystemExit) and type(error.code) is int else 1)
    runner.close()
    return 0


def _build(order: Any, handler: LogHandler) -> tuple[messages.Report, BuiltPlugin | None]:
    """Build the plugin as the server would; return the report, and the plugin if it was built."""
    try:
        available, table, root, kept = pickle.loads(order)  # noqa: S301
    except Exception as error:  # noqa: BLE001 - importing runs whatever a module holds
        text = f"its class cannot be imported in a worker process: {describe_error(error).summary}"
        return messages.Reply(problems=[([], text)]), None
    # Each line of this process belongs to the plugin.
    handler.use(LogLevels(level_number(table.log_level or "info"), modules={"": available.name}))
    live = LiveValues(table.known.get("event_sources"))
    with tracking() as tracked, using_live_values(live), reading(kept):
        plugins, problems = build({available.name: table}, {available.name: available}, root)
        told, failed = describe(plugins, root)
    problems = [*problems, *failed]
    for plugin in plugins:
        routes = plugin.hooks.keys() & {"routes", "api_routes"}
        for used, text in (
            (routes, 'its routes need isolation = "none": the listener is in the server process'),
            (
                plugin.refreshed or plugin.jobs or plugin.shared,
                'uses Refreshed, schedule or shared state, which need isolation = "none"',
            ),
            (live.used, f'conditions on {", ".join(sorted(live.used))} need isolation = "none"'),
        ):
            if used:
                problems.append(Problem(("plugins", plugin.name, "isolation"), text))
    if problems:
        # Keys start with plugins.NAME here, and are relative in a message.
        return messages.Reply(problems=_encode(problems, 2)), None
    plugin = plugins[0]
    hooks, names = list(plugin.hooks), [*map(str, told.files)]
    secrets = [(str(place), isinstance(place, Path)) for place in tracked.secrets]
    paths = [(str(path), [*key], use) for path, key, use in plugin.paths]
    warnings, rejects = _encode(told.warnings, 3), plugin.can_reject
    return messages.Ready(hooks, warnings, rejects, names, secrets, paths), plugin


def _encode(
    items: Iterable[Problem | ConfigWarning], prefix: int
) -> list[tuple[messages.Place, str]]:
    return [
        ([part if isinstance(part, int) else str(part) for part in one.key[prefix:]], str(one.text))
        for one in items
    ]


class _RequestServer(Channel[messages.Order]):
    """The channel to the server; answers its requests, one at a time."""

    limit = UNLIMITED

    def __init__(self, end: socket.socket, plugin: BuiltPlugin) -> None:
        super().__init__("the server", end, pickle.loads, _encoded)
        self.plugin = plugin
        self._closing = asyncio.Event()
        self.on_end = self._closing.set
        self._tasks: set[asyncio.Task[None]] = set()
        self._links = {
            hook: (endpoint, bind_hook(plugin, hook))
            for name, endpoint in ENDPOINTS.items()
            for hook in hooks_of(name)
        }
        found = (bind_observer(plugin, single) for single in ("on_decision", "on_event"))
        self._observers = {one.hook: one for one in found if one is not None}

    async def serve(self, report: messages.Report) -> None:
        """Answer requests within the plugin's lifespan, until the server ends the connection.

        ``report`` is sent when the lifespan has been entered.
        """
        loop, plugin = asyncio.get_running_loop(), self.plugin
        loop.add_signal_handler(signal.SIGTERM, self._closing.set)
        await self.attach()
        is_open = False
        try:
            HOOK_CONTEXT.set(((plugin.name, "lifespan"), None))
            async with entered(plugin.lifespan() or nullcontext()):
                is_open = True
                self.send(report)
                await self._closing.wait()
        except PluginBuildError as error:
            self.send(messages.Reply(problems=_encode(error.problems, 0)))
        except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
            if is_open:
                _print(plugin, "lifespan failed", error)
            else:
                self.send(messages.Reply(fault=describe_error(error)))
        finally:
            # The event loop closes the descriptor that its handler writes to before the handler.
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def on_message(self, message: messages.Order) -> None:
        """Answer a question in a task of its own: what a hook does to its context ends there."""
        _ = start_background(self._respond(*message), self._tasks)

    async def _respond(self, kind: str, *arguments: Any) -> None:
        requests: list[Request] = []
        try:
            if kind == "decide":
                requests = [arguments[1]]
                reply = await self._decide(*arguments)
            elif kind == "observe":
                requests = [one.request for one in arguments[1] if isinstance(one, Outcome)]
                reply = await self._observe(*arguments)
            else:
                reply = messages.Reply(content=await report_of(self.plugin))
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            secrets = [secret for one in requests for secret in withheld_values(one)]
            reply = messages.failed(error, secrets)
        if kind == "decide" and (made := annotations_of(requests[0])) is not None:
            notes = [(n, *one) for own in made.by_plugin.values() for n, one in own.items()]
            complete = not made.left_out
            reply = msgspec.structs.replace(reply, annotations=notes, is_complete=complete)
        self.send(reply)

    async def _decide(
        self, hook: str, request: Request, decision: Decision | None
    ) -> messages.Reply:
        """Decide a request, or adjust a decision."""
        endpoint, link = self._links[hook]
        assert link is not None
        HOOK_CONTEXT.set((link.names, request))
        answer = await link.ask(request if decision is None else Draft(request, decision))
        if answer is None or answer is decision:
            return messages.Reply()
        admitted = endpoint.check_answer(answer, request)
        made = admitted if isinstance(admitted, Decision) else await admitted
        return messages.Reply(type(made).__name__, messages.content_of(made), made.reason)

    async def _observe(self, hook: str, batch: list[Any]) -> messages.Reply:
        HOOK_CONTEXT.set(((self.plugin.name, hook), getattr(batch[0], "request", None)))
        await self._observers[hook].notify(batch)
        return messages.Reply()


def _encoded(report: messages.Report) -> bytes:
    """Encode a report; one that is too long is a failure."""
    if len(content := encode(report)) > MAX_FRAME:
        text = f"{len(content)} bytes exceed the limit of a message ({MAX_FRAME})"
        return encode(messages.Reply(fault=ErrorReport(text, [])))
    return content


def _print(plugin: BuiltPlugin, event: str, error: BaseException) -> None:
    line = f"{plugin.available}: its {event}: {describe_error(error).summary}"
    print(line, file=sys.stderr)  # noqa: T201 - standard error is that of the server


if __name__ == "__main__":
    sys.exit(main())
