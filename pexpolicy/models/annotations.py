"""Annotations: what plugins add to the audit line of a call."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET, UnsetType

from pexpolicy.models.alias import Alias
from pexpolicy.models.rules import Privacy

AnnotationValue = str | int | float | bool | None
MAX_ANNOTATIONS = 16
"""Annotations of one plugin for one call."""
MAX_NAME = 64
"""Characters of a name."""
MAX_TEXT = 250
"""Characters of a text, as of the fields that Infinity sends."""
_MAX_INTEGER = 2**63


class Annotation(NamedTuple):
    """One value, and what it tells about people."""

    value: AnnotationValue
    privacy: Privacy


class Annotations:
    """The annotations of one call, by plugin and name.

    Callers choose some of the text, so what is too much is shortened or left out: no hook may fail
    because of it.
    """

    __slots__ = ("by_plugin", "left_out")

    def __init__(self) -> None:
        self.by_plugin: dict[str, dict[str, Annotation]] = {}
        self.left_out: set[str] = set()
        """Plugins with more annotations than fit, or a number too large for JSON."""

    def add(
        self, plugin: str, name: str, value: AnnotationValue | UnsetType, privacy: Privacy
    ) -> None:
        """Add one annotation, or replace the one of the same name; nothing for ``UNSET``.

        Raises ``ValueError`` for a name that is no identifier of up to 64 characters, and
        ``TypeError`` for a value of another type.
        """
        if not name.isidentifier() or len(name) > MAX_NAME:
            msg = f"an annotation is named like a variable, up to {MAX_NAME} characters: {name!r}"
            raise ValueError(msg)
        if value is UNSET:
            return
        found = self.by_plugin.setdefault(plugin, {})
        if name not in found and len(found) >= MAX_ANNOTATIONS:
            self.left_out.add(plugin)
        elif isinstance(value, str):
            if isinstance(value, Alias) and privacy is Privacy.PLAIN:
                privacy = Privacy.PERSONAL
            text = value[:MAX_TEXT] if len(value) <= MAX_TEXT else f"{value[: MAX_TEXT - 1]}…"
            found[name] = Annotation(text, privacy)
        elif value is None or isinstance(value, bool):
            found[name] = Annotation(value, privacy)
        elif isinstance(value, float):
            found[name] = Annotation(float(value), privacy)
        elif isinstance(value, int):
            if -_MAX_INTEGER <= value < _MAX_INTEGER:
                found[name] = Annotation(int(value), privacy)
            else:
                self.left_out.add(plugin)
        else:
            msg = (
                f"an annotation is text, a number, True, False or None, and {name} is of type "
                f"{type(value).__name__}"
            )
            raise TypeError(msg)
