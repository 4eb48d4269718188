"""Client addresses in the headers of trusted proxies.

A client may send the same header, so only what a trusted proxy appended counts: the list is read
from its end, and the first address that is not a trusted proxy is the client.
"""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Collection, Iterator

from aiohttp import hdrs, web

from pexpolicy.access.networks import Networks

_BLANKS = " \t"
_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_QUOTED = re.compile(r'(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*')
_NODE = re.compile(
    r'"?(?:\[(?P<bracketed>[^\]"]+)\](?::[\w.-]+)?|(?P<plain>[^:"]+)(?::[\w.-]+)?|(?P<bare>[^"]+))"?'
)


class ForwardedHeaders:
    """The trusted proxies, and the one header that they write.

    Only that header is read: a proxy that writes one of the two forwards the other as the client
    sent it.
    """

    def __init__(self, proxies: Networks, header: str = hdrs.X_FORWARDED_FOR) -> None:
        self._proxies = proxies
        self.header = header

    def is_proxy(self, peer: str) -> bool:
        """Return whether an address is a trusted proxy."""
        return bool(self._proxies) and self._proxies.holds(peer)

    def header_value(self, request: web.BaseRequest) -> str:
        """Return the header as received; several lines of it are one list (RFC 9110, 5.3)."""
        return ",".join(request.headers.getall(self.header, ()))

    def client(self, peer: str, request: web.BaseRequest) -> str | None:
        """Return the address of the client of a trusted proxy ``peer``.

        That is the proxy itself where it names no client, and ``None`` for an invalid header.
        """
        client: str | None = peer
        try:
            for entry in self._entries(request):
                client = _address(entry)
                if client is None or not self._proxies.holds(client):
                    return client
        except ForwardedError:
            return None
        return client

    def describe_problem(self, peer: str, client: str | None, header: str | None) -> str:
        """Describe why a trusted proxy named no client; empty if it did. The header itself is
        untrusted and not repeated.
        """
        if header is None or (client is not None and not self._proxies.holds(client)):
            return ""
        if not header:
            return f"no {self.header} from the proxy {peer}"
        what = "no address" if client is None else "proxies only"
        return f"the {self.header} from the proxy {peer} holds {what}"

    def _entries(self, request: web.BaseRequest) -> Iterator[str]:
        """Yield the addresses, the last first; raises ``ForwardedError`` at a malformed line."""
        if not self.header_value(request):
            return
        for line in reversed(request.headers.getall(self.header, ())):
            if self.header == hdrs.FORWARDED:
                yield from parse_forwarded(line)
            else:
                yield from reversed(line.split(","))


class ForwardedError(ValueError):
    """A line of ``Forwarded`` is not well-formed."""


def parse_forwarded(line: str) -> list[str]:
    """Return the ``for`` of each element of a ``Forwarded`` line (RFC 7239), the last first.

    The line is parsed from its end, because its beginning may come from a client: an open quote in
    there must not swallow what a proxy appended. Raises ``ForwardedError`` unless the whole line is
    well-formed.
    """
    clients: list[str] = []
    pairs: dict[str, str] = {}
    end = _end_before_any(line, len(line), _BLANKS)
    while True:
        end, value = _value_before(line, end)
        end, name = _token_before(line, end - 1) if line[end - 1 : end] == "=" else (end, "")
        if not name or name.lower() in pairs:
            raise ForwardedError
        pairs[name.lower()] = value
        end = _end_before_any(line, end, _BLANKS)
        separator = line[end - 1 : end]
        if separator in ("", ","):
            clients.append(pairs.get("for", ""))
            pairs = {}
        if not separator:
            return clients
        if separator not in (",", ";"):
            raise ForwardedError
        end = _end_before_any(line, end - 1, _BLANKS)


def _value_before(line: str, end: int) -> tuple[int, str]:
    """Return the token or quoted string that ends at a position, and where it begins."""
    if line[end - 1 : end] != '"':
        return _token_before(line, end)
    start = end - 1
    while (start := line.rfind('"', 0, start)) >= 0:
        escapes = start - _end_before_any(line, start, "\\")
        if escapes % 2 == 0:
            break
        start -= escapes
    content = line[start + 1 : end - 1]
    if start < 0 or not _QUOTED.fullmatch(content):
        raise ForwardedError
    return start, re.sub(r"\\(.)", r"\1", content)


def _token_before(line: str, end: int) -> tuple[int, str]:
    start = _end_before_any(line, end, _TOKEN)
    if start == end:
        raise ForwardedError
    return start, line[start:end]


def _end_before_any(line: str, end: int, characters: Collection[str]) -> int:
    """Return the end of a line up to a position without these characters at its end."""
    while end and line[end - 1] in characters:
        end -= 1
    return end


def _address(entry: str) -> str | None:
    """Parse an address as proxies write it, with or without port and brackets."""
    found = _NODE.fullmatch(entry.strip())
    if found is None:
        return None
    try:
        address = ipaddress.ip_address(found["bracketed"] or found["bare"] or found["plain"])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
