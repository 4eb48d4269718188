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


def named_values(read: request.ParameterParser[Any]) -> bool:
    """Return whether a parameter is a table of attributes by name."""
    return read is request.by_prefix


def several_values(read: request.ParameterParser[Any]) -> bool:
    """Return whether a parameter may have several values."""
    return read is request.header_values


def kind_of(read: request.ParameterParser[Any]) -> Kind:
    """Return the kind of a parameter's values."""
    if read is request.alias:
        return "alias"
    if read is request.integer:
        return "number"
    return "flag" if read is request.flag else "text"


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
    if name == "params" and part:
        shown = part in _SHOWN_NAMES or part.startswith(_PREFIXES)
        return Subject(
            key, "text", _of_wire_name(part), name, part in _SECRET_NAMES, shown, several=True
        )
    if name == "peer" and not part:
        return Subject(key, "text", _single(name), name)
    if parameter is not None and named_values(parameter.read):
        if part:
            return Subject(key, "text", _of_attribute(name, part), name, several=True)
        raise UnknownSubjectError(f"{key!r} has many attributes; name one, as in {name}.department")
    if parameter is None and name != "alias":
        raise UnknownSubjectError(f"there is no {key!r}{did_you_mean(name, [*_KNOWN, 'alias'])}")
    # The alias of a path is no parameter.
    kind = "alias" if parameter is None else kind_of(parameter.read)
    if kind == "alias" and part in ALIAS_PARTS:
        return Subject(key, "text", _of_alias_part(name, part), name)
    if part:
        known = f"; an alias has {', '.join(ALIAS_PARTS)}" if kind == "alias" else ""
        raise UnknownSubjectError(f"{name} has no part {part!r}{known}")
    several = parameter is not None and several_values(parameter.read)
    read = _several(name) if several else _single(name)
    secret = parameter is not None and parameter.secret
    return Subject(key, kind, read, name, secret, several=several)


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


def _single(name: str) -> Callable[[Request], Values]:
    def read(request: Request) -> Values:
        value = getattr(request, name, None)
        return () if value is None or value == "" else (value,)

    return read


def _several(name: str) -> Callable[[Request], Values]:
    return lambda request: getattr(request, name, ())


_KNOWN = known_parameters()
_SECRET_NAMES = frozenset(parameter.wire for parameter in _KNOWN.values() if parameter.secret)
_SHOWN_NAMES = frozenset(p.wire for p in _KNOWN.values()) - _SECRET_NAMES
_PREFIXES = tuple(p.wire for p in _KNOWN.values() if named_values(p.read))
