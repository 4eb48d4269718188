"""The language of local policy scripts: Jinja's sandbox with Infinity's names and nothing else.

The sandbox limits what a script can reach. What it may use of time and memory is limited by the
process that it runs in: see ``worker``. Where the documentation of Pexip leaves a detail open, the
comment says which form was chosen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from ipaddress import ip_address, ip_network
from typing import Any, NoReturn
from urllib.parse import parse_qs, quote, unquote, urlsplit
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import SandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace
from markupsafe import Markup

from pexpolicy.text import did_you_mean


class UnknownValueError(Exception):
    """A script read a variable that is not known here."""


class UnknownValue:
    """Stands for a variable that is not known: whatever reads it raises ``UnknownValueError``.

    A script that does not depend on it runs as on a node.
    """

    __slots__ = ("_unknown_name",)

    def __init__(self, name: str) -> None:
        self._unknown_name = name

    def touch(self, *_: object) -> NoReturn:
        """Raise ``UnknownValueError``."""
        raise UnknownValueError(f"it reads {self._unknown_name}, which only the node knows")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.touch()

    __bool__ = __len__ = __iter__ = __str__ = __hash__ = __int__ = __float__ = touch
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = touch
    __getitem__ = __contains__ = __call__ = touch
    __add__ = __radd__ = __mod__ = __rmod__ = __mul__ = __rmul__ = touch


_SAFE_LINK = re.compile(
    r"https?://[\w.-]*safelinks\.protection\.outlook\.com/[^\s\"'<>]*", re.IGNORECASE
)
_PROOFPOINT = re.compile(
    r"https?://urldefense(?:\.proofpoint)?\.(?:com|us)/v[123]/[^\s\"'<>]*", re.IGNORECASE
)
_RUNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_UUID_BYTES = 16


class PolicyNotAppliedError(Exception):
    """``pex_require_min_length`` found a value that is too short."""


class ScriptValueError(Exception):
    """A filter or function cannot use a value."""


def pex_hash(value: object) -> str:
    """Return the SHA-256 of a text as a decimal number, without leading zeros."""
    return str(int.from_bytes(hashlib.sha256(str(value).encode()).digest(), "big"))


def _regex_replace(value: object, find: str, replace: str) -> str:
    try:
        return re.sub(str(find), str(replace), str(value))
    except (re.error, IndexError) as error:
        raise ScriptValueError(f"pex_regex_replace: {find!r} cannot be used: {error}") from None


def _require_min_length(value: object, length: int) -> str:
    text = str(value)
    if len(text) < length:
        raise PolicyNotAppliedError(f"{len(text)} characters, and {length} are required")
    return text


def _to_json(value: object) -> str:
    if isinstance(value, Undefined):
        raise ScriptValueError(f"pex_to_json: {_name_of(value)} is undefined")
    try:
        return json.dumps(value, default=_without_json)
    except (TypeError, ValueError, RecursionError) as error:
        raise ScriptValueError(f"pex_to_json: {error}") from None


def _without_json(value: object) -> NoReturn:
    if isinstance(value, UnknownValue):  # inside of a list or an object
        value.touch()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _to_uuid(value: object) -> str:
    try:
        found = base64.b64decode(str(value), validate=True)
    except ValueError:
        raise ScriptValueError("pex_to_uuid: the value is not base64") from None
    if len(found) != _UUID_BYTES:
        raise ScriptValueError(f"pex_to_uuid: {len(found)} bytes, and a UUID has {_UUID_BYTES}")
    # The order of Active Directory, whose objectGUID is what the filter is for.
    return str(UUID(bytes_le=found))


def _update(value: object, changes: Mapping[str, Any]) -> dict[str, Any]:
    for given in (value, changes):
        if isinstance(given, UnknownValue):
            given.touch()
    if not isinstance(value, Mapping) or not isinstance(changes, Mapping):
        other = value if not isinstance(value, Mapping) else changes
        name = _name_of(other) if isinstance(other, Undefined) else type(other).__name__
        raise ScriptValueError(f"pex_update: needs two objects, and {name} is none")
    return {**value, **changes}


def _proofpoint_target(link: str) -> str:
    version = urlsplit(link).path[1:3]
    if version == "v3":
        return _proofpoint_v3(link)
    target = _query_value(link, "u", raw=version == "v2")
    if version == "v2" and target != link:
        target = unquote(target.translate(str.maketrans("-_", "%/")))
    return target


def _proofpoint_v3(link: str) -> str:
    """Return the target of ``/v3/__URL__;BASE64!!``: each ``*`` stands for replaced bytes."""
    found = re.match(r"https?://[^/]+/v3/__(.+?)__;(.*?)!", link)
    if found is None:
        return link
    target, encoded = found[1], found[2]
    try:
        kept = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return link
    used = 0

    def replaced(star: re.Match[str]) -> str:
        nonlocal used
        length = _RUNS.index(star[1]) + 2 if star[1] else 1
        part, used = kept[used : used + length], used + length
        return part

    return re.sub(r"\*(?:\*([A-Za-z0-9_-]))?", replaced, target)


def _query_value(link: str, name: str, *, raw: bool = False) -> str:
    query = urlsplit(link).query
    if raw:
        pairs = (pair.partition("=") for pair in query.split("&"))
        return next((value for key, _, value in pairs if key == name), link)
    return parse_qs(query).get(name, [link])[0]


def _name_of(value: Undefined) -> str:
    return str(value._undefined_name or "a value")  # noqa: SLF001 - its only public form is an error


TEXT_FILTERS: Mapping[str, Callable[..., Any]] = {
    "pex_base64": lambda value: base64.b64encode(str(value).encode()).decode(),
    "pex_clean_phone_number": lambda value: re.sub("[^+0-9]", "", str(value)),
    "pex_hash": pex_hash,
    "pex_head": lambda value, length: str(value)[: max(length, 0)],
    "pex_md5": lambda value: hashlib.md5(str(value).encode(), usedforsecurity=False).hexdigest(),
    "pex_regex_replace": _regex_replace,
    "pex_require_min_length": _require_min_length,
    "pex_reverse": lambda value: str(value)[::-1],
    "pex_safelinks_decode": lambda value: _SAFE_LINK.sub(
        lambda found: _query_value(found[0], "url"), str(value)
    ),
    "pex_strlen": lambda value: len(str(value)),
    "pex_tail": lambda value, length: str(value)[-length:] if length > 0 else "",
    "pex_to_json": _to_json,
    "pex_to_uuid": _to_uuid,
    "pex_update": _update,
    "pex_url_decode": lambda value: unquote(str(value)),
    "pex_url_encode": lambda value: quote(str(value), safe=""),
    "pex_urldefense_decode": lambda value: _PROOFPOINT.sub(
        lambda found: _proofpoint_target(found[0]), str(value)
    ),
}
"""The 17 names that are filters only."""


MAX_DEBUG_LINES = 100
MAX_DEBUG_LENGTH = 2_000
"""Characters of a debug line that are kept."""
MAX_PIN_LENGTH = 1_000


class Moment:
    """The result of ``pex_now``: a time with the documented attributes and no others."""

    __slots__ = ("_text", "day", "hour", "microsecond", "minute", "month", "second", "year")

    def __init__(self, at: datetime) -> None:
        for name in self.__slots__[1:]:
            setattr(self, name, getattr(at, name))
        self._text = str(at)

    def __str__(self) -> str:
        return self._text


class Functions:
    """The functions of one run; ``debug_lines`` is what it logged, ``now`` seconds since 1970."""

    def __init__(self, now: float | None = None) -> None:
        self.debug_lines: list[str] = []
        self._now = time.time() if now is None else now

    def by_name(self) -> Mapping[str, Callable[..., Any]]:
        """Return the seven functions."""
        return {
            "pex_debug_log": self._debug_log,
            "pex_find_first_match": _find_first_match,
            "pex_in_subnet": _in_subnet,
            "pex_now": self._time_in,
            "pex_random_pin": _random_pin,
            "pex_regex_search": _regex_search,
            "pex_uuid4": lambda *_: str(uuid4()),
        }

    def _debug_log(self, *values: object) -> str:
        if len(self.debug_lines) < MAX_DEBUG_LINES:
            texts = ("(unknown)" if isinstance(v, UnknownValue) else str(v) for v in values)
            line = ",".join(texts)[:MAX_DEBUG_LENGTH]
            # A lone surrogate can be written nowhere.
            self.debug_lines.append(line.encode(errors="replace").decode())
        return ""

    def _time_in(self, zone: str = "UTC") -> Moment:
        try:
            found = ZoneInfo(str(zone))
        except (LookupError, ValueError, OSError):
            raise ScriptValueError(f"pex_now: there is no time zone {zone!r}") from None
        return Moment(datetime.fromtimestamp(self._now, found))


def _find_first_match(values: Iterable[Any], pattern: str) -> Any:
    compiled = _compiled("pex_find_first_match", pattern)
    return next((value for value in values if compiled.search(str(value))), None)


def _in_subnet(address: object, networks: Iterable[Any]) -> bool:
    try:
        sought = ip_address(str(address))
    except ValueError:
        return False
    if isinstance(networks, str):
        networks = [networks]
    try:
        # Not strict: a network in Pexip's documentation has host bits set.
        found = [ip_network(str(network), strict=False) for network in networks]
    except ValueError as error:
        raise ScriptValueError(f"pex_in_subnet: {error}") from None
    return any(sought in network for network in found)


def _random_pin(*arguments: Any) -> str:
    """Return random digits; the last argument is their number, as in ``""|pex_random_pin(6)``."""
    length = arguments[-1] if arguments else None
    if isinstance(length, bool) or not isinstance(length, int) or not 0 < length <= MAX_PIN_LENGTH:
        raise ScriptValueError("pex_random_pin: needs the number of digits")
    return "".join(secrets.choice("0123456789") for _ in range(length))


def _regex_search(pattern: str, text: object) -> tuple[str | None, ...] | bool:
    found = _compiled("pex_regex_search", pattern).search(str(text))
    if found is None:
        return False
    return found.groups() or (found[0],)


def _compiled(name: str, pattern: object) -> re.Pattern[str]:
    try:
        return re.compile(str(pattern))
    except re.error as error:
        raise ScriptValueError(f"{name}: {pattern!r} cannot be used: {error}") from None


FUNCTION_NAMES = tuple(Functions(0).by_name())


BUILT_IN_FILTERS = (
    *("abs", "capitalize", "default", "first", "float", "format", "int", "join", "last"),
    *("length", "lower", "range", "replace", "round", "striptags", "trim", "truncate", "upper"),
)
"""The filters of Jinja that Infinity allows (documented)."""
MAX_SCRIPT_LENGTH = 49_152
"""Characters of a script that Infinity stores (documented)."""
MAX_DIGITS = 4_300
"""Digits of a number that Python reads."""
_KEPT_GLOBALS = ("cycler", "dict", "joiner", "namespace")
_VALUES = frozenset(
    (
        *(str, int, float, bool, list, tuple, dict, range, Markup, Moment, Namespace),
        *(Cycler, Joiner, LoopContext, Macro, Undefined),
    )
)
"""Types whose public attributes a script may read."""
_REFUSED: Mapping[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Block: "block",
}


class ScriptEnvironment(SandboxedEnvironment):
    """The environment of one run of a script.

    Lists and objects can be changed in place, unlike in Jinja's immutable sandbox: scripts in use
    extend lists.
    """

    def __init__(self, functions: Functions) -> None:
        # Without both, constants would be computed once, while the script is compiled.
        super().__init__(optimized=False, finalize=_unchanged, cache_size=0, autoescape=False)
        found = functions.by_name()
        built_in = {name: FILTERS[name] for name in BUILT_IN_FILTERS if name != "range"}
        self.filters = {**built_in, "range": safe_range, **TEXT_FILTERS, **found}
        kept = {name: self.globals[name] for name in _KEPT_GLOBALS}
        self.globals = {**kept, "range": safe_range, **found}

    def guard_tests(self) -> None:
        """Let tests such as ``is none`` read a variable that is unknown."""
        known = ("defined", "undefined")
        self.tests = {
            name: test if name in known else _guarded(test) for name, test in self.tests.items()
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether the attribute is a public one of a plain value."""
        return not attr.startswith("_") and type(obj) in _VALUES

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        try:
            tree = super()._parse(source, name, filename)
        except ValueError:
            # Python refuses numbers this long, as converting them takes too much time.
            raise TemplateSyntaxError(f"a number has more than {MAX_DIGITS:,} digits", 1) from None
        for found in tree.find_all(tuple(_REFUSED)):
            text = f"{_REFUSED[type(found)]}: a script is a single text without other templates"
            raise TemplateSyntaxError(text, found.lineno)
        return tree


@pass_context
def _unchanged(_context: Context, value: Any) -> Any:
    return value


def _guarded(test: Any) -> Callable[..., Any]:
    @wraps(test)
    def guarded(*arguments: Any) -> Any:
        for value in arguments:
            if isinstance(value, UnknownValue):
                value.touch()
        return test(*arguments)

    return guarded


def parse(source: str) -> nodes.Template:
    """Return the syntax tree of a script; raises ``TemplateSyntaxError`` and ``RecursionError``."""
    return ScriptEnvironment(Functions(0)).parse(source)


ALL_FILTERS = frozenset((*BUILT_IN_FILTERS, *TEXT_FILTERS, *FUNCTION_NAMES))
_STATEMENTS: Mapping[type[nodes.Node], str] = {
    nodes.For: "for",
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter",
    nodes.With: "with",
    nodes.AssignBlock: "set ... endset",
    nodes.ScopedEvalContextModifier: "autoescape",
}
_SEEN_TESTS = ("defined", "none", "undefined")
_SEEN_METHODS = ("endswith", "extend", "get", "startswith")
GLOBALS = ("cycler", "dict", "joiner", "namespace", "range")
_OPEN: Mapping[str, str] = {
    "pex_base64": "that it pads with = and uses + and / is assumed",
    "pex_find_first_match": "whether the whole text must match is unknown; here it may be a part",
    "pex_md5": "that it prints hexadecimal digits is assumed",
    "pex_to_uuid": "the order of bytes is unknown; here it is that of an objectGUID",
    "pex_url_encode": "which characters stay is unknown; here letters, digits and _.-~",
}
_MEANT: Mapping[str, str] = {
    "count": "length",
    "d": "default",
    "string": "join, as in [value]|join",
    "tojson": "pex_to_json",
    "urlencode": "pex_url_encode",
}
"""Filters of Jinja that Infinity has under another name only."""
NOT_SEEN = "no public script has it, and whether Infinity runs it is unknown"


def unknown_filters(tree: nodes.Template) -> list[tuple[int, str]]:
    """Return line and text of each filter that Infinity does not have."""
    return [
        (node.lineno, f"Infinity has no filter {node.name!r}{_instead(node.name)}")
        for node in tree.find_all(nodes.Filter)
        if node.name not in ALL_FILTERS
    ]


def _instead(name: str) -> str:
    meant = _MEANT.get(name)
    return f"; write {meant}" if meant else did_you_mean(name, ALL_FILTERS)


def unknown_points(tree: nodes.Template) -> list[tuple[int, str]]:
    """Return line and text of what is unknown about a script, each text once."""
    found: dict[str, int] = {}
    for node in tree.find_all(nodes.Node):
        used, unseen = "", _STATEMENTS.get(type(node))
        match node:
            case nodes.Filter(name=str(used)) if (
                used in FUNCTION_NAMES and used != "pex_random_pin"
            ):
                unseen = f"{used} as a filter"
            case nodes.Test(name=test) if test not in _SEEN_TESTS:
                unseen = f"is {test}"
            case nodes.Call(node=nodes.Name(name=used)) if used in GLOBALS:
                unseen = f"{used}()"
            case nodes.Call(node=nodes.Getattr(attr=method)) if method not in _SEEN_METHODS:
                unseen = f".{method}()"
            case _:
                pass
        if unseen is not None:
            found.setdefault(f"{unseen}: {NOT_SEEN}", node.lineno)
        if used in _OPEN:
            found.setdefault(f"{used}: {_OPEN[used]}", node.lineno)
    return sorted((line, text) for text, line in found.items())
