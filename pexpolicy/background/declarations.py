"""Background work that a plugin declares in its constructor, for the server to run."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from functools import partial
from typing import ClassVar, Protocol, TypeVar

from pexpolicy.config.problems import PluginBuildError
from pexpolicy.models.hook_context import HOOK_CONTEXT


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
_AWAITABLE = re.compile("Any|Awaitable|Coroutine|Future|Task")
"""In the annotation of a plain function that returns what can be awaited."""
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
    """Raise ``TypeError`` for what is no coroutine function that takes no arguments.

    A plain function is accepted where it may return an awaitable: a lambda, one that is annotated
    so, and a callable of another kind.
    """
    if inspect.iscoroutine(function):
        function.close()
        msg = f"{what} takes the function itself: write {function.__name__}, without ()"
        raise TypeError(msg)
    if not callable(function):
        msg = f"{what} takes a coroutine function, and not {type(function).__name__}"
        raise TypeError(msg)
    inner = function.func if isinstance(function, partial) else function
    name = getattr(inner, "__name__", "the function")
    inner = inspect.unwrap(inner)
    if inspect.isasyncgenfunction(inner):
        msg = f"{what} takes a coroutine function, and {name} yields: write return"
        raise TypeError(msg)
    if (
        (inspect.isfunction(inner) or inspect.ismethod(inner))
        and not inspect.iscoroutinefunction(inner)
        and name != "<lambda>"
        and not _AWAITABLE.search(str(inner.__annotations__.get("return", "")))
    ):
        msg = f"{what} takes a coroutine function, and {name} is not asynchronous: write async def"
        raise TypeError(msg)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        msg = f"{what} calls {name} without arguments: {error}"
        raise TypeError(msg) from None
    except ValueError:
        pass  # some callables have no signature


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
