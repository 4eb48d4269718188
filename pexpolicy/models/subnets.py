"""A table of subnets with a value each, and the longest-prefix look-up of an address.

There is one dict for each prefix length; a look-up tries them from the longest to the shortest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Generic, TypeVar

from pexpolicy.text import brief

T = TypeVar("T")
Written = str | IPv4Network | IPv6Network
"""A subnet as text, or as ``read_subnet`` returns it."""

_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96
_IPV4_BYTES = 4


class SubnetError(ValueError):
    """A subnet cannot be added; the text says what is wrong with it and what to write."""


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """A subnet, as text in its normal form, and the value that was added with it."""

    subnet: str
    value: T


_Tables = dict[int, dict[int, Match[T]]]
"""By the number of bits after the prefix, the longest prefixes first: the subnets by prefix."""


class Subnets(Generic[T]):
    """Values by subnet, IPv4 and IPv6. An IPv4-mapped IPv6 address counts as the IPv4 address.

    Built once and then only read; look-ups from several threads are safe.
    """

    def __init__(self, entries: Iterable[tuple[Written, T]] = ()) -> None:
        """Add the entries; raise ``SubnetError`` for the first that is wrong."""
        self._ipv4: _Tables[T] = {}
        self._ipv6: _Tables[T] = {}
        for written, value in entries:
            self.add(written, value)

    def add(self, subnet: Written, value: T) -> Match[T]:
        """Add a subnet such as ``10.0.0.0/8`` or ``2001:db8::/32``, or a single address.

        Raise ``SubnetError`` for text that is not a subnet or has host bits set, and for a subnet
        that was added before.
        """
        network = read_subnet(subnet) if isinstance(subnet, str) else subnet
        tables = self._ipv4 if isinstance(network, IPv4Network) else self._ipv6
        host_bits = network.max_prefixlen - network.prefixlen
        if host_bits not in tables:
            tables[host_bits] = {}
            ordered = sorted(tables.items())  # the longest prefixes first
            tables.clear()
            tables.update(ordered)
        table, prefix = tables[host_bits], int(network.network_address) >> host_bits
        if prefix in table:
            raise SubnetError(f"{network} is there already")
        match = table[prefix] = Match(str(network), value)
        return match

    def find(self, address: str | None) -> Match[T] | None:
        """Return the match with the longest prefix, or ``None``; never raise.

        The zone of an IPv6 address (``%eth0``) is ignored. Other text has no match.
        """
        packed = _packed(address) if address else None
        if packed is None:
            return None
        number = int.from_bytes(packed, "big")
        tables = self._ipv4 if len(packed) == _IPV4_BYTES else self._ipv6
        for host_bits, table in tables.items():
            if (found := table.get(number >> host_bits)) is not None:
                return found
        return None

    def overlaps(self) -> Iterator[tuple[Match[T], Match[T]]]:
        """Yield each subnet inside another one, and the smallest that contains it."""
        for tables in (self._ipv4, self._ipv6):
            around: list[tuple[int, int, Match[T]]] = []
            for first, host_bits, match in _ordered(tables):
                while around and (first ^ around[-1][0]) >> around[-1][1]:
                    around.pop()
                if around:
                    yield match, around[-1][2]
                around.append((first, host_bits, match))

    def __iter__(self) -> Iterator[Match[T]]:
        """Yield each subnet: IPv4, then IPv6, by address, outer ones first."""
        yield from (match for _, _, match in (*_ordered(self._ipv4), *_ordered(self._ipv6)))

    def __len__(self) -> int:
        return sum(map(len, (*self._ipv4.values(), *self._ipv6.values())))


def _ordered(tables: _Tables[T]) -> list[tuple[int, int, Match[T]]]:
    """Return the first address, the bits after the prefix and the match of each subnet."""
    listed = (
        (prefix << host_bits, host_bits, match)
        for host_bits, table in tables.items()
        for prefix, match in table.items()
    )
    return sorted(listed, key=lambda one: (one[0], -one[1]))


def is_loopback(host: str | None) -> bool:
    """Return whether a host to connect to, or to listen on, is this machine only."""
    try:
        return ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def lone_network(written: str) -> str:
    """Return a warning about an address without a prefix that ends in 0, as networks do, or
    nothing.
    """
    text = written.strip()
    if not re.fullmatch(r"\d+\.\d+\.\d+\.0", text) or text == "0.0.0.0":  # noqa: S104 - nothing listens
        return ""
    return f"{text} is a single address; write {text}/24 if its network is meant"


def read_subnet(written: str, *, strict: bool = True) -> IPv4Network | IPv6Network:
    """Parse a subnet or a single address; IPv4-mapped IPv6 becomes IPv4.

    Raise ``SubnetError`` with what to write instead, for host bits only if ``strict``.
    """
    text = written.strip()
    try:
        network = ip_network(text, strict=strict)
    except ValueError:
        raise SubnetError(_subnet_problem(text)) from None
    if network.version == 4:  # noqa: PLR2004 - IPv4
        return network
    address, bits = network.network_address, network.prefixlen
    if address.scope_id is not None:
        msg = f"{brief(text)} has a zone, which a subnet cannot have; remove the part after %"
        raise SubnetError(msg)
    if bits >= _MAPPED_BITS and (inner := address.ipv4_mapped) is not None:
        return IPv4Network((inner, bits - _MAPPED_BITS))
    return network


def _subnet_problem(text: str) -> str:
    """Return what is wrong with a subnet, and what to write."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return f"{brief(text)} is not a subnet; write 10.0.0.0/8, 2001:db8::/32 or a single address"
    single = f"{text.partition('/')[0]}/{network.max_prefixlen}"
    return f"{brief(text)} has host bits set; write {network}, or {single} for this address"


def _packed(address: str) -> bytes | None:
    """Return an address as its bytes, or ``None`` for other text."""
    try:
        if ":" not in address:
            return inet_pton(AF_INET, address)
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return None
    return packed.removeprefix(_MAPPED)
