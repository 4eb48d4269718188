"""Background work that a plugin declares in its constructor, for the server to run."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from typing import ClassVar, Protocol, TypeVar

from pexpolicy.models.hook_context import HOOK_CONTEXT
from pexpolicy.plugins.errors import PluginBuildError


class Declared(Protocol):
    """Background work that the server runs, or ``async with``."""

    declared_as: ClassVar[str]
    """How a plugin makes it, such as ``schedule(...)``."""

    name: str

    @property
    def is_open(self) -> bool:
        """True while it runs."""


T = TypeVar("T", bound=Declared)

_DECLARED: ContextVar[list[Declared] | None] = ContextVar("declared", default=None)
_IMPORTING: ContextVar[bool] = ContextVar("importing", default=False)
_MAY_DECLARE = ("", "__init__", "lifespan")
"""Hooks in which background work may be declared; the first is code outside of hooks."""


class DeclarationError(PluginBuildError):
    """Background work was declared where the server would never run it."""


@contextmanager
def collecting_declarations() -> Iterator[list[Declared]]:
    """Yield a list to which everything is added that is declared inside."""
    declared: list[Declared] = []
    token = _DECLARED.set(declared)
    try:
        yield declared
    finally:
        _DECLARED.reset(token)


@asynccontextmanager
async def entered(context: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """Enter a lifespan; raise ``DeclarationError`` for work declared meanwhile that is not open."""
    async with AsyncExitStack() as stack:
        with collecting_declarations() as declared:
            await stack.enter_async_context(context)
        for item in declared:
            if not item.is_open:
                what = item.declared_as
                where = f"in __init__, or async with {what}"
                text = f"{what} in lifespan runs nothing: write it {where}"
                raise DeclarationError.because(text)
        yield


@contextmanager
def importing() -> Iterator[None]:
    """Have ``declare`` raise while a module is imported: a reload does not import it again."""
    token = _IMPORTING.set(True)
    try:
        yield
    finally:
        _IMPORTING.reset(token)


def declare(item: Declared) -> None:
    """Declare background work of the plugin that is being built.

    Raises ``DeclarationError`` in a module that is being imported, and in a hook that is called.
    """
    (_, hook), _ = HOOK_CONTEXT.get()
    if _IMPORTING.get() or hook not in _MAY_DECLARE:
        where = "outside of a class" if _IMPORTING.get() else f"in {hook}"
        text = f"{item.declared_as} {where} runs nothing: write it in __init__"
        raise DeclarationError.because(text)
    declared = _DECLARED.get()
    if declared is not None:
        declared.append(item)


def check_function(function: object, what: str) -> None:
    """Raise ``TypeError`` for what cannot be called, such as a coroutine."""
    if inspect.iscoroutine(function):
        function.close()
        msg = f"{what} takes the function itself: write {function.__name__}, without ()"
        raise TypeError(msg)
    if not callable(function):
        msg = f"{what} takes a coroutine function, and not {type(function).__name__}"
        raise TypeError(msg)


def check_seconds(**seconds: float) -> None:
    """Raise ``TypeError`` for what is no number, and ``ValueError`` for one that is not above 0."""
    for name, value in seconds.items():
        if not isinstance(value, int | float):
            msg = f"{name} is a number of seconds, and not a {type(value).__name__}"
            raise TypeError(msg)
        if not value > 0:
            msg = f"{name} must be above 0"
            raise ValueError(msg)


def declared_by(instance: object, declared: list[Declared], kind: type[T]) -> tuple[T, ...]:
    """Return the declarations of a kind, including attributes of an instance built elsewhere.

    Raises ``DeclarationError`` for two of one name.
    """
    items = [*declared, *getattr(instance, "__dict__", {}).values()]
    found = tuple({id(item): item for item in items if isinstance(item, kind)}.values())
    for name, count in Counter(item.name for item in found).items():
        if count > 1:
            text = f"two {found[0].declared_as} have the name {name!r}: give each its own name="
            raise DeclarationError.because(text)
    return found
