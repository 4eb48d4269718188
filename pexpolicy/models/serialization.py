"""From what a plugin put together to JSON: plain values of every kind, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, ClassVar

import msgspec
import orjson

from pexpolicy.models.rules import Field, RuleGroup

MAX_ITEMS = 10_000
"""Items that are taken from a mapping that is no dictionary: it may have no end."""

OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME


class ModelBase:
    """Something that was checked and rendered already; ``result`` is its JSON."""

    __slots__ = ("result",)

    fields: ClassVar[Mapping[str, Field]] = {}
    """What the contract says of each field."""
    rules: ClassVar[tuple[RuleGroup, ...]] = ()
    constants: ClassVar[Mapping[str, Any]] = {}
    """What is sent in any case."""
    consequence: ClassVar[str] = "Infinity would drop the whole result and use its own database"
    hints: ClassVar[Mapping[str, Any]] = {}
    """The type of each field."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """What stands for a field that was not set; ``...`` where it must be."""
    names: ClassVar[frozenset[str]] = frozenset()
    wire: ClassVar[type[msgspec.Struct]]
    secrets: ClassVar[frozenset[str]] = frozenset()
    nested_models: ClassVar[Mapping[str, type[ModelBase]]] = {}
    """The model inside each field that has one."""
    nested: ClassVar[tuple[type[ModelBase], ...]] = ()
    _lenient: ClassVar[type[msgspec.Struct]]

    result: bytes

    @classmethod
    def field_hint(cls, name: str) -> str:  # noqa: ARG003 - classes below it need the name
        """What to say of a field that this class does not have; may be empty."""
        return ""


def render(fields: dict[str, Any]) -> bytes:
    """The JSON of a dictionary; raises ``TypeError`` for what has no plain form.

    Enumerations are written by their value, subclasses of text, numbers, lists and dictionaries
    like what they are derived from, whatever methods they override.
    """
    return orjson.dumps(fields, plain, OPTIONS)


def plain(value: Any) -> Any:
    """The plain form of a value that orjson does not know."""
    kind = type(value)
    if issubclass(kind, ModelBase):
        return orjson.Fragment(value.result)
    for base, convert in _BASES:
        if issubclass(kind, base):
            return convert(value)
    if isinstance(value, Mapping):
        return dict(islice(value.items(), MAX_ITEMS))
    raise TypeError(what_is(value))


def what_is(value: Any) -> str:
    """What to say of a value that cannot be written as JSON."""
    name = type(value).__name__
    advice = _ADVICE.get(name, "")
    return f"a {name} cannot be written as JSON{advice}"


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (dict, lambda value: dict(dict.items(value))),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: list(tuple.__iter__(value))),
)
_ADVICE = {
    "generator": "; make a list of it",
    "set": "; write a list, a set has no order",
    "frozenset": "; write a list, a set has no order",
    "coroutine": "; it was not awaited",
    "bytes": "; decode it to text",
    "bytearray": "; decode it to text",
    "datetime": "; write what is meant as text or as a number",
    "function": "; call it",
    "method": "; call it",
    "Decimal": "; write int(…)",
}
