"""Typed views of the parameters that Infinity sends.

A request never fails to parse: Infinity adds parameters with almost every release, and a call must
not be lost to one that we cannot read. So a request keeps every parameter as it came, and each
typed attribute is read from them when a plugin asks for it: malformed, empty and absent values are
unset. Nothing is validated, so there is nothing for a validation library to do; and a plugin looks
at two or three of some forty parameters, so reading them all for each call would be most of the
work of a call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, NoReturn, Protocol, TypeVar, cast, overload

from multidict import MultiMapping

from pexpolicy.models.alias import Alias
from pexpolicy.models.rules import Confidence, Privacy

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Role = Literal["chair", "guest", "unknown"]
UNSET_WORDS = ("", "none", "null")
TARGET_BEGINS = "/policy/v1/"
"""Where the part of a target begins that every policy server knows; no base path holds it."""
MAX_DIGITS = 20
"""Digits of a number; longer ones are malformed."""

Params = MultiMapping[str]
"""All parameters of a request, by their names on the wire; one name may have several values."""


class Request:
    """One question of a Conferencing Node; frozen. Its attributes are its parameters, typed."""

    since: ClassVar[str] = ""
    """The first version of Infinity that is known to make this request."""

    params: Params
    """Everything that came, by the names on the wire, unknown parameters included."""

    peer: str | None = None
    """Address of whoever asked us: the Conferencing Node, or the proxy before us."""

    notes: list[str] | None = None
    """Where a plugin may say why it decides as it does, when somebody asked for an explanation;
    ``None`` in every other call, so that nobody pays for it.
    """

    def __init__(self, params: Params) -> None:
        self.__dict__["params"] = params

    def set_origin(self, target: str, peer: str | None = None) -> None:
        """Keep the target of the HTTP request as it was written, and who sent it; for whoever
        received it.
        """
        self.__dict__["_written"] = target
        self.__dict__["peer"] = peer

    def enable_notes(self) -> list[str]:
        """A list for notes, empty so far, that plugins find as ``notes``."""
        notes: list[str] = []
        self.__dict__["notes"] = notes
        return notes

    @property
    def raw_target(self) -> str:
        """Path and query as they came, nothing decoded, from ``/policy/v1`` on.

        For whoever passes a request on. Empty for a request that came by no URL.
        """
        written: str = self.__dict__.get("_written", "")
        return written[max(written.find(TARGET_BEGINS), 0) :]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"a request is frozen: {type(self).__name__}.{name} cannot be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = f"a request is frozen: {type(self).__name__}.{name} cannot be deleted"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        named = ", ".join(f"{name}={value!r}" for name, value in self.params.items() if value)
        return f"{type(self).__name__}({named})"

    def secrets(self) -> list[str]:
        """The secrets that came with the request, to be kept out of what is written down."""
        found = [self.params.get(p.wire) for p in self.parameters().values() if p.secret]
        return [value for value in found if value]

    @classmethod
    def parameters(cls) -> dict[str, Parameter[Any]]:
        """Every typed parameter of this request, by attribute name."""
        return {
            name: value
            for base in reversed(cls.__mro__)
            for name, value in vars(base).items()
            if isinstance(value, Parameter)
        }


class ParameterParser(Protocol[T_co]):
    """Reads one typed value from the parameters; never raises on what may be sent."""

    def __call__(self, params: Params, name: str, /) -> T_co:
        """The value, or what stands for unset."""


class Parameter(Generic[T]):
    """One parameter as a typed attribute of a request, read at first use and then kept.

    ``wire`` is the name on the wire where it differs from the attribute; ``values`` what Infinity
    is known to send; ``since`` the first version of Infinity that is known to send it, where the
    request is older; ``absent`` what the attribute is when nothing or something malformed came.
    """

    def __init__(  # noqa: PLR0913 - each is a column of the reference
        self,
        read: ParameterParser[T],
        doc: str,
        *,
        wire: str = "",
        values: tuple[str, ...] = (),
        since: str = "",
        absent: str = "None",
        mark: Confidence = Confidence.TRANSCRIBED,
        privacy: Privacy = Privacy.PLAIN,
    ) -> None:
        self.read = read
        self.doc = doc
        self.wire = wire
        self.values = values
        self.since = since
        self.absent = absent
        self.mark = mark
        self.privacy = privacy
        self.secret = privacy is Privacy.SECRET
        self.name = wire
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.wire = self.wire or name

    @overload
    def __get__(self, request: None, owner: type) -> Parameter[T]: ...
    @overload
    def __get__(self, request: Request, owner: type) -> T: ...
    def __get__(self, request: Request | None, owner: type) -> T | Parameter[T]:
        if request is None:
            return self
        value = self.read(request.params, self.wire)
        request.__dict__[self.name] = value
        return value


def text(params: Params, name: str) -> str | None:
    """The text, or ``None`` for empty and absent ones and for the word ``None``."""
    value = params.get(name)
    return value if value and value != "None" else None


def typed(params: Params, name: str) -> str | None:
    """The text that somebody typed, or ``None`` for an empty or absent one."""
    return params.get(name) or None


def flag(params: Params, name: str) -> bool | None:
    """``True`` and ``False`` in any case; all else is unset."""
    word = (params.get(name) or "").strip().lower()
    return True if word == "true" else False if word == "false" else None


def integer(params: Params, name: str) -> int | None:
    """A whole number in ASCII digits; all else is unset."""
    digits = (params.get(name) or "").strip()
    if len(digits) > MAX_DIGITS or not digits.removeprefix("-").isdigit() or not digits.isascii():
        return None
    return int(digits)


def alias(params: Params, name: str) -> Alias:
    """The alias in its normal form; the empty alias where none came."""
    return Alias(params.get(name) or "")


def word(params: Params, name: str) -> str | None:
    """A keyword in lower case, without quotes: the documented ``auth_type`` has them."""
    found = (params.get(name) or "").strip().strip('"').lower()
    return None if found in UNSET_WORDS else found


def role(params: Params, name: str) -> Role | None:
    """A role; empty, ``None``, ``null``, absent and unknown words are all ``None``."""
    value = word(params, name)
    return cast("Role", value) if value in ("chair", "guest", "unknown") else None


def known_role(params: Params, name: str) -> Literal["chair", "guest"] | None:
    """The same where a role that is not known is none."""
    value = role(params, name)
    return None if value == "unknown" else value


def header_values(params: Params, name: str) -> tuple[str, ...]:
    """The values of a parameter that Infinity derives from a SIP header.

    Its name is matched without case and with ``_`` equal to ``-``; its value is one text, several
    of them, or a JSON list of texts, as different versions of Infinity send it.
    """
    wanted = header_name(name)
    values: list[str] = []
    for key, value in params.items():
        if len(key) == len(name) and header_name(key) == wanted:
            values += _listed(value)
    return tuple(values)


def header_name(name: str) -> str:
    """Return a parameter's name as one name of a SIP header, whatever its case and ``_``."""
    return name.lower().replace("_", "-")


def _listed(value: str) -> list[str]:
    if value.startswith("["):
        try:
            decoded = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
        if isinstance(decoded, list):
            return [item for item in decoded if isinstance(item, str) and item]
    return [value] if value else []


def by_prefix(params: Params, prefix: str) -> Mapping[str, tuple[str, ...]]:
    """The parameters whose names begin with a prefix, without it; every value of a repeated one."""
    found: dict[str, tuple[str, ...]] = {}
    for key, value in params.items():
        if key.startswith(prefix):
            name = key[len(prefix) :]
            found[name] = (*found.get(name, ()), value)
    return found
