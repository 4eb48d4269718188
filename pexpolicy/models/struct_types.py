"""From the declared fields of a model to the type that its JSON is checked against."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, cast, get_args, get_origin

import msgspec

from pexpolicy.models.serialization import ModelBase


def strict(model: type[ModelBase]) -> type[msgspec.Struct]:
    """The type that takes the fields of a model and no others."""
    return _struct(model, forbid_unknown=True)


def lenient(model: type[ModelBase]) -> type[msgspec.Struct]:
    """The type that takes the fields of a model and passes over others, at every depth."""
    found = vars(model).get("_lenient")
    if found is None:
        found = model._lenient = _struct(model, forbid_unknown=False)  # noqa: SLF001 - kept where it belongs
    return cast("type[msgspec.Struct]", found)


def partial(model: type[ModelBase]) -> type[msgspec.Struct]:
    """The same as ``lenient`` where any field of the model itself may be missing."""
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
    """A type with each model in it replaced by the type that it is checked against."""
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
    """True for a class of checked fields."""
    return isinstance(hint, type) and issubclass(hint, ModelBase)


def models_in(hint: Any) -> Iterator[Any]:
    """The models in a type, at any depth."""
    if is_model(hint):
        yield hint
    for part in get_args(hint):
        yield from models_in(part)
