"""Client addresses in the headers of trusted proxies.

A client may send the same header, so only what a trusted proxy appended counts: the list is read
from its end, and the first address that is not a trusted proxy is the client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from aiohttp import hdrs, web

from pexpolicy.access.networks import Networks


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
        for entry in reversed([*self._entries(request)]):
            client = _address(entry)
            if client is None or not self._proxies.holds(client):
                return client
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
        if self.header == hdrs.FORWARDED:
            yield from (element.get("for", "") for element in request.forwarded)
        elif header := self.header_value(request):
            yield from header.split(",")


def _address(entry: str) -> str | None:
    """Parse an address as proxies write it, with or without port and brackets."""
    text = entry.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
