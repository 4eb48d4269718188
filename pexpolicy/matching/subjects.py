"""Subjects of conditions: the values of a request under one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


def of_parameter(name: str, parameter: request.Parameter[Any] | None) -> Subject:
    """Return the subject of an attribute; the alias of a path has no parameter."""
    if parameter is None:
        return Subject(name, "alias", _single(name), name)
    several = several_values(parameter.read)
    read = _several(name) if several else _single(name)
    kind = kind_of(parameter.read)
    return Subject(name, kind, read, name, parameter.secret, several=several)


def of_alias_part(name: str, part: str) -> Subject:
    """Return the subject of one part of an alias."""

    def read(request: Request) -> Values:
        alias = getattr(request, name, None)
        value = getattr(alias, part) if alias is not None else ""
        return (value,) if value else ()

    return Subject(f"{name}.{part}", "text", read, name)


def of_attribute(name: str, attribute: str) -> Subject:
    """Return the subject of a named attribute; the case of its name is ignored."""
    wanted = attribute.lower()

    def read(request: Request) -> Values:
        attributes: Mapping[str, tuple[str, ...]] = getattr(request, name, {})
        return tuple(
            value
            for key, values in attributes.items()
            if key.lower() == wanted
            for value in values
            if value
        )

    return Subject(f"{name}.{attribute}", "text", read, name, several=True)


def of_wire_name(name: str) -> Subject:
    """Return the subject of a parameter by its name in the query, documented or not."""

    def read(request: Request) -> Values:
        return tuple(value for value in request.params.getall(name, ()) if value)

    secret = name in _SECRET_NAMES
    shown = name in _SHOWN_NAMES or name.startswith(_PREFIXES)
    return Subject(f"params.{name}", "text", read, "params", secret, shown, several=True)


def of_peer() -> Subject:
    """Return the subject of the client's address."""
    return Subject("peer", "text", _single("peer"), "peer")


def subject(key: str) -> Subject:
    """Return the subject of a key such as ``local_alias.user`` or ``idp_attributes.group``.

    Raise ``UnknownSubjectError``.
    """
    name, _, part = key.partition(".")
    parameter = _KNOWN.get(name)
    if name == "params" and part:
        return of_wire_name(part)
    if name == "peer" and not part:
        return of_peer()
    if parameter is not None and named_values(parameter.read):
        if part:
            return of_attribute(name, part)
        raise UnknownSubjectError(f"{key!r} has many attributes; name one, as in {name}.department")
    if parameter is None and name != "alias":
        raise UnknownSubjectError(f"there is no {key!r}{did_you_mean(name, [*_KNOWN, 'alias'])}")
    whole = of_parameter(name, parameter)
    if not part:
        return whole
    if whole.kind != "alias" or part not in ALIAS_PARTS:
        known = f"; an alias has {', '.join(ALIAS_PARTS)}" if whole.kind == "alias" else ""
        raise UnknownSubjectError(f"{name} has no part {part!r}{known}")
    return of_alias_part(name, part)


class UnknownSubjectError(ValueError):
    """A key that no request has; the text suggests another one."""


def _single(name: str) -> Callable[[Request], Values]:
    def read(request: Request) -> Values:
        value = getattr(request, name, None)
        return () if value is None or value == "" else (value,)

    return read


def _several(name: str) -> Callable[[Request], Values]:
    def read(request: Request) -> Values:
        values: Values = getattr(request, name, ())
        return values

    return read


_KNOWN = known_parameters()
_SECRET_NAMES = frozenset(parameter.wire for parameter in _KNOWN.values() if parameter.secret)
_SHOWN_NAMES = frozenset(p.wire for p in _KNOWN.values()) - _SECRET_NAMES
_PREFIXES = tuple(p.wire for p in _KNOWN.values() if named_values(p.read))
