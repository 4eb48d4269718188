"""What a plugin says of itself by its hook ``status``, as JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from pexpolicy.plugins.plugin import Plugin

LARGEST = 64 * 1024
"""Bytes of JSON that one plugin may say."""


async def report_of(plugin: Plugin) -> bytes:
    """What a plugin that has the hook says; what JSON does not know stands there as text.

    Raises what the plugin raises, ``TypeError`` for what is no mapping, and ``ValueError`` for too
    much of it.
    """
    hook: Callable[..., Any] = plugin.hooks["status"]
    if inspect.iscoroutinefunction(hook):
        said = await hook(None)
    else:
        assert plugin.threads is not None
        said = await plugin.threads.run(hook, None)
    if not isinstance(said, Mapping):
        msg = f"it gave {type(said).__name__}, and not a mapping"
        raise TypeError(msg)
    encoded = orjson.dumps(dict(said), default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(encoded) > LARGEST:
        msg = f"it gave {len(encoded)} bytes of JSON, and {LARGEST} are allowed"
        raise ValueError(msg)
    return encoded
