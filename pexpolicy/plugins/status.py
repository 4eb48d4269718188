"""Status report of a plugin as JSON, from its hook ``status``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from pexpolicy.models.hook_context import hook_context
from pexpolicy.plugins.plugin import BuiltPlugin, blocks

MAX_REPORT = 64 * 1024
"""Bytes of JSON for one plugin."""


async def report_of(plugin: BuiltPlugin) -> bytes:
    """Call the hook and encode its mapping as JSON; values unknown to JSON become text.

    Raises what the plugin raises, ``TypeError`` for anything but a mapping, and ``ValueError`` for
    more than ``MAX_REPORT`` bytes.
    """
    hook: Callable[..., Any] = plugin.hooks["status"]
    with hook_context(plugin.name, "status"):
        if not blocks(hook):
            report = await hook(None)
        else:
            assert plugin.threads is not None
            report = await plugin.threads.run(hook, None, "status")
    if not isinstance(report, Mapping):
        msg = f"it gave {type(report).__name__}, and not a mapping"
        raise TypeError(msg)
    encoded = orjson.dumps(dict(report), default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(encoded) > MAX_REPORT:
        msg = f"it gave {len(encoded)} bytes of JSON, and {MAX_REPORT} are allowed"
        raise ValueError(msg)
    return encoded
