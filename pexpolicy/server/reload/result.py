"""The result of a reload, which is sent to the client that requested it."""

from __future__ import annotations

from typing import Any

import msgspec


def readable(value: Any) -> Any:
    """Return a value of built-in types with ``?`` for what UTF-8 cannot encode.

    Texts of plugins and names of files may hold such characters.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {readable(name): readable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    return value


class ReloadResult(msgspec.Struct, frozen=True):
    """The result of a reload; ``problems`` is empty if the new configuration is active.

    ``config_hash`` is that of the active configuration. ``changes`` are what changed, by
    name. ``notes`` are warnings for the operator and keys that need a restart. ``files`` are
    those to watch for the next change.
    """

    config_hash: str
    plugins: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """True when the new configuration is active."""
        return not self.problems

    def __str__(self) -> str:
        if self.done:
            names = ", ".join(self.plugins) or "no plugins"
            return f"reloaded ({names}; {self.config_hash})"
        count = len(self.problems)
        return (
            f"not reloaded: {count} error{'s' if count > 1 else ''}; "
            f"{self.config_hash} stays active"
        )
