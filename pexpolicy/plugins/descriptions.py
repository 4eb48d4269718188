"""What plugins tell about themselves while a policy is built: hooks that describe them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pexpolicy.config.problems import ConfigWarning, Key, Problem
from pexpolicy.errors import describe_error
from pexpolicy.models.context import hook_context
from pexpolicy.models.decision import Decision
from pexpolicy.plugins.plugin import BuiltPlugin
from pexpolicy.text import brief

if TYPE_CHECKING:
    from pexpolicy.plugins.routes import PluginRoutes


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
            is_list = isinstance(returned, Iterable) and not isinstance(
                returned, str | bytes | Mapping
            )
            items = list(returned) if is_list else [returned]
        if is_list and all(map(usable, items)):
            return items, []
        wrong = next((item for item in items if not (is_list and usable(item))), None)
        text = f"its {hook} must return an iterable of {what}, and not {brief(wrong)}"
    except BaseException as error:  # noqa: BLE001 - a plugin raises what it likes
        text = f"its {hook} failed: {describe_error(error).summary}"
    return [], [Problem(("plugins", plugin.name), f"{plugin.available}: {text}")]


@dataclass
class Descriptions:
    """What the plugins of a configuration tell about themselves."""

    decisions: dict[str, Sequence[tuple[Key, Decision]]] = field(default_factory=dict)
    """Decisions that never change, with their keys, by plugin."""
    warnings: list[ConfigWarning] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    """The files that the plugins were built from."""
    routes: dict[str, PluginRoutes] = field(default_factory=dict)
    """The HTTP routes of each plugin that has any."""


def describe(plugins: Iterable[BuiltPlugin], root: Path) -> tuple[Descriptions, list[Problem]]:
    """Call the hooks that describe plugins; return the problems of all, too.

    Relative paths are relative to ``root``, unless they begin with it, as those of settings do.
    """
    told, problems = Descriptions(), []
    for plugin in plugins:
        name = plugin.name
        what = "pairs of a key and a decision, such as (('rooms', 'a'), Conference(...))"
        told.decisions[name], found = collect(plugin, "static_decisions", _is_keyed_decision, what)
        problems += found
        what = "ConfigWarning(key, text), with a tuple as the key, such as ('rooms', 'a')"
        warnings, found = collect(plugin, "config_warnings", _is_warning, what)
        problems += found
        told.warnings += [ConfigWarning(("plugins", name), text) for text in plugin.deprecated]
        told.warnings += [
            ConfigWarning(("plugins", name, "settings", *item.key), item.text) for item in warnings
        ]
        files, found = collect(plugin, "tracked_files", _is_path, "paths")
        problems += found
        told.files += plugin.available.files()
        tracked = dict.fromkeys([*plugin.files, *map(Path, files)])
        told.files += [file if file.is_relative_to(root) else root / file for file in tracked]
        if "routes" in plugin.hooks:
            routes, found = _routes(plugin)
            problems += found
            if routes is not None:
                told.routes[name] = routes
    return told, problems


def _routes(plugin: BuiltPlugin) -> tuple[PluginRoutes | None, list[Problem]]:
    from pexpolicy.plugins.routes import PluginRoutes, is_route  # noqa: PLC0415 - it imports aiohttp

    what = "aiohttp.web.RouteDef, as aiohttp.web.get(...) returns"
    items, problems = collect(plugin, "routes", is_route, what)
    routes = PluginRoutes(plugin.name)
    for item in items:
        try:
            routes.add(item)
        except ValueError as error:
            text = f"{plugin.available}: its route {item.method} {item.path}: {error}"
            problems.append(Problem(("plugins", plugin.name), text))
    return routes if items else None, problems


def _is_key(key: object) -> bool:
    return isinstance(key, tuple) and all(isinstance(part, str | int) for part in key)


def _is_path(item: object) -> bool:
    return isinstance(item, str | PurePath)


def _is_warning(item: object) -> bool:
    return isinstance(item, ConfigWarning) and _is_key(item.key)


def _is_keyed_decision(item: object) -> bool:
    match item:
        case (key, Decision()):
            return isinstance(item, tuple) and _is_key(key)
        case _:
            return False
