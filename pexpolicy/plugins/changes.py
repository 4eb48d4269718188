"""Changes from one configuration to the next, by name and without values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from pexpolicy.background.sources import SourceLease
from pexpolicy.config.problems import Key, dotted_key
from pexpolicy.config.settings import Settings
from pexpolicy.plugins.binding import collect
from pexpolicy.plugins.plugin import BuiltPlugin

Name = TypeVar("Name", bound=str)

_SECRETS = ("admin_token", "privacy_key", "sign_key", "credentials")
_SKIPPED = frozenset(
    ("path", "config_hash", "plugins", "secret_files", "sources", "wrong", *_SECRETS)
)
_INFINITY = {"extras": "extra_fields", "min_pin_length": "min_pin_length"}


class Configuration(Protocol):
    """What is compared of a policy."""

    settings: Settings
    plugins: tuple[BuiltPlugin, ...]
    sources: SourceLease


def configuration_changes(after: Configuration, before: Configuration) -> list[str]:
    """Return the keys that were added, removed and changed, and what changed in each plugin."""
    new, old = dict(_keys(after)), dict(_keys(before))
    texts = named_changes(_named(old, new), _named(new, old))
    return [
        *(f"configuration: {text}" for text in texts),
        *_plugin_changes(after.plugins, before.plugins),
    ]


def _named(keys: Mapping[Key, object], others: Mapping[Key, object]) -> dict[str, object]:
    """Return the keys by their text, without those of a table that the others do not have."""
    return {
        dotted_key(key): value
        for key, value in keys.items()
        if all(key[:n] in others or key[:n] not in keys for n in range(1, len(key)))
    }


def _keys(configuration: Configuration) -> Iterator[tuple[Key, object]]:
    """Yield each key with a value that can be compared."""
    settings = configuration.settings
    for name in (field.name for field in fields(settings)):
        value = getattr(settings, name)
        if name in _INFINITY:
            yield ("infinity", _INFINITY[name]), value
        elif name in _SECRETS:
            yield (name,), value
        elif name not in _SKIPPED:
            yield from _flat((name,), value)
    for source in configuration.sources:
        yield ("sources", source.name), source.digest
    for plugin in configuration.plugins:
        key: Key = ("plugins", plugin.name)
        yield key, None
        for name in type(plugin.table).model_fields.keys() - {"settings"}:
            yield (*key, name), getattr(plugin.table, name)
        for name, digest in plugin.setting_digests.items():
            yield (*key, "settings", name), digest


def _flat(key: Key, value: Any) -> Iterator[tuple[Key, object]]:
    """Yield the fields of tables; one that may be missing is one value."""
    if key[0] in ("tls", "tracing"):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat((*key, str(name)), inner)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _flat((*key, name), getattr(value, name))
    else:
        yield key, value


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
