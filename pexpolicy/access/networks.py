"""Lists of IP networks, and comparison of listening addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from pexpolicy.subnets import Subnets, read_subnet


class Networks:
    """A list of networks. An empty one holds no address and is false."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Parse texts such as ``10.0.0.0/8``; raises ``SubnetError`` for an invalid one."""
        entries = dict.fromkeys(str(read_subnet(text)) for text in texts)
        self._subnets = Subnets((text, None) for text in entries)

    def holds(self, address: str) -> bool:
        """Return whether an address is in one of them; an IPv4-mapped one counts as IPv4."""
        return self._subnets.find(address) is not None

    def __bool__(self) -> bool:
        return len(self._subnets) > 0


def overlap(one: str, other: str) -> bool:
    """Return whether two hosts to listen on cannot use the same port. Host names other than
    ``localhost`` are not resolved.
    """
    mine, others = _addresses(one), _addresses(other)
    if mine & others:
        return True
    return any(
        wildcard in ours and any((":" in address) is (":" in wildcard) for address in theirs)
        for wildcard in _WILDCARDS
        for ours, theirs in ((mine, others), (others, mine))
    )


_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - nothing listens here


def _addresses(host: str) -> set[str]:
    named = {"": {*_WILDCARDS}, "localhost": {"127.0.0.1", "::1"}}
    try:
        return {str(ipaddress.ip_address(host.strip("[]")))}
    except ValueError:
        return named.get(host.lower(), {host.lower()})


def is_loopback(host: str) -> bool:
    """Return whether a host to listen on is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
