"""Changes from one configuration to the next, by name and without values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from pexpolicy.plugins.binding import collect
from pexpolicy.plugins.plugin import BuiltPlugin

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
