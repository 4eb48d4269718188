"""Subjects of conditions: the values of a request under one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models import request
from pexpolicy.models.request import Request, parameters_of
from pexpolicy.text import did_you_mean

Kind = Literal["text", "alias", "number", "flag"]
Values = tuple[Any, ...]
ALIAS_PARTS = ("user", "host", "scheme", "raw")
"""Parts of an alias with conditions of their own; ``raw`` is the original text."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A name that conditions test. ``read`` returns all its values, and none if it is unset."""

    key: str
    """The key in a ``when``, such as ``local_alias.user``."""
    kind: Kind
    read: Callable[[Request], Values] = field(compare=False, repr=False)
    attribute: str = ""
    """The attribute of the request that holds the values."""
    secret: bool = False
    """True for a secret, which is neither shown nor used in placeholders."""
    shown: bool = True
    """False for an unknown parameter: it may be a secret, so explanations omit its values."""
    several: bool = False
    """True if a request may have more than one value."""

    def is_of(self, request: type[Request]) -> bool:
        """Return whether requests of this type can have it."""
        return self.attribute in ("params", "peer") or hasattr(request, self.attribute)


def kind_of(parameter: request.Parameter[Any]) -> Kind:
    """Return the kind of a parameter's values."""
    if parameter.read is request.alias:
        return "alias"
    if parameter.read is request.integer:
        return "number"
    return "flag" if parameter.read is request.flag else "text"


def is_named(parameter: request.Parameter[Any]) -> bool:
    """Return whether a parameter is a table of attributes by name."""
    return parameter.read is request.by_prefix


def has_several(parameter: request.Parameter[Any]) -> bool:
    """Return whether a parameter may have several values."""
    return parameter.read is request.header_values


def known_parameters() -> dict[str, request.Parameter[Any]]:
    """Return every parameter of the six requests, by attribute name."""
    found: dict[str, request.Parameter[Any]] = {}
    for endpoint in ENDPOINTS.values():
        found |= parameters_of(endpoint.request)
    return dict(sorted(found.items()))


def subject(key: str) -> Subject:
    """Return the subject of a key such as ``local_alias.user`` or ``idp_attributes.group``.

    Raise ``UnknownSubjectError``.
    """
    name, _, part = key.partition(".")
    parameter = _KNOWN.get(name)
    # The alias of a path is no parameter.
    kind = kind_of(parameter) if parameter is not None else "alias" if name == "alias" else "text"
    if name == "params" and part:
        shown = part in _SHOWN_NAMES or part.startswith(_PREFIXES)
        read, secret = _of_wire_name(part), part in _SECRET_NAMES
        return Subject(key, "text", read, name, secret, shown, several=True)
    if parameter is not None and is_named(parameter):
        if not part:
            raise UnknownSubjectError(
                f"{key!r} has many attributes; name one, as in {name}.department"
            )
        return Subject(key, "text", _of_attribute(name, part), name, several=True)
    if parameter is None and name not in ("alias", "peer"):
        raise UnknownSubjectError(f"there is no {key!r}{did_you_mean(name, [*_KNOWN, 'alias'])}")
    if kind == "alias" and part in ALIAS_PARTS:
        return Subject(key, "text", _of_alias_part(name, part), name)
    if part:
        known = f"; an alias has {', '.join(ALIAS_PARTS)}" if kind == "alias" else ""
        raise UnknownSubjectError(f"{name} has no part {part!r}{known}")
    several = parameter is not None and has_several(parameter)
    secret = parameter is not None and parameter.secret
    return Subject(key, kind, _of_attributes(name, several), name, secret, several=several)


class UnknownSubjectError(ValueError):
    """A key that no request has; the text suggests another one."""


def _of_alias_part(name: str, part: str) -> Callable[[Request], Values]:
    def read(request: Request) -> Values:
        alias = getattr(request, name, None)
        value = getattr(alias, part) if alias is not None else ""
        return (value,) if value else ()

    return read


def _of_attribute(name: str, attribute: str) -> Callable[[Request], Values]:
    """Return what reads a named attribute; the case of its name is ignored."""
    wanted = attribute.lower()

    def read(request: Request) -> Values:
        attributes: Mapping[str, tuple[str, ...]] = getattr(request, name, {})
        found = (values for key, values in attributes.items() if key.lower() == wanted)
        return tuple(filter(None, chain.from_iterable(found)))

    return read


def _of_wire_name(name: str) -> Callable[[Request], Values]:
    """Return what reads a parameter by its name in the query, documented or not."""
    return lambda request: tuple(filter(None, request.params.getall(name, ())))


def _of_attributes(name: str, several: bool) -> Callable[[Request], Values]:  # noqa: FBT001 - private
    """Return what reads a parameter of one or several values."""
    if several:
        return lambda request: getattr(request, name, ())

    def read(request: Request) -> Values:
        value = getattr(request, name, None)
        return () if value is None or value == "" else (value,)

    return read


_KNOWN = known_parameters()
_SECRET_NAMES = frozenset(parameter.wire for parameter in _KNOWN.values() if parameter.secret)
_SHOWN_NAMES = frozenset(p.wire for p in _KNOWN.values()) - _SECRET_NAMES
_PREFIXES = tuple(p.wire for p in _KNOWN.values() if is_named(p))
