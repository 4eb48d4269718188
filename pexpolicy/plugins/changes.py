"""Changes from one configuration to the next, by name and without values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Protocol, TypeVar

from pydantic import BaseModel

from pexpolicy.background.sources import SourceLease
from pexpolicy.config.settings import Settings
from pexpolicy.plugins.binding import collect
from pexpolicy.plugins.plugin import BuiltPlugin

Name = TypeVar("Name", bound=str)

_SKIPPED = ("path", "config_hash", "plugins", "secret_files", "sources", "wrong")
_INFINITY = {"extras": "infinity.extra_fields", "min_pin_length": "infinity.min_pin_length"}
_WHOLE = ("tls", "tracing")
"""Tables that may be missing, which are one value."""


class Configuration(Protocol):
    """What is compared of a policy."""

    settings: Settings
    plugins: tuple[BuiltPlugin, ...]
    sources: SourceLease


def configuration_changes(after: Configuration, before: Configuration) -> list[str]:
    """Return the keys that were added, removed and changed, and what changed in each plugin."""
    shared = {plugin.name for plugin in after.plugins} & {one.name for one in before.plugins}
    texts = named_changes(_keys(before, shared), _keys(after, shared))
    return [
        *(f"configuration: {text}" for text in texts),
        *_plugin_changes(after.plugins, before.plugins),
    ]


def _keys(configuration: Configuration, shared: Collection[str]) -> dict[str, object]:
    """Return each key with a value that can be compared; those of ``shared`` plugins in detail."""
    keys: dict[str, object] = {}
    for field in fields(configuration.settings):
        name, value = field.name, getattr(configuration.settings, field.name)
        if isinstance(value, BaseModel | Mapping) and name not in (*_SKIPPED, *_WHOLE):
            keys |= {f"{name}.{key}": inner for key, inner in dict(value).items()}
        elif name not in _SKIPPED:
            keys[_INFINITY.get(name, name)] = value
    keys |= {f"sources.{source.name}": source.digest for source in configuration.sources}
    for plugin in configuration.plugins:
        at = f"plugins.{plugin.name}"
        keys[at] = None
        if plugin.name in shared:
            keys |= {f"{at}.{key}": inner for key, inner in plugin.table if key != "settings"}
            digests = plugin.setting_digests.items()
            keys |= {f"{at}.settings.{key}": digest for key, digest in digests}
    return keys


def _plugin_changes(
    plugins: Iterable[BuiltPlugin], previous: Iterable[BuiltPlugin]
) -> Iterator[str]:
    """Yield what plugins tell of their changes, and failed calls.

    Plugins that were not there before, or are of another class now, have nothing to compare with.
    """
    before = {plugin.name: plugin.instance for plugin in previous}
    for plugin in plugins:
        other = before.get(plugin.name)
        if not plugin.is_isolated and _class_name(other) == _class_name(plugin.instance):
            texts, problems = collect(
                plugin, "changes_since", lambda item: isinstance(item, str), "texts", other
            )
            yield from (f"{plugin.name}: {text}" for text in texts)
            yield from (problem.text for problem in problems)


def _class_name(instance: object) -> tuple[str, str]:
    """Return the name of a class, which is another object after a drop-in was read again."""
    return type(instance).__module__, type(instance).__qualname__


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
