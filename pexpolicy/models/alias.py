"""Aliases, and mappings and sets of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, get_args, overload
from unicodedata import normalize

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

SCHEMES = ("sip", "sips", "h323", "tel")
"""Schemes of aliases that can be called."""
_PORT = re.compile(r":\d{0,5}\Z")
_PASSWORD = re.compile(
    r"""((?:\A|[\s<"',\[])(?:(?:sips?|h323|tel):\s*)*+[^\s<>"@:]*:)[^\s<>"@]+(?=@)""",
    re.IGNORECASE | re.ASCII,  # or the letter U+017F would be an s, and a user a scheme
)
_USUAL = re.compile(r"(?:(sips?|h323):)?+([a-z0-9_+.-]++)@([a-z0-9.-]++(?<=[a-z]))").fullmatch
"""A user, a host name and nothing to remove but a scheme: nearly every alias of a call."""
_SCHEMES_IN_FRONT = re.compile(r"(?:(sips?|h323|tel):\s*+)++").match
_SCHEME_PREFIXES = tuple(f"{scheme}:" for scheme in SCHEMES)
MAX_COMPOSED = 1_000
"""Characters of the longest alias that is composed: the time grows with the square of the number of
accents on one letter, and Infinity sends at most 250 characters.
"""
_VISUAL_SEPARATORS = str.maketrans("", "", "-.() ")


class Alias(str):
    """An alias in its normal form: ``sip:Bob@Example.com:5060;transport=tls`` is
    ``bob@example.com``.

    It is a string, so it compares, formats and serves as a dictionary key like one. The empty
    alias is false; a request without an alias has the empty one, never ``None``.

    Removed are the scheme (``sip``, ``sips``, ``h323``, ``tel``, any case), parameters, headers,
    the port of a host, a host that is an IP address, the password of a SIP URI and surrounding
    blanks. Letters become lower case, because Infinity matches aliases without regard to case, and
    a letter with an accent one character (NFC), as files made on a Mac may have it as two. A
    leading ``+`` is kept, and so are angle brackets: they belong to header values, not to aliases.
    The normal form of a normal form is itself. Percent-encoding is not changed: the reader of the
    URL decodes it, once.
    """

    __slots__ = ("host", "raw", "scheme", "user")

    raw: str
    """The original text, decoded from the URL and otherwise unchanged."""
    scheme: str
    """``sip``, ``sips``, ``h323``, ``tel`` or empty."""
    user: str
    """The part before the ``@``, or the whole alias where there is none."""
    host: str
    """The part after the ``@``, or empty; an IPv6 address keeps its brackets. An IP address is not
    part of the normal form: ``bob@10.0.0.1`` is ``bob``.
    """

    def __new__(cls, raw: str = "") -> Self:
        """Return the alias of a text, or the alias itself."""
        if isinstance(raw, Alias):
            return cast("Self", raw)
        normal, scheme, user, host = _split(raw)
        alias = str.__new__(cls, normal)
        alias.raw = raw
        alias.scheme = scheme
        alias.user = user
        alias.host = host
        return alias

    @property
    def bare(self) -> bool:
        """True where the normal form has no host: ``engineering``, ``+4712345678``."""
        return "@" not in self

    def __repr__(self) -> str:
        return f"Alias({self.raw!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - for settings only

        return core_schema.no_info_after_validator_function(checked_alias, core_schema.str_schema())

    def __reduce__(self) -> tuple[type[Alias], tuple[str]]:
        return (Alias, (self.raw,))


def checked_alias(written: str) -> Alias:
    """Return the alias of a text; raises ``ValueError`` for a text that no call can have."""
    alias = Alias(written)
    if not alias.user:
        raise ValueError(f"must be an alias, such as room@example.com, not {written!r}")
    return alias


_ODD = re.compile(
    r"[<>/\\^(){}|\u201c\u201d\u201e\u00ab\u00bb\u2010-\u2014\u2212]|\*@|@\*|\.\*|\A\*\Z|\Amailto:"
    r"|%40|;[^;=]*@|\A\d+(?:[.,]0+|(?:[.,]\d+)?E\+\d+)\Z",
    re.IGNORECASE,
)
"""What no alias has: part of a link, a pattern, typographic marks, a number of a spreadsheet."""


def why_never_called(alias: Alias, *, is_name: bool = False) -> str:
    """Return what is in an alias that no call has, as what people dial looks different, or an
    empty text.

    With ``is_name`` it may be a display name, which web guests have in place of an alias.
    """
    if not alias.user:
        return "has nothing before the @"
    if "@" in alias.user:
        return "has more than one @"
    if not (is_name and alias.bare) and any(map(str.isspace, alias)):
        return "has a blank"
    if not alias.raw.isprintable():
        return "has a control character"
    found = None if is_name and alias.bare else _ODD.search(alias.raw.strip())
    return f"has {found[0]!r}" if found else ""


def without_password(text: str) -> str:
    """Return a text with ``***`` for the password of each URI in it, such as ``sip:a:b@c``."""
    colons = text.count(":")
    # The usual alias has one colon, that of the scheme, and so no password.
    if not colons or (colons == 1 and text.startswith(_SCHEME_PREFIXES)) or "@" not in text:
        return text
    return _PASSWORD.sub(r"\1***", text)


def passwords(text: str) -> list[str]:
    """Return the password of each URI in a text."""
    if "@" not in text:
        return []
    return [found[0].removeprefix(found[1]) for found in _PASSWORD.finditer(text)]


def _split(raw: str) -> tuple[str, str, str, str]:
    """Return the normal form of an alias, and its scheme, user and host."""
    text = raw.strip().lower()
    if text.isalnum() and text.isascii():
        return text, "", text, ""
    if (usual := _USUAL(text)) is not None:
        scheme, user, host = usual.groups("")
        return f"{user}@{host}", scheme, user, host
    scheme, host = "", ""
    while True:
        inner, user, found = _parts(composed_text(text))
        scheme, host = inner or scheme, found or host
        normal = _joined(user, found)
        if normal == text:
            return normal, scheme, user, host
        text = normal  # removing one part may uncover another of its kind, as in sip:sip:bob


def composed_text(text: str) -> str:
    """Return a text with each letter and its accents as one character (NFC), unless it is longer
    than ``MAX_COMPOSED``.
    """
    return text if text.isascii() or len(text) > MAX_COMPOSED else normalize("NFC", text)


def _joined(user: str, host: str) -> str:
    if not host or (user and "@" not in user and _is_address(host)):
        return user
    return f"{user}@{host}"


def _parts(text: str) -> tuple[str, str, str]:
    """Return scheme, user and host of a text in lower case."""
    scheme = ""
    if (found := _SCHEMES_IN_FRONT(text)) is not None:
        scheme, text = found[1], text[found.end() :]
    before, at, after = text.partition("@")
    if at:
        user, at, host = f"{before}@{_without_parameters(after)}".rpartition("@")
        while (shorter := _without_port(host).rstrip(".").strip()) != host:
            host = shorter
        if not host and "@" in user:
            user += at
    else:
        user, host = _without_parameters(text), ""
        if _is_address(_without_port(user)):
            user = _without_port(user)
    if "@" not in user:
        user = user.partition(";")[0]
        if host and scheme in ("sip", "sips"):
            user = user.partition(":")[0]
    if scheme == "tel":
        user = user.translate(_VISUAL_SEPARATORS)
    return scheme, user.strip(), host.strip()


def _without_parameters(text: str) -> str:
    if ";" in text or "?" in text:
        return text.partition(";")[0].partition("?")[0].strip()
    return text


def _without_port(text: str) -> str:
    """Remove the port of ``host:5060`` and ``[::1]:5060``, but no part of a bare IPv6 address."""
    if ":" in text and (text.count(":") == 1 or "]:" in text):
        return _PORT.sub("", text)
    return text


def _is_address(host: str) -> bool:
    if not host or not (host[-1].isdigit() or host[-1] == "]" or ":" in host):
        return False
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


D = TypeVar("D")
V_co = TypeVar("V_co", covariant=True)


class AliasMap(Mapping[Alias, V_co]):
    """A frozen mapping by alias: ``sip:Bob@Example.com`` and ``bob@example.com`` are one key.

    Its keys are ``Alias`` objects, and ``raw`` of each is the alias as it was written. As a setting
    of a plugin it is a table. Raises ``ValueError`` for a key that is no alias, and for two keys
    that are the same alias.
    """

    __slots__ = ("_values",)

    def __init__(self, items: Mapping[str, V_co] | Iterable[tuple[str, V_co]] = ()) -> None:
        self._values: dict[Alias, V_co] = {}
        for written, value in items.items() if isinstance(items, Mapping) else items:
            alias = checked_alias(written)
            if alias in self._values:
                first = next(known for known in self._values if known == alias)
                texts = [repr(without_password(text)) for text in (written, first.raw)]
                raise ValueError(" is the same alias as ".join(texts))
            self._values[alias] = value

    def __getitem__(self, alias: str) -> V_co:
        return self._values[Alias(alias)]

    @overload
    def get(self, alias: str, default: None = None, /) -> V_co | None: ...
    @overload
    def get(self, alias: str, default: V_co | D, /) -> V_co | D: ...
    def get(self, alias: str, default: Any = None, /) -> Any:
        """Return the value of an alias, or the default."""
        return self._values.get(Alias(alias), default)

    def __contains__(self, alias: object) -> bool:
        return isinstance(alias, str) and Alias(alias) in self._values

    def __iter__(self) -> Iterator[Alias]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"AliasMap({dict(self._values)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - for settings only

        value = next(iter(get_args(source)), None)
        table = core_schema.dict_schema(
            core_schema.no_info_after_validator_function(_written, core_schema.str_schema()),
            core_schema.any_schema() if value is None else handler.generate_schema(value),
            strict=False,  # an ``AliasMap`` is taken, too
        )
        return core_schema.no_info_after_validator_function(
            cls,
            table,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda found: {alias.raw: value for alias, value in found.items()},
                return_schema=table,
            ),
        )


class AliasSet(frozenset[Alias]):
    """A frozen set of aliases; ``"SIP:Bob@Example.com" in AliasSet(["bob@example.com"])``.

    As a setting of a plugin it is a list. Raises ``ValueError`` for a text that is no alias.
    """

    __slots__ = ()

    def __new__(cls, aliases: Iterable[str] = ()) -> Self:
        """Return the set of these aliases."""
        return super().__new__(cls, map(checked_alias, aliases))

    def __contains__(self, alias: object) -> bool:
        return isinstance(alias, str) and super().__contains__(Alias(alias))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - for settings only

        aliases = core_schema.list_schema(handler.generate_schema(Alias), strict=False)
        return core_schema.no_info_after_validator_function(
            cls,
            aliases,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda aliases: [alias.raw for alias in aliases]
            ),
        )


def _written(written: str) -> str:
    checked_alias(written)
    return written
