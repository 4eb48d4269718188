"""Subnets and what belongs to each: the longest prefix that holds an address decides.

The tree is py-radix: BSD licence, wheels for each version of Python that we support, about 1 µs for
a look-up among 100,000 prefixes. pytricia is LGPL and has no wheels, pysubnettree has no wheels,
netaddr and pyasn have no tree that holds values of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Generic, TypeVar

from radix import Radix  # type: ignore[import-untyped]

from pexpolicy.text import brief

T = TypeVar("T")
Written = str | IPv4Network | IPv6Network
"""A subnet as somebody wrote it, or as ``read_subnet`` read it."""

_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96
_KEPT = "match"


class SubnetError(ValueError):
    """A subnet cannot be added; the text says what is wrong with it and what to write."""


class DuplicateSubnetError(SubnetError):
    """The same subnet is there already; ``earlier`` is what was added first."""

    def __init__(self, text: str, earlier: Match[Any]) -> None:
        super().__init__(text)
        self.earlier = earlier


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """A subnet, as text in its normal form, and the value that was added with it."""

    subnet: str
    value: T


@dataclass(frozen=True, slots=True)
class Overlap(Generic[T]):
    """One subnet inside another one; ``outer`` is the smallest that holds ``inner``."""

    inner: Match[T]
    outer: Match[T]


class Subnets(Generic[T]):
    """Values by subnet, IPv4 and IPv6. An IPv4-mapped IPv6 address counts as the IPv4 address.

    Built once and then only read; look-ups from several threads are safe.
    """

    def __init__(self, entries: Iterable[tuple[Written, T]] = ()) -> None:
        """Of no subnets, or of those given; raises ``SubnetError`` at the first that is wrong."""
        self._tree = Radix()
        self._size = 0
        for written, value in entries:
            self.add(written, value)

    def add(self, subnet: Written, value: T) -> Match[T]:
        """Add a subnet such as ``10.0.0.0/8`` or ``2001:db8::/32``, or a single address.

        Raises ``SubnetError`` for what is no subnet or has bits behind its prefix, and
        ``DuplicateSubnetError``.
        """
        network = read_subnet(subnet) if isinstance(subnet, str) else subnet
        packed, bits = network.network_address.packed, network.prefixlen
        node = self._tree.search_exact(packed=packed, masklen=bits)
        if node is not None:
            text = f"{network} is there already"
            raise DuplicateSubnetError(text, node.data[_KEPT])
        match = Match(str(network), value)
        self._tree.add(packed=packed, masklen=bits).data[_KEPT] = match
        self._size += 1
        return match

    def find(self, address: str | None) -> Match[T] | None:
        """The longest prefix that holds an address, or ``None``; never raises.

        The zone of an IPv6 address (``%eth0``) is left out. What is no address is in no subnet.
        """
        packed = _packed(address) if address else None
        node = self._tree.search_best(packed=packed) if packed is not None else None
        if node is None:
            return None
        found: Match[T] = node.data[_KEPT]
        return found

    def overlaps(self) -> Iterator[Overlap[T]]:
        """Each subnet that lies in another one, the outer ones first."""
        for node in self._tree:
            if (outer := node.parent) is not None:
                yield Overlap(node.data[_KEPT], outer.data[_KEPT])

    def __iter__(self) -> Iterator[Match[T]]:
        """Each subnet: IPv4, then IPv6, by address, the outer ones first."""
        return (node.data[_KEPT] for node in self._tree)

    def __len__(self) -> int:
        return self._size


def read_subnet(written: str) -> IPv4Network | IPv6Network:
    """A subnet or a single address as a network; IPv4-mapped IPv6 becomes IPv4.

    Raises ``SubnetError`` with what to write instead.
    """
    text = written.strip()
    try:
        network = ip_network(text)
    except ValueError:
        raise SubnetError(_amiss(text)) from None
    if network.version == 4:  # noqa: PLR2004 - IPv4
        return network
    address, bits = network.network_address, network.prefixlen
    if address.scope_id is not None:
        msg = f"{brief(text)} has a zone, which a subnet has not; leave out what stands behind %"
        raise SubnetError(msg)
    if bits >= _MAPPED_BITS and (inner := address.ipv4_mapped) is not None:
        return IPv4Network((inner, bits - _MAPPED_BITS))
    return network


def _amiss(text: str) -> str:
    """What is wrong with a subnet, and what to write."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        shown = brief(text)
        return f"{shown} is no subnet; write 10.0.0.0/8, 2001:db8::/32 or a single address"
    return f"{brief(text)} has bits behind its prefix; write {network}, or a longer prefix"


def _packed(address: str) -> bytes | None:
    """An address as its bytes, or ``None`` for what is no address."""
    try:
        if ":" not in address:
            return inet_pton(AF_INET, address)
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return None
    return packed.removeprefix(_MAPPED)
