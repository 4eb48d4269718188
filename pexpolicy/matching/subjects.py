"""Subjects of conditions: the values of a request under one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import chain
from typing import Any, Literal

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models import request
from pexpolicy.models.alias import SCHEMES, Alias, why_never_called
from pexpolicy.models.context import LIVE, live_values
from pexpolicy.models.request import ORIGIN, Request, parameters_of
from pexpolicy.text import did_you_mean, suggest

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
    values: tuple[str, ...] = field(default=(), compare=False)
    """All values that are known, if there are few."""

    def is_of(self, request: type[Request]) -> bool:
        """Return whether requests of this type can have it."""
        return self.attribute in ("params", LIVE) or hasattr(request, self.attribute)


LIVE_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("tenant", "service", "hosts", "waiting"), "number"),
    "stale": "flag",
}
"""What conditions that begin with ``live.`` test."""


Form = Kind | Literal["several", "named"]
_FORMS: dict[object, Form] = {
    request.alias: "alias",
    request.integer: "number",
    request.flag: "flag",
    request.header_values: "several",
    request.by_prefix: "named",
}


def form_of(parameter: request.Parameter[Any]) -> Form:
    """Return the kind of a parameter's values, or that it has several, or several by name."""
    return _FORMS.get(parameter.read, "text")


def known_parameters() -> dict[str, request.Parameter[Any]]:
    """Return every parameter of the six requests, by attribute name."""
    found: dict[str, request.Parameter[Any]] = {}
    for endpoint in ENDPOINTS.values():
        found |= parameters_of(endpoint.request)
    return dict(sorted(found.items()))


class UnknownSubjectError(ValueError):
    """A key that no request has; the text suggests another one."""


def subject(key: str) -> Subject:
    """Return the subject of a key such as ``local_alias.user`` or ``idp_attributes.group``.

    Raise ``UnknownSubjectError``.
    """
    name, _, part = key.partition(".")
    if name == "params" and part:
        declared = [
            one
            for one in _KNOWN.values()
            if one.wire == part or (form_of(one) == "named" and part.startswith(one.wire))
        ]
        secret = any(one.secret for one in declared)

        def read_wire(request: Request) -> Values:
            return tuple(filter(None, request.params.getall(part, ())))

        return Subject(key, "text", read_wire, name, secret, shown=bool(declared), several=True)
    if name == LIVE:
        if part not in LIVE_KINDS:
            raise UnknownSubjectError(f"there is no {key!r}; {LIVE} has {', '.join(LIVE_KINDS)}")
        live = live_values()
        live.used.add(key)

        def read_live(request: Request) -> Values:
            value = None if live.read is None else live.read(request, part)
            return () if value is None else (value,)

        return Subject(key, LIVE_KINDS[part], read_live, LIVE)
    if (parameter := _KNOWN.get(name)) is None:
        raise UnknownSubjectError(f"there is no {key!r}{did_you_mean(name, _KNOWN)}")
    form = form_of(parameter)
    if form == "named":
        if not part:
            text = f"{key!r} has many attributes; name one, as in {name}.department"
            raise UnknownSubjectError(text)
        return Subject(key, "text", _of_named(name, part), name, several=True)
    if part and (form != "alias" or part not in ALIAS_PARTS):
        known = f"; an alias has {', '.join(ALIAS_PARTS)}" if form == "alias" else ""
        raise UnknownSubjectError(f"{name} has no part {part!r}{known}")
    several = form == "several"
    read = _of_attribute(name, part, several=several)
    kind: Kind = "text" if part or form == "several" else form
    values = parameter.values if name != "environment" else tuple(live_values().event_sources)
    return Subject(key, kind, read, name, parameter.secret, several=several, values=values)


_WITH_PART = {"user": ("{}", "{}@x"), "host": ("x@{}",), "scheme": ()}
"""Aliases with a text as one of their parts, if any alias can have it."""


def why_never_equal(subject: Subject, text: str) -> str:
    """Return why no request has a text as the whole value of a subject, or an empty text.

    An alias is compared in its normal form.
    """
    name, _, part = subject.key.partition(".")
    parameter = _KNOWN.get(name)
    why = ""
    if subject.kind == "alias":
        why = why_never_called(Alias(text), is_name=name in ("alias", "remote_alias"))
    elif part in _WITH_PART:
        why = _why_no_part(name, part, text)
    elif name == "peer" or name.endswith(("_address", "_ip")):
        why = _why_no_address(text)
    elif subject.values:
        if text.lower() not in map(str.lower, subject.values):
            why = f"is not known to be sent{suggest(text, subject.values)}"
    elif name == "environment":
        why = "needs a table of [environments], and there is none"
    elif parameter and parameter.read is request.text and text != text.strip():
        why = f"has a blank at its end; write {text.strip()!r}"
    return why


def _why_no_address(text: str) -> str:
    try:
        normal = str(ip_address(text))
    except ValueError:
        return "is not an address; compare a network by in_subnet"
    return f"is sent as {normal!r}" if normal != text.lower() else ""


def _why_no_part(name: str, part: str, text: str) -> str:
    if part == "scheme":
        known = text.lower() in SCHEMES
        return "" if known else f"is no scheme of an alias{suggest(text, SCHEMES)}"
    for alias in (Alias(form.format(text)) for form in _WITH_PART[part]):
        is_name = name == "remote_alias" and alias.bare
        if getattr(alias, part) == text.lower() and not why_never_called(alias, is_name=is_name):
            return ""
    bare = text.strip("@ ").lower()
    return f"is no {part} of an alias" + (f"; write {bare!r}" if bare != text.lower() else "")


def _of_attribute(name: str, part: str, *, several: bool) -> Callable[[Request], Values]:
    """Return what reads a parameter of one or several values, or a part of an alias."""
    if several:
        return lambda request: getattr(request, name, ())

    def read(request: Request) -> Values:
        value = getattr(request, name, None)
        if part and value is not None:
            value = getattr(value, part)
        return () if value is None or value == "" else (value,)

    return read


def _of_named(name: str, attribute: str) -> Callable[[Request], Values]:
    """Return what reads a named attribute; the case of its name is ignored."""
    wanted = attribute.lower()

    def read(request: Request) -> Values:
        attributes: Mapping[str, tuple[str, ...]] = getattr(request, name, {})
        found = (values for key, values in attributes.items() if key.lower() == wanted)
        return tuple(filter(None, chain.from_iterable(found)))

    return read


_KNOWN: dict[str, request.Parameter[Any]] = {
    "alias": request.Parameter(request.alias),
    **dict.fromkeys(ORIGIN, request.Parameter(request.text)),
    **known_parameters(),
}
"""The alias of a path, who sends the request, and its parameters."""
