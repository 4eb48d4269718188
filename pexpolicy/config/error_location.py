"""The place of a validation error in a configuration: its key, and the types on the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

Location = tuple[str | int, ...]


def locate(location: Location, model: type[BaseModel]) -> tuple[Location, list[Any]]:
    """Return the key as it is written, and the annotations of the fields on the way to it.

    pydantic adds a part for the member of a union, such as ``str`` or the tag of a table.
    """
    key: list[str | int] = []
    passed: list[Any] = []
    here: list[Any] = [model]
    is_member = False
    for part in location:
        if is_member:
            is_member = False
            continue
        key.append(part)
        members = [member for found in here for member in _members_of(found)]
        fields = [table[part] for kind in members if part in (table := _fields_of(kind))]
        here = fields or [inner for kind in members for inner in get_args(kind)]
        passed += fields
        is_member = any(len(list(_members_of(found))) > 1 for found in here)
    return tuple(key), passed


def names_of(name: str, field: FieldInfo) -> list[str]:
    """Return the names under which a field is written, the usual one first."""
    alias = field.validation_alias or field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [choice for choice in choices if isinstance(choice, str)] or [name]


def _members_of(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union but ``None``, or the type itself."""
    annotation = getattr(annotation, "__value__", annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members_of(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            if member is not type(None):
                yield from _members_of(member)
    else:
        yield annotation


def _fields_of(kind: Any) -> dict[str | int, Any]:
    """Return the annotations of the fields of a table by their keys."""
    kind = get_origin(kind) or kind
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {
            written: field.annotation
            for name, field in kind.model_fields.items()
            for written in (name, *names_of(name, field))
        }
    if is_dataclass(kind) or is_typeddict(kind):
        try:
            return dict(get_type_hints(kind, include_extras=True).items())
        except (NameError, TypeError):  # a type that only type checkers know
            return {}
    return {}
