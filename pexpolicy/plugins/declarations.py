"""Background work that a plugin declares in its constructor, for the server to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_DECLARED: ContextVar[list[object] | None] = ContextVar("declared", default=None)


@contextmanager
def collecting_declarations() -> Iterator[list[object]]:
    """Yield a list to which everything is added that is declared inside."""
    declared: list[object] = []
    token = _DECLARED.set(declared)
    try:
        yield declared
    finally:
        _DECLARED.reset(token)


def declare(item: object) -> None:
    """Declare background work of the plugin that is being built."""
    declared = _DECLARED.get()
    if declared is not None:
        declared.append(item)


def declared_by(instance: object, declared: list[object], kind: type[T]) -> tuple[T, ...]:
    """Return the declarations of a kind, including attributes of an instance built elsewhere."""
    items = [*declared, *getattr(instance, "__dict__", {}).values()]
    return tuple({id(item): item for item in items if isinstance(item, kind)}.values())
