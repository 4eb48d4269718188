"""Which subnet a call meets: held against a linear scan of all entries."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

Build = Callable[..., Any]
Entry = Mapping[str, Any]

PROTOCOLS = ("sip", "webrtc", "h323")
NODES = ("Oslo", "Bergen DMZ")

v4 = st.builds(
    lambda base, low: IPv4Address(base | low),
    st.sampled_from([0, 0x0A000000, 0x0A010000, 0xC0A80000]),
    st.integers(0, 63),
)
v6 = st.builds(
    lambda base, low: IPv6Address(base | low),
    st.sampled_from([0x20010DB8 << 96, 0x20010DB80001 << 80]),
    st.integers(0, 63),
)
addresses = v4 | v6
subnets = st.builds(
    lambda address, bits: str(
        ip_network((address, min(bits, address.max_prefixlen)), strict=False)
    ),
    addresses,
    st.sampled_from([0, 8, 15, 16, 24, 28, 30, 32, 48, 64, 96, 124, 126, 128]),
)


@st.composite
def tables(draw: st.DrawFn) -> list[Entry]:
    """Entries of which each call meets one at most in each subnet and rank."""
    entries: dict[tuple[str, bool, bool, str], Entry] = {}
    for number in range(draw(st.integers(0, 12))):
        subnet = draw(subnets)
        protocol = draw(st.none() | st.sampled_from(PROTOCOLS))
        node = draw(st.none() | st.sampled_from(NODES))
        entries[subnet, protocol is None, node is None, f"{protocol} {node}"] = {
            "subnet": subnet,
            "location": f"Location {number}",
            "protocols": [protocol] if protocol else [],
            "node_locations": [node] if node else [],
        }
    return list(entries.values())


def scanned(entries: list[Entry], address: str, protocol: str, node: str) -> str | None:
    """The location by a scan: the longest prefix, then by node, then by protocol."""

    def narrowness(entry: Entry) -> tuple[int, bool, bool]:
        bits = ip_network(entry["subnet"]).prefixlen
        return bits, bool(entry["node_locations"]), bool(entry["protocols"])

    meeting = [
        entry
        for entry in entries
        if ip_address(address) in ip_network(entry["subnet"])
        and (not entry["protocols"] or protocol in entry["protocols"])
        and (not entry["node_locations"] or node in entry["node_locations"])
    ]
    return max(meeting, key=narrowness)["location"] if meeting else None


calls = st.tuples(addresses.map(str), st.sampled_from(PROTOCOLS), st.sampled_from(NODES))


@given(tables(), st.lists(calls, min_size=1, max_size=8))
def test_a_call_meets_the_entry_that_a_linear_scan_finds(
    build: Build, entries: list[Entry], asked: list[tuple[str, str, str]]
) -> None:
    answers = build({"subnets": entries}).ask_all(
        [
            {"remote_address": address, "protocol": protocol, "location": node}
            for address, protocol, node in asked
        ]
    )
    assert [a.location for a in answers] == [scanned(entries, *call) for call in asked]


@pytest.mark.parametrize(
    ("address", "location"),
    [
        ("10.1.2.3", "Oslo"),
        ("::ffff:10.1.2.3", "Oslo"),
        ("10.2.0.1", "Bergen"),
        ("2001:db8:1::9", "Oslo"),
        ("2001:0DB8:0001:0::9", "Oslo"),
        ("2001:db8:1::9%eth0", "Oslo"),
        ("192.0.2.1", None),
        ("10.1.2", None),
        ("localhost", None),
        ("", None),
        ("None", None),
        ("\u0661\u0660.1.2.3", None),
        ("10.1.2.3" * 1000, None),
    ],
)
def test_an_address_in_any_form_meets_its_subnet(
    build: Build, address: str, location: str | None
) -> None:
    entries = [
        {"subnet": "10.0.0.0/8", "location": "Bergen"},
        {"subnet": "10.1.0.0/16", "location": "Oslo"},
        {"subnet": "2001:db8:1::/48", "location": "Oslo"},
    ]
    asked = build({"subnets": entries}).ask(address)
    assert asked.location == location
    assert asked.step == ("decided" if location else "abstained")
    assert asked.status == (200 if location else 404)


def test_the_reason_names_the_prefix_and_where_the_address_came_from(build: Build) -> None:
    entries = [
        {"subnet": "10.0.0.0/8", "location": "Bergen"},
        {
            "subnet": "10.1.0.0/16",
            "location": "Oslo",
            "protocols": ["sip", "h323"],
            "node_locations": ["DMZ"],
        },
    ]
    locations = build({"subnets": entries})
    assert locations.ask("10.1.2.3").reason == "remote_address is in 10.0.0.0/8"
    narrow = locations.ask("10.1.2.3", protocol="sip", location="DMZ")
    assert narrow.reason == "remote_address is in 10.1.0.0/16, for h323 and sip, at DMZ"


SOURCES = {"addresses": ["ms_subnet", "remote_address", "proxy_node_address"]}
PLACES = [
    {"subnet": "10.1.0.0/16", "location": "Oslo"},
    {"subnet": "10.2.0.0/16", "location": "Bergen"},
    {"subnet": "10.9.0.0/24", "location": "DMZ"},
]


@pytest.mark.parametrize(
    ("call", "location", "source"),
    [
        ({"ms-subnet": '["10.1.5.0"]', "remote_address": "10.2.0.1"}, "Oslo", "ms_subnet"),
        ({"ms-subnet": "10.1.5.0", "remote_address": "10.2.0.1"}, "Oslo", "ms_subnet"),
        ({"ms-subnet": '["192.0.2.0", "10.1.5.0"]'}, "Oslo", "ms_subnet"),
        ({"ms-subnet": "[", "remote_address": "10.2.0.1"}, "Bergen", "remote_address"),
        ({"ms-subnet": "", "remote_address": "10.2.0.1"}, "Bergen", "remote_address"),
        (
            {"remote_address": "203.0.113.7", "proxy_node_address": "10.9.0.4"},
            "DMZ",
            "proxy_node_address",
        ),
        (
            {"remote_address": "10.1.0.1", "proxy_node_address": "10.9.0.4"},
            "Oslo",
            "remote_address",
        ),
    ],
)
def test_the_first_address_in_a_subnet_decides(
    build: Build, call: dict[str, str], location: str, source: str
) -> None:
    asked = build({**SOURCES, "subnets": PLACES}).ask(**call)
    assert asked.location == location
    assert asked.reason.startswith(f"{source} is in ")


def test_only_the_remote_address_is_looked_at_unless_more_is_asked_for(build: Build) -> None:
    call = {"ms-subnet": "10.1.5.0", "proxy_node_address": "10.9.0.4"}
    assert build({"subnets": PLACES}).ask(**call).location is None


@pytest.mark.parametrize("address", ["192.0.2.1", None, "garbage"])
def test_the_default_location_answers_for_all_others(build: Build, address: str | None) -> None:
    locations = build({"subnets": PLACES, "default": "Oslo", "overflow": {"Oslo": ["Bergen"]}})
    asked = locations.ask(address)
    assert asked.result == {"location": "Oslo", "overflow_locations": ["Bergen"]}
    assert asked.reason == "no listed subnet holds an address of the call"


def test_overflow_comes_from_the_location_or_from_the_entry(build: Build) -> None:
    locations = build(
        {
            "overflow": {"Oslo": ["Bergen", "DMZ"]},
            "subnets": [
                {"subnet": "10.1.0.0/16", "location": "Oslo"},
                {"subnet": "10.2.0.0/16", "location": "Oslo", "overflow_locations": ["DMZ"]},
                {"subnet": "10.3.0.0/16", "location": "Oslo", "overflow_locations": []},
                {"subnet": "10.4.0.0/16", "location": "Bergen"},
            ],
        }
    )
    answers = [locations.ask(f"10.{net}.0.1").result for net in (1, 2, 3, 4)]
    assert answers == [
        {"location": "Oslo", "overflow_locations": ["Bergen", "DMZ"]},
        {"location": "Oslo", "overflow_locations": ["DMZ"]},
        {"location": "Oslo"},
        {"location": "Bergen"},
    ]


def test_the_status_counts_the_calls_of_each_location(build: Build) -> None:
    locations = build({"subnets": PLACES, "default": "Frankfurt"})
    for address in ("10.1.0.1", "10.1.0.2", "10.2.0.1", "192.0.2.1"):
        locations.ask(address)
    assert locations.status() == {
        "subnets": 3,
        "hits": {"Oslo": 2, "Bergen": 1, "DMZ": 0, "Frankfurt": 1},
    }
