"""Binding of a plugin's hooks: its entries in chains, its observer, and its status."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from pexpolicy.chain.background import MAX_BATCH, Observer
from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.chain.fold import ADJUST, Draft
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.context import hook_context
from pexpolicy.models.outcome import Outcome
from pexpolicy.plugins.hook_check import method_of
from pexpolicy.plugins.plugin import BuiltPlugin, blocks


def _may_wait(function: Callable[..., Any]) -> bool:
    """Return false for an ``async def`` without ``await``, ``async for`` and ``async with``.

    A coroutine waits by yielding, and the code of such a function has no instruction for that.
    """
    code = getattr(method_of(function), "__code__", None)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(step.opname == "YIELD_VALUE" for step in dis.get_instructions(code))


def _caller(plugin: BuiltPlugin, hook: str) -> Callable[[Any], Awaitable[Any]]:
    """Return the hook, or a function that runs it in a thread of the plugin if it blocks."""
    function = plugin.hooks[hook]
    if not blocks(function):
        return function
    threads = plugin.threads
    assert threads is not None

    async def ask(argument: Any) -> Any:
        return await threads.run(function, argument, hook)

    return ask


def bind_hook(plugin: BuiltPlugin, hook: str) -> BoundHook | None:
    """Return the plugin's entry in the chain of a hook; ``None`` if it does not implement it."""
    if hook not in plugin.hooks:
        return None
    return _bound(plugin, hook, hook, _caller(plugin, hook))


def bind_adjuster(plugin: BuiltPlugin, endpoint: str) -> BoundHook | None:
    """Return the plugin among the adjusters of an endpoint, if it is one; it takes a ``Draft``."""
    hook = ADJUST + endpoint
    function = plugin.hooks.get(hook)
    if function is None:
        return None
    may_admit, threads = plugin.table.may_admit, plugin.threads
    is_blocking = blocks(function)

    def ask(draft: Draft) -> Awaitable[Any]:
        draft.may_admit = may_admit
        decision = draft.decision
        if not is_blocking:
            answer: Awaitable[Any] = function(draft.request, decision)
            return answer
        assert threads is not None
        return threads.run(lambda request: function(request, decision), draft.request, hook)

    return _bound(plugin, hook, endpoint, ask)


def _bound(
    plugin: BuiltPlugin, hook: str, endpoint: str, ask: Callable[[Any], Awaitable[Any]]
) -> BoundHook:
    table = plugin.table
    return BoundHook(
        plugin.name,
        ask,
        table.timeout,
        table.on_error,
        CircuitBreaker() if table.breaker else None,
        (plugin.name, hook),
        ENDPOINTS[endpoint].check_may_wait or _may_wait(plugin.hooks[hook]),
        adjusts=hook != endpoint,
    )


def bind_observer(plugin: BuiltPlugin) -> Observer | None:
    """Return the plugin's observer; ``None`` if it implements no hook for observers."""
    hook = "on_decisions" if "on_decisions" in plugin.hooks else "on_decision"
    if hook not in plugin.hooks:
        return None
    call, is_blocking = _caller(plugin, hook), blocks(plugin.hooks[hook])
    timeout = plugin.table.timeout
    if hook == "on_decisions":
        return Observer(plugin.name, call, timeout, MAX_BATCH, hook, is_blocking)

    async def notify(outcomes: Sequence[Outcome]) -> None:
        await call(outcomes[0])

    return Observer(plugin.name, notify, timeout, blocks=is_blocking)


MAX_REPORT = 64 * 1024
"""Bytes of JSON for one plugin."""


async def report_of(plugin: BuiltPlugin) -> bytes:
    """Call the hook and encode its mapping as JSON; values unknown to JSON become text.

    Raises what the plugin raises, ``TypeError`` for anything but a mapping, and ``ValueError`` for
    more than ``MAX_REPORT`` bytes.
    """
    with hook_context(plugin.name, "status"):
        report = await _caller(plugin, "status")(None)
    if not isinstance(report, Mapping):
        msg = f"it gave {type(report).__name__}, and not a mapping"
        raise TypeError(msg)
    encoded = orjson.dumps(dict(report), default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(encoded) > MAX_REPORT:
        msg = f"it gave {len(encoded)} bytes of JSON, and {MAX_REPORT} are allowed"
        raise ValueError(msg)
    return encoded
