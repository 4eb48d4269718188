"""The contract of an object: fields, types and rules, extras, and the JSON that is checked."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

import msgspec
import orjson

from pexpolicy.models.rules import PLAIN, Field, Privacy, Rule
from pexpolicy.text import brief

MAX_ITEMS = 10_000
"""Items that are read from a mapping that is not a dictionary: it may be endless."""


class ModelMeta(type):
    """Gives a model without ``__slots__`` empty ones: it has no attributes but its fields."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **declared: Any
    ) -> ModelMeta:
        """Make the class."""
        return super().__new__(cls, name, bases, {"__slots__": (), **body}, **declared)


class ModelBase(metaclass=ModelMeta):
    """A validated and rendered model; ``result`` is its JSON."""

    __slots__ = ("result",)

    _contract: ClassVar[Contract]

    result: bytes


def contract_of(model: type[ModelBase]) -> Contract:
    """Return what Infinity accepts in an object of a class."""
    return model._contract  # noqa: SLF001 - kept out of the attributes that authors see


@dataclass(frozen=True, eq=False, kw_only=True)
class Contract:
    """What Infinity accepts in one object: fields, their types, and the rules between them."""

    model: type[ModelBase] = ModelBase
    """The class."""
    fields: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    """What distinguishes some of the fields."""
    rules: tuple[Rule, ...] = ()
    consequence: str = "Infinity would drop the whole result and use its own database"
    forbid_unknown: bool = False
    """True where a field that does not exist is refused in a plain dictionary too."""
    hints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The type of each field."""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The value of an unset field; ``...`` for a required one."""

    @property
    def name(self) -> str:
        """Return the name of the class."""
        return self.model.__name__

    def field(self, name: str) -> Field:
        """Return what distinguishes a field."""
        return self.fields.get(name, PLAIN)

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the names of the fields."""
        return frozenset(self.hints)

    @cached_property
    def constants(self) -> Mapping[str, Any]:
        """Return the values of the fields that are sent even if they are not set."""
        values = self.defaults.items()
        return {name: value for name, value in values if value not in (..., msgspec.UNSET)}

    @cached_property
    def secrets(self) -> frozenset[str]:
        """Return the names of the secret fields."""
        return frozenset(n for n in self.names if self.field(n).privacy is Privacy.SECRET)

    @cached_property
    def nested_models(self) -> Mapping[str, Contract]:
        """Return the contract of the object inside each field that has one."""
        return {
            name: contract_of(model)
            for name, hint in self.hints.items()
            for model in models_in(hint)
        }

    @cached_property
    def nested(self) -> tuple[Contract, ...]:
        """Return the contracts of all inner objects, at any depth."""
        direct = self.nested_models.values()
        return tuple(dict.fromkeys(one for inner in direct for one in (inner, *inner.nested)))

    @cached_property
    def wire(self) -> type[msgspec.Struct]:
        """Return the type that accepts the fields of the object and no others."""
        return _struct(self, "wire")

    @cached_property
    def decode(self) -> Callable[[bytes], Any]:
        """Return the decoder of ``wire``; it raises ``msgspec.ValidationError``."""
        return msgspec.json.Decoder(self.wire).decode

    @cached_property
    def lenient(self) -> type[msgspec.Struct]:
        """Return the type that accepts these fields, and ignores others at any depth."""
        return _struct(self, "lenient")


def render(fields: dict[str, Any]) -> bytes:
    """Return the JSON of a dictionary; raise ``TypeError`` for a value without a plain form.

    Enumerations are written by their value, and subclasses of text, numbers, lists and dictionaries
    like their base, whatever methods they override.
    """
    result = orjson.dumps(fields, plain, orjson.OPT_PASSTHROUGH_DATETIME)
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
    if issubclass(kind, tuple):
        return list(tuple.__iter__(value))
    if isinstance(value, Mapping):
        return dict(islice(value.items(), MAX_ITEMS))
    raise TypeError(f"a {kind.__name__} cannot be written as JSON")


def _struct(model: Contract, form: str) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for name, hint in model.hints.items():
        kind, default = in_form(hint, form), model.defaults[name]
        fields.append((name, kind) if default is ... else (name, kind, default))
    only = form == "wire"
    return msgspec.defstruct(model.name, fields, kw_only=True, gc=False, forbid_unknown_fields=only)


def in_form(hint: Any, form: str) -> Any:
    """Return a type with each model replaced by its ``wire`` or ``lenient`` type."""
    if is_model(hint):
        return getattr(contract_of(hint), form)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = tuple(in_form(arg, form) for arg in args)
        return Union[kinds]  # noqa: UP007 - built from a list of types
    if origin is list:
        return types.GenericAlias(list, (in_form(args[0], form),))
    return hint


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types that a field may have, without the one of an unset field."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(arg for arg in get_args(hint) if arg is not msgspec.UnsetType)
    return (hint,)


def is_model(hint: Any) -> bool:
    """Return true for a model class."""
    return isinstance(hint, type) and issubclass(hint, ModelBase)


def models_in(hint: Any) -> Iterator[Any]:
    """Yield the models in a type, at any depth."""
    if is_model(hint):
        yield hint
    for part in get_args(hint):
        yield from models_in(part)


def objects_in(
    model: Contract, fields: dict[str, Any], place: str = ""
) -> Iterator[tuple[str, Contract, dict[str, Any]]]:
    """Yield the place, the contract and the fields of an object, and of each inside of it."""
    yield place, model, fields
    for name, inner in model.nested_models.items():
        value: Any = fields.get(name)
        many = isinstance(value, list)
        for number, item in enumerate(value if many else (value,)):
            if isinstance(item, dict):
                at = f"[{number}]" if many else ""
                yield from objects_in(inner, item, f"{place}{name}{at}.")


def broken_rules(
    model: Contract, item: Any, names: Container[str], place: str = ""
) -> Iterator[tuple[str, Rule, Any]]:
    """Yield place, rule and value of each broken rule of a model and its nested models.

    ``names`` are those of the fields that may be set. A rule that reads a field that ``item`` does
    not have, as it is reported already, is not broken.
    """
    for rule in model.rules:
        if rule.field in names and (value := getattr(item, rule.field)) is not msgspec.UNSET:
            try:
                is_broken = rule.broken(item)
            except AttributeError:
                continue
            if is_broken:
                yield place, rule, value
    for name, inner in model.nested_models.items():
        value = getattr(item, name, None)
        for number, part in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(part, msgspec.Struct):
                at = "" if number is None else f"[{number}]"
                yield from broken_rules(inner, part, inner.names, f"{place}{name}{at}.")


def mask_secrets(model: Contract, fields: dict[str, Any]) -> list[str]:
    """Replace secret and unknown fields by ``***``, at any depth; return their names."""
    masked: list[str] = []
    for _, inner, found in objects_in(model, fields):
        names = [name for name in found if name not in inner.names or name in inner.secrets]
        found.update(dict.fromkeys(names, "***"))
        masked += names
    return masked


@dataclass(frozen=True, slots=True)
class Extras:
    """The extras that ``[infinity]`` of the configuration allows, always with a warning.

    ``fields`` are names at any depth, ``values`` further words of an enumerated field.
    """

    fields: frozenset[str] = frozenset()
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.fields or self.values)

    def has(self, name: str, value: object) -> bool:
        """True for a word that is listed for this field."""
        # A subclass of a plugin may run its own code where it is hashed or compared.
        return type(value) is str and value in self.values.get(name, ())

    def remove_from(self, model: Contract, fields: dict[str, Any]) -> list[str]:
        """Remove extra fields, and replace extra words by known ones, at any depth; return a
        warning for each. The rest is checked as usual.
        """
        warnings: list[str] = []
        for place, inner, found in objects_in(model, fields):
            for name, value in [*found.items()]:
                words = get_args(_words(inner, name)) if self.has(name, value) else ()
                if words and value not in words:
                    text = f"{brief(value)} is sent as [infinity] extra_values lists it"
                elif name in self.fields and name not in inner.names:
                    text = "is sent as [infinity] extra_fields lists it"
                else:
                    continue
                warnings.append(f"{place}{name}: {text}")
                del found[name]
                if inner.defaults.get(name) is ...:
                    found[name] = words[0]
        return warnings


NO_EXTRAS = Extras()


def enumerated_fields(model: Contract) -> set[str]:
    """Return the names of the fields with a fixed set of values, those of inner objects too."""
    every = (model, *model.nested)
    return {name for one in every for name in one.hints if _words(one, name) is not None}


def _words(model: Contract, name: str) -> Any:
    """Return the type of an enumerated field, or ``None``."""
    for kind in alternatives(model.hints.get(name)):
        if get_origin(kind) is Literal:
            return kind
    return None
