"""What plugins say of themselves: their hook ``status``, asked within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson

from pexpolicy.errors import describe_error
from pexpolicy.plugins.plugin import Plugin
from pexpolicy.plugins.status import report_of
from pexpolicy.tasks import hide

LIMIT = 1.0
"""Seconds for all plugins together."""

Asked = asyncio.Task[dict[str, Any]]


class PluginStatuses:
    """Asks the plugins, each for one status at a time: a stuck one holds one thread, and no more.

    ``limit`` in seconds.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._under_way: dict[str, Asked] = {}

    async def ask(self, plugins: Iterable[Plugin]) -> dict[str, dict[str, Any]]:
        """What each plugin that has the hook says, as ``status``, or as ``problem`` why not."""
        having = [plugin for plugin in plugins if "status" in plugin.hooks]
        for plugin in having:
            before = self._under_way.get(plugin.name)
            if before is None or before.done():
                task = asyncio.get_running_loop().create_task(_told(plugin))
                hide(task)
                self._under_way[plugin.name] = task
        asked = {plugin.name: self._under_way[plugin.name] for plugin in having}
        if asked:
            await asyncio.wait(asked.values(), timeout=self._limit)
        for plugin in having:
            if plugin.isolated is not None:
                # Its worker is killed for being late, and another one takes calls in its place.
                asked[plugin.name].cancel()
        return {name: self._result(name, task) for name, task in asked.items()}

    def _result(self, name: str, task: Asked) -> dict[str, Any]:
        if not task.done():
            return {"problem": f"its status gave no answer within {self._limit:.3g} s"}
        self._under_way.pop(name, None)
        if task.cancelled():
            return {"problem": "its status was cancelled"}
        return task.result()

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._under_way.values():
            task.cancel()


async def _told(plugin: Plugin) -> dict[str, Any]:
    """An exception as a value: the event loop would end by SystemExit in a task."""
    try:
        return {"status": orjson.loads(await report_of(plugin))}
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return {"problem": f"its status failed: {describe_error(error).summary}"}
