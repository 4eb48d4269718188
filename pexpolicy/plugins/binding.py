"""What the hooks of a plugin give: chain entries, an observer, a status, routes, descriptions, and
what changed since an earlier policy.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel

from pexpolicy.chain.background import MAX_BATCH, Observer
from pexpolicy.chain.chain import ADJUST, RESTRICT, BoundHook
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.chain.fold import Draft
from pexpolicy.config.problems import ConfigWarning, Key, Problem
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import describe_error
from pexpolicy.models.context import hook_context
from pexpolicy.models.decision import Decision
from pexpolicy.plugins.plugin import BuiltPlugin, Hook, blocks, method_of
from pexpolicy.text import brief

if TYPE_CHECKING:
    # Most processes of isolated plugins do without: it is a third of the time of their start.
    from aiohttp import web

PREFIX = "/plugins/"
"""The path below which each plugin has a folder of its own."""


API_PREFIX = "/api/"
"""The beginning of all paths of ``[api]``."""


class PluginRoutes:
    """The routes of one plugin, below ``/plugins/NAME``, or for ``[api]`` with whole paths."""

    def __init__(self, plugin: str, *, is_api: bool = False) -> None:
        from aiohttp import web  # noqa: PLC0415 - as above

        self.plugin = plugin
        self.app = web.Application()
        self._runner = web.AppRunner(self.app)
        self._root = "" if is_api else f"{PREFIX}{quote(plugin, safe='')}"
        self._begin = API_PREFIX if is_api else "/"

    def add(self, route: web.RouteDef) -> None:
        """Add a route; raise ``ValueError`` if it cannot be served."""
        if not route.path.startswith(self._begin):
            raise ValueError(f"its path must begin with {self._begin}")
        handler = route.handler
        if not inspect.iscoroutinefunction(handler):
            raise ValueError(f"its handler is {brief(handler)}: write an async def, without ()")
        path = self._root + route.path
        try:
            inspect.signature(handler).bind(None)
            type(route)(route.method, path, handler, route.kwargs).register(self.app.router)
        except (ValueError, RuntimeError, TypeError, AttributeError, AssertionError) as error:
            raise ValueError(str(error) or type(error).__name__) from None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Have the handler of a route answer; raise what it raises, and ``HTTPException``."""
        if self._runner.server is None:
            await self._runner.setup()
        assert self._runner.server is not None
        return await self._runner.server.request_handler(request)


def collect(
    plugin: BuiltPlugin, hook: str, usable: Callable[[Any], bool], what: str, *arguments: object
) -> tuple[list[Any], list[Problem]]:
    """Call a hook that describes the plugin; return its items, and the problem if there is one.

    ``usable`` checks one item, ``what`` names what the hook has to return.
    """
    if hook not in plugin.hooks:
        return [], []
    try:
        with hook_context(plugin.name, hook):
            returned = plugin.hooks[hook](*arguments)
            is_list = isinstance(returned, Iterable) and not isinstance(returned, str | Mapping)
            items = list(returned) if is_list else [returned]
        wrong = [item for item in items if not (is_list and usable(item))]
        if not wrong:
            return items, []
        text = f"its {hook} must return an iterable of {what}, and not {brief(wrong[0])}"
    except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
        text = f"its {hook} failed: {describe_error(error).summary}"
    return [], [Problem(("plugins", plugin.name), f"{plugin.available}: {text}")]


@dataclass
class Descriptions:
    """What the plugins of a configuration tell about themselves."""

    decisions: dict[str, Sequence[tuple[Key, Decision]]] = field(default_factory=dict)
    """Decisions that never change, with their keys, by plugin."""
    warnings: list[ConfigWarning] = field(default_factory=list)
    core_warnings: Callable[[], Iterable[Problem | ConfigWarning]] = tuple
    """Finds those about the rest of the configuration, and what is wrong with the paths."""
    files: list[Path] = field(default_factory=list)
    """The files that the plugins were built from."""
    routes: dict[str, PluginRoutes] = field(default_factory=dict)
    """The HTTP routes of each plugin that has any."""
    api_routes: dict[str, PluginRoutes] = field(default_factory=dict)
    """Those on the listener of ``[api]``."""


def describe(plugins: Iterable[BuiltPlugin], root: Path) -> tuple[Descriptions, list[Problem]]:
    """Call the hooks that describe plugins; return the problems of all, too.

    Relative paths are relative to ``root``, unless they begin with it, as those of settings do.
    """
    told = Descriptions()
    problems: list[Problem] = []
    for plugin in plugins:
        name, found = plugin.name, {}
        for hook, (usable, what) in _DESCRIBING.items():
            found[hook], wrong = collect(plugin, hook, usable, what)
            problems += wrong
        told.decisions[name] = found["static_decisions"]
        told.warnings += [
            ConfigWarning(("plugins", name, "settings", *item.key), item.text)
            for item in found["config_warnings"]
        ]
        told.files += plugin.available.files()
        tracked = dict.fromkeys([*plugin.files, *map(Path, found["tracked_files"])])
        told.files += [file if file.is_relative_to(root) else root / file for file in tracked]
        for hook, known in (("routes", told.routes), ("api_routes", told.api_routes)):
            for route in found[hook]:
                routes = known.setdefault(name, PluginRoutes(name, is_api=hook == "api_routes"))
                try:
                    routes.add(route)
                except ValueError as error:
                    text = f"{plugin.available}: its route {route.method} {route.path}: {error}"
                    problems.append(Problem(("plugins", name), text))
    return told, problems


def _is_key(key: object) -> bool:
    return isinstance(key, tuple) and all(isinstance(part, str | int) for part in key)


def _is_keyed_decision(item: object) -> bool:
    match item:
        case (key, Decision()):
            return _is_key(key)
        case _:
            return False


def _is_route(item: object) -> bool:
    from aiohttp import web  # noqa: PLC0415 - as above

    return isinstance(item, web.RouteDef)


_ROUTE = (_is_route, "aiohttp.web.RouteDef, as aiohttp.web.get(...) returns")
_DESCRIBING: dict[str, tuple[Callable[[Any], bool], str]] = {
    "static_decisions": (
        _is_keyed_decision,
        "pairs of a key and a decision, such as (('rooms', 'a'), Conference(...))",
    ),
    "config_warnings": (
        lambda item: isinstance(item, ConfigWarning) and _is_key(item.key),
        "ConfigWarning(key, text), with a tuple as the key, such as ('rooms', 'a')",
    ),
    "tracked_files": (lambda item: isinstance(item, str | PurePath), "paths"),
    "routes": _ROUTE,
    "api_routes": _ROUTE,
}
"""By hook: what checks one item that it returns, and what it has to return."""


def _may_wait(function: Hook) -> bool:
    """Return false for an ``async def`` without ``await``, ``async for`` and ``async with``.

    A coroutine waits by yielding, and the code of such a function has no instruction for that.
    """
    code = getattr(method_of(function), "__code__", None)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(step.opname == "YIELD_VALUE" for step in dis.get_instructions(code))


def _caller(plugin: BuiltPlugin, hook: str) -> Callable[..., Awaitable[Any]]:
    """Return the hook, or a function that runs it in a thread of the plugin if it blocks."""
    function, threads = plugin.hooks[hook], plugin.threads
    if not blocks(function):
        return function
    return lambda *arguments: threads.run(lambda given: function(*given), arguments)


def bind_hook(plugin: BuiltPlugin, hook: str) -> BoundHook | None:
    """Return the plugin's entry for a hook in the chain of its endpoint; ``None`` if it does not
    implement it. The entry of one that adjusts or restricts takes a ``Draft``.
    """
    if hook not in plugin.hooks:
        return None
    table, endpoint = plugin.table, hook.removeprefix(ADJUST).removeprefix(RESTRICT)
    adjusts = hook != endpoint
    return BoundHook(
        plugin.name,
        _adjuster(plugin, hook) if adjusts else _caller(plugin, hook),
        table.timeout,
        table.on_error,
        CircuitBreaker() if table.breaker else None,
        (plugin.name, hook),
        ENDPOINTS[endpoint].check_may_wait or _may_wait(plugin.hooks[hook]),
        adjusts=adjusts,
    )


def _adjuster(plugin: BuiltPlugin, hook: str) -> Callable[[Draft], Awaitable[Any]]:
    """Return a function that asks the hook about the decision of a draft."""
    call, may_admit = _caller(plugin, hook), plugin.table.may_admit and RESTRICT not in hook

    def ask(draft: Draft) -> Awaitable[Any]:
        draft.may_admit = may_admit
        return call(draft.request, draft.decision)

    return ask


def bind_observer(
    plugin: BuiltPlugin, single: str = "on_decision", sources: Mapping[str, str] | None = None
) -> Observer | None:
    """Return the plugin's observer of decisions or events, if it is one.

    ``single`` is the name of the hook for one of them; that for several ends in ``s``. ``sources``
    are those of the events of each environment.
    """
    hook = f"{single}s" if f"{single}s" in plugin.hooks else single
    if hook not in plugin.hooks:
        return None
    call, batch = _caller(plugin, hook), 1 if hook == single else MAX_BATCH

    async def notify(found: Sequence[Any]) -> None:
        await call(found[0] if hook == single else found)

    table, is_blocking = plugin.table, blocks(plugin.hooks[hook])
    only = table.environments
    if only is not None and sources is not None:
        only = [sources[name] for name in only]
    return Observer(plugin.name, notify, table.timeout, batch, hook, is_blocking, only)


CHECKS_TIMEOUT_S = 5.0
"""For the checks of one plugin."""


async def checks_of(plugin: BuiltPlugin) -> list[tuple[str, bool, str]]:
    """Call the hook, and return name, result and text of each check; a failure is one as well."""
    limit = asyncio.timeout(CHECKS_TIMEOUT_S)
    try:
        with hook_context(plugin.name, "checks"):
            async with limit:
                found = list(await _caller(plugin, "checks")(None))
        wrong = [item for item in found if [*map(type, item)] != [str, bool, str]]
        if not wrong:
            return found
        problem = f"it returned {brief(wrong[0])}, and not (name, True or False, text)"
    except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
        late = f"no answer within {CHECKS_TIMEOUT_S:.3g} s"
        problem = late if limit.expired() else describe_error(error).summary
    return [("checks", False, problem)]


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
        raise TypeError(f"it gave {type(report).__name__}, and not a mapping")
    encoded = orjson.dumps(dict(report), default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(encoded) > MAX_REPORT:
        raise ValueError(f"it gave {len(encoded)} bytes of JSON, and {MAX_REPORT} are allowed")
    return encoded


Name = TypeVar("Name", bound=str)

_SKIPPED = (
    *("path", "tables_digest", "is_empty", "plugins", "secret_files", "secrets"),
    *("sources", "wrong", "content_digest", "auth", "nodes"),
)
_NAMES = {"present": "present bundle"}


def configuration_changes(after: Any, before: Any) -> list[str]:
    """Return the keys that were added, removed and changed from one policy to another, and what
    changed in each plugin.
    """
    was = {plugin.name: plugin for plugin in before.plugins}
    shared = was.keys() & {plugin.name for plugin in after.plugins}
    texts = named_changes(_keys(before, shared), _keys(after, shared))
    changes = [f"configuration: {text}" for text in texts]
    for plugin in after.plugins:
        other = was.get(plugin.name)
        if other is not None and not plugin.is_isolated and _class_of(other) == _class_of(plugin):
            told, problems = collect(
                plugin, "changes_since", lambda item: isinstance(item, str), "texts", other.instance
            )
            changes += [f"{plugin.name}: {text}" for text in told]
            changes += [problem.text for problem in problems]
    return changes


def _keys(policy: Any, shared: Iterable[str]) -> dict[str, object]:
    """Return each key with a value that can be compared; those of ``shared`` plugins in detail."""
    keys: dict[str, object] = {}
    for name, value in policy.settings:
        if name in _SKIPPED or value is None:
            continue
        if isinstance(value, BaseModel | Mapping):
            keys |= {f"{name}.{key}": one for key, one in dict(value).items() if one is not None}
        else:
            keys[_NAMES.get(name, name)] = value
    keys |= {f"sources.{source.name}": source.digest for source in policy.sources}
    for plugin in policy.plugins:
        at = f"plugins.{plugin.name}"
        keys[at] = None
        if plugin.name in shared:
            keys |= {f"{at}.{key}": inner for key, inner in plugin.table if key != "settings"}
            digests = plugin.table.settings.items()
            keys |= {f"{at}.settings.{key}": digest for key, digest in digests}
    return keys


def _class_of(plugin: BuiltPlugin) -> tuple[str, str]:
    """Return what names a class, which is another object after a drop-in was read again."""
    return plugin.available.source, type(plugin.instance).__qualname__


def named_changes(before: Mapping[Name, object], after: Mapping[Name, object]) -> Iterator[str]:
    """Yield the names that were added, removed and changed, each kind as one text."""
    for kind, names in (
        ("added", after.keys() - before.keys()),
        ("removed", before.keys() - after.keys()),
        ("changed", {n for n in after if n in before and before[n] != after[n]}),
    ):
        if names:
            yield f"{kind} {listed(names)}"


def listed(names: Iterable[str], limit: int = 10) -> str:
    """Return the first names in alphabetical order, and the number of the others."""
    ordered = sorted(names)
    rest = len(ordered) - limit
    shown = ", ".join(ordered[:limit])
    return f"{shown} and {rest} more" if rest > 0 else shown
