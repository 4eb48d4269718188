"""Whom a request comes from, where named proxies stand in between.

A header says it, and a client may write the same header. So only what a named proxy has added
counts: the list is read from its end, and the first address that is no named proxy is the client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from aiohttp import hdrs, web

from pexpolicy.access.networks import Networks


class ForwardedHeaders:
    """The named proxies, and the one header that they write.

    Only that header is read: a proxy that writes one of them passes the other on as the client sent
    it.
    """

    def __init__(self, proxies: Networks, header: str = hdrs.X_FORWARDED_FOR) -> None:
        self._proxies = proxies
        self.header = header

    def names(self, peer: str) -> bool:
        """True for the address of a named proxy."""
        return bool(self._proxies) and self._proxies.holds(peer)

    def written(self, request: web.BaseRequest) -> str:
        """The header as it came; several lines of it are one list (RFC 9110, 5.3)."""
        return ",".join(request.headers.getall(self.header, ()))

    def client(self, peer: str, request: web.BaseRequest) -> str | None:
        """The address that a named proxy ``peer`` passes a request on for.

        That of the proxy where it forwards for nobody, and ``None`` where it does not say a valid
        address.
        """
        client: str | None = peer
        for entry in reversed([*self._entries(request)]):
            client = _address(entry)
            if client is None or not self._proxies.holds(client):
                return client
        return client

    def amiss(self, peer: str, client: str | None, written: str | None) -> str:
        """Why a named proxy told of no client, or nothing. What it wrote is not shown: it may come
        from anybody.
        """
        if written is None or (client is not None and not self._proxies.holds(client)):
            return ""
        if not written:
            return f"no {self.header} from the proxy {peer}"
        what = "no address" if client is None else "proxies only"
        return f"the {self.header} from the proxy {peer} holds {what}"

    def _entries(self, request: web.BaseRequest) -> Iterator[str]:
        if self.header == hdrs.FORWARDED:
            yield from (element.get("for", "") for element in request.forwarded)
        elif written := self.written(request):
            yield from written.split(",")


def _address(entry: str) -> str | None:
    """An address as proxies write it: with a port or without, IPv6 in brackets or not."""
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
