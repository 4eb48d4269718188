"""What plugins say of themselves: their hook ``status``, asked within limits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import orjson

from pexpolicy.faults import blame
from pexpolicy.hidden import hide
from pexpolicy.plugins import Plugin

LIMIT = 1.0
"""Seconds for all plugins together."""
LARGEST = 64 * 1024
"""Bytes of JSON that one plugin may say."""

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
            if plugin.name not in self._under_way:
                task = asyncio.get_running_loop().create_task(_told(plugin))
                hide(task)
                self._under_way[plugin.name] = task
        asked = {plugin.name: self._under_way[plugin.name] for plugin in having}
        if asked:
            await asyncio.wait(asked.values(), timeout=self._limit)
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
    hook: Callable[..., Any] = plugin.hooks["status"]
    try:
        if inspect.iscoroutinefunction(hook):
            said = await hook(None)
        elif plugin.threads is not None:
            said = await plugin.threads.run(hook, None)
        else:
            said = hook(None)
        return {"status": _plain(said)}
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return {"problem": f"its status failed: {blame(error).summary}"}


def _plain(said: object) -> Mapping[str, Any]:
    """What a plugin said as JSON has it; what JSON does not know stands as text."""
    if not isinstance(said, Mapping):
        msg = f"it gave {type(said).__name__}, and not a mapping"
        raise TypeError(msg)
    encoded = orjson.dumps(dict(said), default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(encoded) > LARGEST:
        msg = f"it gave {len(encoded)} bytes of JSON, and {LARGEST} are allowed"
        raise ValueError(msg)
    return cast("Mapping[str, Any]", orjson.loads(encoded))
