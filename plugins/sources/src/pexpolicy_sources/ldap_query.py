"""LDAP queries: a search filter with parameters, and the columns of each entry."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from pexpolicy_sources.rows import QueryError, Row, Value

BINARY = frozenset(
    (
        *("audio", "jpegphoto", "objectguid", "objectsid", "photo", "thumbnaillogo"),
        *("thumbnailphoto", "usercertificate", "usersmimecertificate"),
    )
)
"""Attributes whose values are never text, even if they look like it."""
_SHORT = dict(
    pair.split("=")
    for pair in (
        *("commonname=cn", "countryname=c", "domaincomponent=dc", "gn=givenname", "userid=uid"),
        *("fax=facsimiletelephonenumber", "hometelephonenumber=homephone", "localityname=l"),
        *("mobiletelephonenumber=mobile", "organizationalunitname=ou", "organizationname=o"),
        *("pagertelephonenumber=pager", "rfc822mailbox=mail", "stateorprovincename=st"),
        "surname=sn",
    )
)
"""The names under which servers return attributes that the standards give two names (RFC 4519,
RFC 4524).
"""
DN = "dn"
"""Written like an attribute, it is the name of the entry."""
_RANGE = ";range="
"""In the name of an attribute of which an entry has a part of the values."""
_EXAMPLE = 'write a filter such as "(mail={alias}) name=cn"'
_ITEM = re.compile(
    r"((?:[\w.;-]+(?::dn)?(?::[\w.-]+)?[~<>:]?|(?::dn)?:[\w.-]+:)=)((?:\\[0-9A-Fa-f]{2}|\{\w+\}|[^()\\{}\0])*)",
    re.ASCII,
)
"""A comparison without its parentheses: what is compared, and a value in which only ``*`` has a
meaning of its own.
"""
_PARAMETER = re.compile(r"\{(\w+)\}", re.ASCII)
_ATTRIBUTE = re.compile(r"(?:(\w+)=)?([A-Za-z0-9][\w.;-]*)", re.ASCII).fullmatch
_ESCAPED = str.maketrans({character: f"\\{ord(character):02x}" for character in "\\*()\0"})
_SPACE = re.compile(r"\s*")


class LdapQuery:
    """A filter and attributes, as ``ldapsearch`` takes them: ``(mail={alias}) name=cn``.

    A parameter is a part of a value, and escaped: it changes neither the filter nor an attribute.
    ``COLUMN=ATTRIBUTE`` names a column; without attributes a row has all of an entry. Raises
    ``ValueError``.
    """

    def __init__(self, written: str, parameters: Collection[str]) -> None:
        pieces: list[str] = []
        end = _read_filter(written, _skip(written, 0), pieces)
        # Alternately text and the name of a parameter.
        self._parts = _PARAMETER.split("".join(pieces))
        for name in self._parts[1::2]:
            if name not in parameters:
                there = ", ".join(f"{{{known}}}" for known in parameters) or "none"
                raise ValueError(f"has the parameter {{{name}}}; there is: {there}")
        self._columns = dict(_columns(written[end:].split()))
        named = [name for name in dict.fromkeys(self._columns.values()) if name.lower() != DN]
        self.attributes: Sequence[str] = named or (["1.1"] if self._columns else ["*"])
        """The attributes to ask for; ``1.1`` is none."""

    def fill(self, values: Mapping[str, Value]) -> str | None:
        """Return the filter; ``None`` where a value is empty, which could match everything."""
        texts = [_text(values[name]) for name in self._parts[1::2]]
        if not all(texts):
            return None
        parts = list(self._parts)
        parts[1::2] = [text.translate(_ESCAPED) for text in texts]
        return "".join(parts)

    def row(self, dn: str, values: Mapping[str, Sequence[bytes]]) -> Row:
        """Return the columns of an entry: text, a list of several values, binary ones as Base64.

        Attributes without a value are left out. Raises ``QueryError`` for one of which the server
        has sent a part, as Active Directory does from 1,500 values on.
        """
        found = {name.lower(): value for name, value in values.items()}
        for name in found:
            if _RANGE in name:
                attribute = name.partition(";")[0]
                raise QueryError(f"{attribute} has more values than the server sends at once")
        row: Row = {}
        for column, attribute in (self._columns or {name: name for name in found}).items():
            if attribute.lower() == DN:
                row[column] = dn
            elif given := next(filter(None, map(found.get, _names_of(attribute.lower()))), None):
                plain = [_json(attribute.lower(), value) for value in given]
                row[column] = plain[0] if len(plain) == 1 else plain
        return row


def _read_filter(text: str, at: int, pieces: list[str]) -> int:
    """Append the filter at a place, without blanks between its parts; return where it ends."""
    if text[at : at + 1] != "(":
        raise ValueError(f"has no filter at {_excerpt(text, at)}: {_EXAMPLE}")
    pieces.append("(")
    at = _skip(text, at + 1)
    operator = text[at : at + 1]
    if operator in ("&", "|", "!"):
        pieces.append(operator)
        at = _read_filter(text, _skip(text, at + 1), pieces)
        while operator != "!" and text[(at := _skip(text, at)) :].startswith("("):
            at = _read_filter(text, at, pieces)
    elif (item := _ITEM.match(text, at)) is not None and item[2]:
        pieces.append(item[0])
        at = item.end()
    else:
        raise ValueError(f"has no comparison at {_excerpt(text, at)}: {_EXAMPLE}")
    at = _skip(text, at)
    if text[at : at + 1] != ")":
        raise ValueError(
            f"has no ) at {_excerpt(text, at)}; in a value write \\28, \\29, \\7b, \\7d"
        )
    pieces.append(")")
    return at + 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _excerpt(text: str, at: int) -> str:
    rest = text[at:]
    return repr(rest[:20]) if rest else "its end"


def _columns(written: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each column, and its attribute."""
    for text in written:
        match = _ATTRIBUTE(text)
        if match is None:
            raise ValueError(f"has {text!r} after the filter: write ATTRIBUTE or COLUMN=ATTRIBUTE")
        yield match[1] or match[2].lower(), match[2]


def _names_of(attribute: str) -> Iterator[str]:
    """Yield the names under which a server may return an attribute."""
    yield attribute
    yield f"{attribute};binary"
    if attribute in _SHORT:
        yield _SHORT[attribute]


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return "" if value is None else str(value)


def _json(attribute: str, value: bytes) -> str:
    if attribute.partition(";")[0] not in BINARY:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return base64.b64encode(value).decode()
