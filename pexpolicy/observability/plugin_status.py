"""Status reports of plugins: their hook ``status``, called within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson

from pexpolicy.errors import describe_error
from pexpolicy.plugins.binding import report_of
from pexpolicy.plugins.plugin import BuiltPlugin
from pexpolicy.tasks import hide

TIMEOUT_S = 1.0
"""For all plugins together."""

ReportTask = asyncio.Task[dict[str, Any]]


class PluginStatuses:
    """Calls the status hooks, each plugin's once at a time: a stuck one holds one thread only.

    ``timeout`` in seconds.
    """

    def __init__(self, timeout: float = TIMEOUT_S) -> None:
        self._timeout = timeout
        self._running: dict[str, ReportTask] = {}

    async def collect(self, plugins: Iterable[BuiltPlugin]) -> dict[str, dict[str, Any]]:
        """Return for each plugin with the hook its ``status``, or the ``problem`` of getting it."""
        reporting = [plugin for plugin in plugins if "status" in plugin.hooks]
        for plugin in reporting:
            previous = self._running.get(plugin.name)
            if previous is None or previous.done():
                task = asyncio.get_running_loop().create_task(_report(plugin))
                hide(task)
                self._running[plugin.name] = task
        tasks = {plugin.name: self._running[plugin.name] for plugin in reporting}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=self._timeout)
        for plugin in reporting:
            if plugin.is_isolated:
                # A late worker is killed and replaced, so no task of it stays.
                tasks[plugin.name].cancel()
        return {name: self._result(name, task) for name, task in tasks.items()}

    def _result(self, name: str, task: ReportTask) -> dict[str, Any]:
        if not task.done():
            return {"problem": f"its status gave no answer within {self._timeout:.3g} s"}
        self._running.pop(name, None)
        if task.cancelled():
            return {"problem": "its status was cancelled"}
        return task.result()

    def close(self) -> None:
        """Cancel the hooks that are running."""
        for task in self._running.values():
            task.cancel()


async def _report(plugin: BuiltPlugin) -> dict[str, Any]:
    """Return the report or the failure: SystemExit raised in a task would end the event loop."""
    try:
        return {"status": orjson.loads(await report_of(plugin))}
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return {"problem": f"its status failed: {describe_error(error).summary}"}
