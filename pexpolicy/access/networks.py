"""Lists of IP networks, and clients of trusted proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import hdrs, web

from pexpolicy.models.subnets import Subnets, read_subnet


class Networks(Subnets[None]):
    """A list of networks. An empty one holds no address and is false."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Parse texts such as ``10.0.0.0/8``; raises ``SubnetError`` for an invalid one."""
        super().__init__((network, None) for network in dict.fromkeys(map(read_subnet, texts)))

    def holds(self, address: str) -> bool:
        """Return whether an address is in one of them; an IPv4-mapped one counts as IPv4."""
        return self.find(address) is not None


class TrustedProxies(Networks):
    """The proxies whose ``X-Forwarded-For`` names the client.

    A client may send that header too, so only what a trusted proxy appended counts: the list is
    read from its end, and the first address that is not a trusted proxy is the client.
    """

    def header(self, request: web.BaseRequest) -> str:
        """Return the header as received; several lines of it are one list (RFC 9110, 5.3)."""
        return ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ()))

    def client(self, peer: str, request: web.BaseRequest) -> str | None:
        """Return the address of the client of a trusted proxy ``peer``.

        That is the proxy itself where it names no client, and ``None`` for an invalid header.
        """
        header, client = self.header(request), peer
        for entry in reversed(header.split(",") if header else ()):
            address = _address(entry)
            if address is None or not self.holds(address):
                return address
            client = address
        return client

    def describe_problem(self, peer: str, client: str | None, header: str | None) -> str:
        """Describe why a trusted proxy named no client; empty if it did. The header itself is
        untrusted and not repeated.
        """
        if header is None or (client is not None and not self.holds(client)):
            return ""
        if not header:
            return f"no {hdrs.X_FORWARDED_FOR} from the proxy {peer}"
        what = "no address" if client is None else "proxies only"
        return f"the {hdrs.X_FORWARDED_FOR} from the proxy {peer} holds {what}"


def _address(entry: str) -> str | None:
    """Return an address as proxies write it, with or without port, brackets and quotes."""
    text = entry.strip().strip('"')
    if "]" in text or text.count(":") == 1:
        text = text.removeprefix("[").partition("]" if "]" in text else ":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
