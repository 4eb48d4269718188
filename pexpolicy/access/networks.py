"""Networks that may connect, or whose forwarded headers are believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from pexpolicy.subnets import Subnets, read_subnet


class Networks:
    """A list of networks. One without any entry holds no address, and is false."""

    def __init__(self, written: Iterable[str] = ()) -> None:
        """Of texts such as ``10.0.0.0/8``; raises ``SubnetError`` at the first that is none."""
        entries = dict.fromkeys(str(read_subnet(text)) for text in written)
        self._subnets = Subnets((text, None) for text in entries)

    def holds(self, address: str) -> bool:
        """True for an address in one of them; an IPv4-mapped address counts as IPv4."""
        return self._subnets.find(address) is not None

    def __bool__(self) -> bool:
        return len(self._subnets) > 0


def overlap(one: str, other: str) -> bool:
    """True for two hosts to listen on that cannot have the same port. Other names than
    ``localhost`` are not looked up.
    """
    mine, others = _listening(one), _listening(other)
    if mine & others:
        return True
    return any(
        everywhere in ours and any((":" in address) is (":" in everywhere) for address in theirs)
        for everywhere in _EVERYWHERE
        for ours, theirs in ((mine, others), (others, mine))
    )


_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - nothing listens here


def _listening(host: str) -> set[str]:
    """The addresses that a host to listen on stands for."""
    named = {"": {*_EVERYWHERE}, "localhost": {"127.0.0.1", "::1"}}
    try:
        return {str(ipaddress.ip_address(host.strip("[]")))}
    except ValueError:
        return named.get(host.lower(), {host.lower()})


def is_loopback(host: str) -> bool:
    """True for an address to listen on that nobody else reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
