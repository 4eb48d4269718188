"""Subnets: the longest prefix that holds an address, held against a linear scan."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.models.subnets import SubnetError, Subnets, read_subnet

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def near_v4(kind: Callable[..., Any]) -> st.SearchStrategy[Any]:
    """Few distinct bits, so that prefixes lie in one another and addresses in prefixes."""
    base = st.sampled_from([0, 0x0A000000, 0x0A010000, 0xC0A80000, 0xFFFFFF00])
    return st.builds(lambda a, b: kind(a | b), base, st.integers(0, 255))


def near_v6(kind: Callable[..., Any]) -> st.SearchStrategy[Any]:
    base = st.sampled_from([0, 0x20010DB8 << 96, 0x20010DB80001 << 80, 0xFE80 << 112])
    return st.builds(lambda a, b: kind(a | b), base, st.integers(0, 255))


addresses = near_v4(IPv4Address) | near_v6(IPv6Address) | st.ip_addresses()
networks: st.SearchStrategy[Network] = st.builds(
    lambda address, bits: ip_network((address, min(bits, address.max_prefixlen)), strict=False),
    addresses,
    st.integers(0, 128),
).filter(lambda network: network.version == 4 or network.network_address.ipv4_mapped is None)


def scanned(listed: set[Network], address: Address) -> Network | None:
    holding = [n for n in listed if n.version == address.version and address in n]
    return max(holding, key=lambda n: n.prefixlen, default=None)


@given(st.sets(networks, max_size=30), st.lists(addresses, min_size=1, max_size=10))
def test_it_finds_what_a_linear_scan_finds(listed: set[Network], asked: list[Address]) -> None:
    subnets = Subnets((str(network), str(network)) for network in listed)
    assert len(subnets) == len(listed)
    for address in asked:
        plain = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        wanted = scanned(listed, plain or address)
        found = subnets.find(str(address))
        assert (found and found.value) == (wanted and str(wanted))
        assert found is None or found.subnet == str(wanted)


@given(addresses, st.sets(st.integers(0, 128), min_size=1), addresses)
def test_nested_prefixes_of_any_lengths_are_searched_from_the_longest(
    inside: Address, lengths: set[int], elsewhere: Address
) -> None:
    every = (
        ip_network((inside, bits), strict=False) for bits in lengths if bits <= inside.max_prefixlen
    )
    nested = {n for n in every if n.version == 4 or n.network_address.ipv4_mapped is None}
    subnets = Subnets((network, network) for network in nested)
    for address in (inside, elsewhere):
        found = subnets.find(str(address))
        plain = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        assert (found and found.value) == scanned(nested, plain or address)


@given(st.sets(networks, max_size=30))
def test_an_overlap_names_the_smallest_subnet_around_each(listed: set[Network]) -> None:
    subnets = Subnets((network, network) for network in listed)
    wanted = {
        network: max(around, key=lambda n: n.prefixlen)
        for network in listed
        if (
            around := [
                n
                for n in listed - {network}
                if n.version == network.version
                and network.network_address in n
                and n.prefixlen < network.prefixlen
            ]
        )
    }
    overlaps = {inner.value: outer.value for inner, outer in subnets.overlaps()}
    assert overlaps == wanted
    assert list(overlaps) == [m.value for m in subnets if m.value in wanted]
    assert [m.value for m in subnets] == sorted(listed, key=lambda n: (n.version, n))


@given(st.text(max_size=80) | st.text("0123456789abcdef:.%/x ", max_size=40) | st.none())
def test_garbage_is_in_no_subnet_and_never_raises(text: str | None) -> None:
    subnets = Subnets([("0.0.0.0/0", 4), ("::/0", 6)])
    found = subnets.find(text)
    if found is not None:
        address = ip_address((text or "").partition("%")[0])
        plain = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        assert found.value == (plain or address).version


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        " ",
        "10.1.2",
        "10.1.2.3/32",
        "10.1.2.3 ",
        "10.1.2.3%x",
        "010.1.2.3",
        "0x0a.1.2.3",
        "1" * 99,
        "10.1.2.3\x00",
        "fe80::1::2",
        "[fe80::1]",
        "localhost",
        "\ud800",
        "None",
        "::1/128",
    ],
)
def test_what_is_no_address_is_in_no_subnet(garbage: str) -> None:
    assert Subnets([("0.0.0.0/0", 4), ("::/0", 6)]).find(garbage) is None


@given(addresses.filter(lambda a: a.version == 4))
def test_a_mapped_address_counts_as_the_ipv4_address(address: Address) -> None:
    subnets = Subnets([("::/0", "v6"), ("0.0.0.0/0", "v4")])
    found = subnets.find(f"::ffff:{address}")
    assert found is not None
    assert found.value == "v4"


def test_a_zone_is_left_out() -> None:
    found = Subnets([("fe80::/10", 1)]).find("fe80::1%eth0")
    assert found is not None


@pytest.mark.parametrize(
    ("written", "stands_for"),
    [
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::/0", "::/0"),
    ],
)
def test_a_subnet_has_one_normal_form(written: str, stands_for: str) -> None:
    assert str(read_subnet(written)) == stands_for


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("10.0.0.0/33", "write 10.0.0.0/8"),
        ("ten", "'ten' is not a subnet"),
        ("", "'' is not a subnet"),
        ("10.1.0.0-10.2.0.0", "is not a subnet"),
        ("10,1,0,0/16", "is not a subnet"),
        ("10.1/16", "is not a subnet"),
        ("10.0.0.0\\8", "write 10.0.0.0/8"),
        ("10. Jan", "is not a subnet"),
        ("10.01.2026", "is not a subnet"),
        ("10.1.2.3/8", "has host bits set; write 10.0.0.0/8"),
        ("2001:db8::1/32", "write 2001:db8::/32"),
        ("fe80::%eth0/10", "has a zone"),
        ("x" * 500, "(500 long)"),
    ],
)
def test_a_malformed_subnet_is_refused_with_what_to_write(written: str, says: str) -> None:
    with pytest.raises(SubnetError) as refused:
        Subnets[int]().add(written, 1)
    assert says in str(refused.value)


def test_a_duplicate_is_refused_and_the_first_one_stays() -> None:
    subnets = Subnets([("10.0.0.0/8", "first")])
    with pytest.raises(SubnetError, match=r"10\.0\.0\.0/8 is there already"):
        subnets.add("::ffff:10.0.0.0/104", "second")
    found = subnets.find("10.1.1.1")
    assert found is not None
    assert (found.value, len(subnets)) == ("first", 1)
