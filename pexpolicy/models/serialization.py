"""The JSON of plain values, and the types that the JSON of a model is checked against."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Union, cast, get_args, get_origin

import msgspec
import orjson

from pexpolicy.models.rules import Field, RuleGroup

MAX_ITEMS = 10_000
"""Items that are read from a mapping that is not a dictionary: it may be endless."""

OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME


class ModelBase:
    """A validated and rendered model; ``result`` is its JSON."""

    __slots__ = ("result",)

    fields: ClassVar[Mapping[str, Field]] = {}
    """The description of each field."""
    rules: ClassVar[tuple[RuleGroup, ...]] = ()
    constants: ClassVar[Mapping[str, Any]] = {}
    """Fields that are always sent."""
    consequence: ClassVar[str] = "Infinity would drop the whole result and use its own database"
    hints: ClassVar[Mapping[str, Any]] = {}
    """The type of each field."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """The value of an unset field; ``...`` for a required one."""
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
        """Return a hint for an unknown field, or nothing."""
        return ""


def render(fields: dict[str, Any]) -> bytes:
    """Return the JSON of a dictionary; raise ``TypeError`` for a value without a plain form.

    Enumerations are written by their value, and subclasses of text, numbers, lists and dictionaries
    like their base, whatever methods they override.
    """
    result = orjson.dumps(fields, plain, OPTIONS)
    if b"null" in result:
        refuse_non_finite(fields)
    return result


def refuse_non_finite(value: Any) -> None:
    """Raise ``TypeError`` for a number that JSON does not have; orjson writes null for it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"is {value}, which is not a number of JSON")
    if isinstance(value, Mapping):
        value = [item for _, item in islice(value.items(), MAX_ITEMS)]
    if isinstance(value, list | tuple):
        for item in value:
            refuse_non_finite(item)


def plain(value: Any) -> Any:
    """Return the plain form of a value that orjson does not know."""
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
    """Describe a value that cannot be written as JSON."""
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
    "Refreshed": "; write its .value",
    "bytes": "; decode it to text",
    "bytearray": "; decode it to text",
    "datetime": "; write it as text or as a number",
    "function": "; call it",
    "method": "; call it",
    "Decimal": "; write int(…)",
}


def strict(model: type[ModelBase]) -> type[msgspec.Struct]:
    """Return the type that accepts the fields of a model and no others."""
    return _struct(model, forbid_unknown=True)


def lenient(model: type[ModelBase]) -> type[msgspec.Struct]:
    """Return the type that accepts the fields of a model and ignores others, at every depth."""
    cached = vars(model).get("_lenient")
    if cached is None:
        cached = model._lenient = _struct(model, forbid_unknown=False)  # noqa: SLF001 - cached on the model
    return cast("type[msgspec.Struct]", cached)


def partial(model: type[ModelBase]) -> type[msgspec.Struct]:
    """Return the type of ``lenient`` where any field of the model itself may be missing."""
    return _struct(model, forbid_unknown=False, required=False)


def _struct(
    model: type[ModelBase], *, forbid_unknown: bool, required: bool = True
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for name, hint in model.hints.items():
        default = model.defaults[name]
        if default is ... and not required:
            hint, default = Union[hint, msgspec.UnsetType], msgspec.UNSET  # noqa: PLW2901, UP007
        kind = _wired(hint, forbid_unknown=forbid_unknown)
        fields.append((name, kind) if default is ... else (name, kind, default))
    return msgspec.defstruct(
        model.__name__, fields, kw_only=True, gc=False, forbid_unknown_fields=forbid_unknown
    )


def _wired(hint: Any, *, forbid_unknown: bool) -> Any:
    """Return a type with each model replaced by the type that it is checked against."""
    if is_model(hint):
        return hint.wire if forbid_unknown else lenient(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = tuple(_wired(arg, forbid_unknown=forbid_unknown) for arg in args)
        return Union[kinds]  # noqa: UP007 - built from a list of types
    if origin is list:
        return types.GenericAlias(list, (_wired(args[0], forbid_unknown=forbid_unknown),))
    return hint


def is_model(hint: Any) -> bool:
    """Return true for a model class."""
    return isinstance(hint, type) and issubclass(hint, ModelBase)


def models_in(hint: Any) -> Iterator[Any]:
    """Yield the models in a type, at any depth."""
    if is_model(hint):
        yield hint
    for part in get_args(hint):
        yield from models_in(part)
