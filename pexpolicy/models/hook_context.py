"""Context of a running hook: plugin, hook and request, for log lines and annotations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

HookContext = tuple[tuple[str, str], Any]
"""Names of plugin and hook, and the request; ``None`` for a hook that has none."""

NO_HOOK: HookContext = (("", ""), None)
UNKNOWN = "unknown"
"""Stands for the plugin where the context is none of a hook."""
HOOK_CONTEXT: ContextVar[HookContext] = ContextVar("pexpolicy_hook", default=NO_HOOK)
"""Set before each hook of each call. Tasks and ``asyncio.to_thread`` inherit it, so that a log line
of any library has its plugin, and ``annotate`` its hook.
"""


@contextmanager
def hook_context(plugin: str, hook: str, request: Any = None) -> Iterator[None]:
    """Run the code of a plugin in the context of one of its hooks."""
    token = HOOK_CONTEXT.set(((plugin, hook), request))
    try:
        yield
    finally:
        HOOK_CONTEXT.reset(token)
