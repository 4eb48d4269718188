"""The request: typed views of the parameters that Infinity sends.

A request never fails to parse: Infinity adds parameters with almost every release, and a call must
not be lost to one that cannot be read. So a request keeps every parameter in its original form, and
parses a typed attribute at first use: malformed, empty and absent values are unset. A plugin reads
two or three of some forty parameters; parsing all of them would be most of the work of a call.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NoReturn,
    TypeVar,
    cast,
    overload,
)

import msgspec
from msgspec import UNSET, UnsetType
from multidict import MultiMapping

from pexpolicy.models.alias import Alias, passwords
from pexpolicy.models.context import HOOK_CONTEXT, UNKNOWN
from pexpolicy.models.rules import Confidence, Privacy
from pexpolicy.text import did_you_mean

SHORTEST = 4
"""Characters of the shortest undeclared value: shorter ones are parts of other words."""
MAX_VALUES = 50
"""Undeclared values and passwords that are looked for; a call of Infinity has one or two."""
MAX_SECRETS = 50
"""Secrets that are replaced in one text: each takes a pass over it."""
_IDP_ATTRIBUTE = "idp_attribute_"
_WORDS = frozenset(("true", "false", "none", "null"))
AnnotationValue = str | int | float | bool | None
MAX_ANNOTATIONS = 16
"""Annotations of one plugin for one call."""
MAX_NAME = 64
"""Characters of a name."""
MAX_TEXT = 250
"""Characters of a text, as of the fields that Infinity sends."""
_MAX_INTEGER = 2**63


class Annotation(NamedTuple):
    """One value, and what it tells about people."""

    value: AnnotationValue
    privacy: Privacy


class Annotations:
    """The annotations of one call, by plugin and name.

    Callers choose some of the text, so what is too much is shortened or left out: no hook may fail
    because of it.
    """

    __slots__ = ("by_plugin", "left_out")

    def __init__(self) -> None:
        self.by_plugin: dict[str, dict[str, Annotation]] = {}
        self.left_out: set[str] = set()
        """Plugins with more annotations than fit, or a number too large for JSON."""

    def add(
        self, plugin: str, name: str, value: AnnotationValue | UnsetType, privacy: Privacy
    ) -> None:
        """Add one annotation, or replace the one of the same name; nothing for ``UNSET``.

        Raises ``ValueError`` for a name of other characters, or of more than 64, and
        ``TypeError`` for a value of another type.
        """
        if not all(map(str.isidentifier, name.split("."))) or len(name) > MAX_NAME:
            rule = "named like a variable or an attribute of one"
            msg = f"an annotation is {rule}, up to {MAX_NAME} characters: {name!r}"
            raise ValueError(msg)
        if value is UNSET:
            return
        if not (value is None or isinstance(value, str | int | float)):
            kind = type(value).__name__
            text = "an annotation is text, a number, True, False or None"
            raise TypeError(f"{text}, and {name} is of type {kind}")
        found = self.by_plugin.setdefault(plugin, {})
        is_large = isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER
        if is_large or (name not in found and len(found) >= MAX_ANNOTATIONS):
            self.left_out.add(plugin)
            return
        if isinstance(value, Alias) and privacy is Privacy.PLAIN:
            privacy = Privacy.PERSONAL
        if isinstance(value, str):
            value = value[:MAX_TEXT] if len(value) <= MAX_TEXT else f"{value[: MAX_TEXT - 1]}…"
        elif value is not None and not isinstance(value, bool):
            value = float(value) if isinstance(value, float) else int(value)
        found[name] = Annotation(value, privacy)


T = TypeVar("T")
Role = Literal["chair", "guest", "unknown"]
UNSET_WORDS = ("", "none", "null")
POLICY_PREFIX = "/policy/v1/"
"""The beginning of the path after the base path; no base path contains it."""
MAX_DIGITS = 20
"""Maximum length of a number; longer ones are malformed."""

Params = MultiMapping[str]
"""All parameters of a request, by their names on the wire; one name may have several values."""


class Request:
    """A request of a Conferencing Node; frozen. Its attributes are its typed parameters."""

    since: ClassVar[str] = ""
    """The first version of Infinity that is known to make this request."""

    params: Params
    """All parameters by their names on the wire, unknown ones included."""

    peer: str | None = None
    """Address of the client: the Conferencing Node, or the proxy in front of the server."""

    environment: str | None = None
    """The platform that asks: NAME of ``[environments.NAME]``; ``None`` where no table fits."""

    decision_id: str = ""
    """The ID of the call, as in its audit line; a UUID version 7."""

    dry_run: bool = False
    """True where nothing may change because of the call: for `explain`, `test`, `replay`, *Try* and
    plugins with `mode = "shadow"`. Leases, counters and stores then only read.
    """

    notes: list[str] | None = None
    """A list for the reasons of a plugin during ``pexpolicy explain``; otherwise ``None``, so that
    other calls cost nothing.
    """

    def __init__(self, params: Params, alias: str = "") -> None:
        self.__dict__["params"] = params

    def annotate(
        self,
        privacy: Privacy = Privacy.PLAIN,
        /,
        *unnamed: Never,
        **values: AnnotationValue | UnsetType,
    ) -> None:
        """Add values to the audit line of the call, below ``annotations`` and the plugin's name.

        ``request.annotate(Privacy.PERSONAL, caller="Anna")`` marks what ``[privacy] personal``
        applies to; an ``Alias``, and a text that equals a personal parameter of the request, need
        no mark. A plugin has 16 annotations for a call; further ones are left out, and text is
        shortened to 250 characters; an unset field of a decision is left out. Without effect after
        the reply, as in ``on_decision``. A thread that does not inherit the context of the hook, as
        that of ``asyncio.to_thread`` does, adds to ``unknown``.

        Raises ``TypeError`` for a value that is not text, a number, a boolean or ``None``.
        """
        if unnamed or not isinstance(privacy, Privacy):
            raise TypeError(
                "annotate takes names and values: write annotate(ticket=4711), or "
                "annotate(Privacy.PERSONAL, caller=name)"
            )
        annotations: Annotations = self.__dict__.setdefault("_annotations", Annotations())
        (plugin, _), _ = HOOK_CONTEXT.get()
        for name, value in values.items():
            annotations.add(plugin or UNKNOWN, name, value, privacy)

    @property
    def raw_target(self) -> str:
        """Path and query, not decoded, from ``/policy/v1`` on.

        For plugins that forward a request. Empty for a request without a URL.
        """
        target = self.__dict__.get("_target", "")
        target = target if isinstance(target, str) else target()
        return target[max(target.find(POLICY_PREFIX), 0) :]

    if not TYPE_CHECKING:  # a type checker knows the attributes, and reports others

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse an unknown attribute. Looked up for those alone, so others cost nothing."""
            hint = did_you_mean(name, parameters_of(type(self))) or "; all is in request.params"
            msg = f"a {type(self).__name__} has no attribute {name!r}{hint}"
            raise AttributeError(msg, name=name, obj=self)

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        raise AttributeError(f"a request is frozen: {type(self).__name__}.{name} cannot be set")

    __delattr__ = __setattr__

    def __repr__(self) -> str:
        secrets = secrets_of(self)
        shown = [
            f"{name}={'***' if value in secrets else value!r}"
            for name, value in self.params.items()
            if value
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


ORIGIN = ("peer", "environment")
"""Attributes of a request that are no parameters: who sends it."""


def set_origin(
    request: Request,
    target: str | Callable[[], str],
    peer: str | None = None,
    environment: str | None = None,
) -> None:
    """Store the raw target of the HTTP request, or what makes it, and who sends it."""
    request.__dict__.update(_target=target, peer=peer, environment=environment)


def alias_of(request: Request) -> str:
    """Return the alias in the path of a request as written; empty if there is none."""
    alias: Alias | None = request.__dict__.get("alias")
    return "" if alias is None else alias.raw


def set_call(request: Request, decision_id: str, *, dry_run: bool) -> None:
    """Store the ID of the call, and whether nothing may change because of it."""
    request.__dict__.update(decision_id=decision_id, dry_run=dry_run)


def dry_copy(request: Request) -> Request:
    """Return a copy for a dry run without annotations, while hooks still use the request."""
    copied = object.__new__(type(request))
    copied.__dict__.update(request.__dict__, dry_run=True)
    clear_annotations(copied)
    return copied


def enable_notes(request: Request) -> list[str]:
    """Return a new list that plugins find as ``notes``."""
    notes: list[str] = []
    request.__dict__["notes"] = notes
    return notes


def collect_errors(request: Request) -> list[BaseException]:
    """Return a new list that what plugins raise is added to, in tests and dry runs."""
    errors: list[BaseException] = []
    request.__dict__["_errors"] = errors
    return errors


def errors_of(request: Request) -> list[BaseException] | None:
    """Return the list of ``collect_errors``, or ``None``."""
    return request.__dict__.get("_errors")


def annotations_of(request: Request) -> Annotations | None:
    """Return what plugins added to the audit line by ``annotate``; ``None`` where none did."""
    return request.__dict__.get("_annotations")


def clear_annotations(request: Request) -> None:
    """Remove what ``annotate`` added, before the same request is asked again in a test."""
    request.__dict__.pop("_annotations", None)


def secrets_of(request: Request) -> list[str]:
    """Return the secrets in a request, to keep them out of logs."""
    return [
        value
        for parameter in parameters_of(type(request)).values()
        if parameter.secret
        for value in request.params.getall(parameter.wire, ())
        if value
    ]


def withheld_values(request: Request) -> list[str]:
    """Return the secrets of a request, the passwords in its URIs, and the values of parameters that
    are not declared: these may be anything, so the audit leaves them out too.
    """
    return [*secrets_of(request), *islice(_further_values(request), MAX_VALUES)]


def _further_values(request: Request) -> Iterator[str]:
    declared = {header_name(p.wire) for p in parameters_of(type(request)).values()}
    shown: list[str] = []
    undeclared: list[str] = []
    for name, value in request.params.items():
        yield from passwords(value)
        is_declared = header_name(name) in declared or name.startswith(_IDP_ATTRIBUTE)
        (shown if is_declared else undeclared).append(value)
    for value in undeclared:
        is_word = len(value) < SHORTEST or value.lower() in _WORDS
        if not is_word and not any(value in other for other in shown):
            yield value


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``***`` for each of the secrets, in any case; longest first.

    A text with more than ``MAX_SECRETS`` of them, which a repeated parameter makes, is ``***``.
    """
    folded = text.casefold()
    held = (secret for secret in dict.fromkeys(secrets) if secret.casefold() in folded)
    found = list(islice(held, MAX_SECRETS + 1))
    if len(found) > MAX_SECRETS:
        return "***"
    for secret in sorted(found, key=len, reverse=True):
        text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text


def parameters_of(kind: type[Request]) -> dict[str, Parameter[Any]]:
    """Return every typed parameter of a kind of request, by attribute name."""
    return {
        name: value
        for base in reversed(kind.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, Parameter)
    }


ParameterParser = Callable[[Params, str], T]
"""Parses one typed value of the parameters; never raises on what may be sent."""


@dataclass(eq=False)
class Parameter(Generic[T]):
    """One parameter as a typed attribute of a request, parsed at first use.

    A docstring after it describes it, for editors and for the reference.
    ``wire`` is the name on the wire where it differs from the attribute; ``values`` are the known
    values; ``since`` is the first version of Infinity that is known to send it, where the request
    is older.
    """

    read: ParameterParser[T]
    _: KW_ONLY
    wire: str = ""
    values: tuple[str, ...] = ()
    since: str = ""
    mark: Confidence = Confidence.TRANSCRIBED
    privacy: Privacy = Privacy.PLAIN
    name: str = ""

    @property
    def secret(self) -> bool:
        """True for a value that is never stored and never shown."""
        return self.privacy is Privacy.SECRET

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
    """Return the text, or ``None`` for an empty or absent one and for the word ``None``."""
    value = params.get(name)
    return value if value and value != "None" else None


def typed(params: Params, name: str) -> str | None:
    """Return text typed by a person, or ``None`` for an empty or absent one."""
    return params.get(name) or None


def flag(params: Params, name: str) -> bool | None:
    """Parse ``True`` and ``False`` in any case; other text is unset."""
    word = (params.get(name) or "").strip().lower()
    return True if word == "true" else False if word == "false" else None


def integer(params: Params, name: str) -> int | None:
    """Parse a whole number in ASCII digits; other text is unset."""
    digits = (params.get(name) or "").strip()
    if len(digits) > MAX_DIGITS or not digits.removeprefix("-").isdigit() or not digits.isascii():
        return None
    return int(digits)


def alias(params: Params, name: str) -> Alias:
    """Return the alias in its normal form; the empty alias where it is absent."""
    return Alias(params.get(name) or "")


def word(params: Params, name: str) -> str | None:
    """Return a keyword in lower case, without quotes: the documented ``auth_type`` has them."""
    found = (params.get(name) or "").strip().strip('"').lower()
    return None if found in UNSET_WORDS else found


def role(params: Params, name: str) -> Role | None:
    """Return a role, or ``None`` for empty, ``None``, ``null``, absent and unknown words."""
    value = word(params, name)
    return cast("Role", value) if value in ("chair", "guest", "unknown") else None


def known_role(params: Params, name: str) -> Literal["chair", "guest"] | None:
    """Return a role, or ``None`` where it is ``unknown`` as well."""
    value = role(params, name)
    return None if value == "unknown" else value


def header_values(params: Params, name: str) -> tuple[str, ...]:
    """Return the values of a parameter that Infinity derives from a SIP header.

    Its name is matched without case and with ``_`` equal to ``-``. Depending on the version of
    Infinity, its value is one text, several texts, or a JSON list of texts.
    """
    wanted = header_name(name)
    values: list[str] = []
    for key, value in params.items():
        if len(key) == len(name) and header_name(key) == wanted:
            values += _listed(value)
    return tuple(values)


def header_name(name: str) -> str:
    """Return the name of a parameter in lower case, with ``-`` for ``_``."""
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
    """Return the values of parameters by their names without the prefix that they begin with."""
    names = [name for name in params if name.startswith(prefix)]
    return {name.removeprefix(prefix): tuple(params.getall(name)) for name in names}


class CallFacts(msgspec.Struct, kw_only=True):
    """What is known of a call in addition to its request and its answer."""

    credential: int = 0
    """The number of the credential that it sent, if there are several."""
    policy_hash: str = ""
    """The configuration that answers it."""
    began: float = msgspec.field(default_factory=time.perf_counter)
    """``time.perf_counter()`` when it came."""

    def seconds(self) -> float:
        """Return the time since it came."""
        return time.perf_counter() - self.began
