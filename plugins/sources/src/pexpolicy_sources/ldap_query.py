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
_ITEM = re.compile(
    r"\((?:(?:[\w.;-]+(?::dn)?(?::[\w.-]+)?[~<>:]?|(?::dn)?:[\w.-]+:)=)(?:\\[0-9A-Fa-f]{2}|\{\w+\}|[^()\\{}\0\1])+\)",
    re.ASCII,
)
"""A comparison: what is compared, and a value in which only ``*`` has a meaning of its own."""
_GROUP = re.compile("\\((?:[&|](?:\0\1*)+|!\0\1*)\\)")
"""Filters that are joined, each written as ``\\0\\1...`` already."""
_BLANKS = re.compile(r"(?<=\()\s+|(?<=[(&|!)])\s+(?=[()])")
_PARAMETER = re.compile(r"\{(\w+)\}", re.ASCII)
_ATTRIBUTE = re.compile(r"(?:(\w+)=)?([A-Za-z0-9][\w.;-]*)", re.ASCII).fullmatch
_ESCAPED = str.maketrans({character: f"\\{ord(character):02x}" for character in "\\*()\0"})


class LdapQuery:
    """A filter and attributes, as ``ldapsearch`` takes them: ``(mail={alias}) name=cn``.

    A parameter is a part of a value, and escaped: it changes neither the filter nor an attribute.
    ``COLUMN=ATTRIBUTE`` names a column; without attributes a row has all of an entry. Raises
    ``ValueError``.
    """

    def __init__(self, written: str, parameters: Collection[str]) -> None:
        written = _BLANKS.sub("", written.strip())
        end = _filter_end(written)
        # Alternately text and the name of a parameter.
        self._parts = _PARAMETER.split(written[:end])
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


def _filter_end(text: str) -> int:
    """Return where the filter at the beginning of a text ends; raises ``ValueError``."""
    shape, found = _ITEM.subn(_shape, text)
    while found:
        shape, found = _GROUP.subn(_shape, shape)
    if (whole := re.match("\0\1*", shape)) is None:
        at = next(iter(re.findall(r"\([^()\0\1]*\)?", shape)), text)
        raise ValueError(
            f'has no filter at {at[:20]!r}: write one such as "(mail={{alias}}) name=cn"; in a '
            "value write \\28, \\29, \\7b, \\7d"
        )
    return whole.end()


def _shape(found: re.Match[str]) -> str:
    return "\0" + "\1" * (len(found[0]) - 1)


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
