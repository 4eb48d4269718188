"""Scenario with many subnets: cost of a lookup, and of a call with one."""

import random
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlencode

from bench import launches
from bench.comparison import compare, running_together
from bench.findings import Finding, Spread, goal
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import TARGETS, Traffic
from pexpolicy.subnets import Subnets

FEW, MANY = 10, 100_000
_LOOKED_UP = 20_000
_REPEATS = 9
_LOCATIONS = 50


def hundred_thousand(lab: Lab) -> list[Finding]:
    """Measure a lookup among 100,000 prefixes, and compare a call with them to one with 10."""
    few, many = (
        (lab.ours(f"subnets-{count}", _with_subnets(lab, count)), _location_calls(count))
        for count in (FEW, MANY)
    )
    with running_together(lab, [few, many]) as contenders:
        comparison = compare(lab, contenders)
    names = [one.name for one in contenders]
    detail = comparison.describe({names[0]: "10 prefixes", names[1]: "100,000 prefixes"})
    flat = comparison.ratio(names[1], names[0])
    return [
        Finding("subnets", "a look-up among 100,000", _look_up(MANY), "us", goal(5), "CPU time"),
        Finding("subnets", "100,000 prefixes over 10", flat, "x", goal(1.10), detail),
    ]


def _look_up(count: int) -> Spread:
    """Measure microseconds of CPU time per address, in a subnet or not."""
    prefixes = list(_prefixes(count))
    subnets = Subnets((prefix, number) for number, prefix in enumerate(prefixes))
    seeded = random.Random(2)
    asked = [_address_in(seeded.choice(prefixes)) for _ in range(_LOOKED_UP // 2)]
    asked += [str(IPv4Address(seeded.getrandbits(32))) for _ in range(_LOOKED_UP // 2)]
    found = []
    for _ in range(_REPEATS):
        started = time.thread_time()
        for address in asked:
            subnets.find(address)
        found.append((time.thread_time() - started) / len(asked) * 1e6)
    return Spread.of(found)


def _prefixes(count: int) -> Iterator[str]:
    """Yield different prefixes, every third IPv6."""
    for number in range(count):
        if number % 3 == 0:
            yield f"{IPv6Address(0x20010DB8 << 96 | number << 72)}/56"
        else:
            yield f"{IPv4Address(0x0A000000 + number * 64)}/26"


def _address_in(prefix: str) -> str:
    """Return an address in a prefix of ``_prefixes``."""
    first = prefix.partition("/")[0]
    return f"{first}9" if ":" in first else str(IPv4Address(first) + 62)


def _with_subnets(lab: Lab, count: int) -> Table:
    file = lab.folder / f"subnets-{count}.csv"
    rows = (f"{prefix},{_location(n)}" for n, prefix in enumerate(_prefixes(count)))
    file.write_text("\n".join(("subnet,location", *rows)) + "\n")
    plugin: Table = {"settings": {"csv": str(file)}}
    return launches.with_plugins(launches.shipped_config(), {"locations": plugin})


def _location(number: int) -> str:
    return f"Location {number % _LOCATIONS:02}"


def _location_calls(count: int) -> Traffic:
    """Return calls spread over all prefixes."""
    prefixes = list(_prefixes(count))
    stride = max(1, count // TARGETS)

    def number(n: int) -> int:
        return n * stride % count

    return Traffic(
        tuple(_target(n, _address_in(prefixes[number(n)])) for n in range(TARGETS)),
        lambda n: {"location": _location(number(n))},
    )


def _target(n: int, address: str) -> str:
    parameters = {
        "call_direction": "dial_in",
        "protocol": "sip",
        "bandwidth": "0",
        "vendor": "Cisco/CE",
        "encryption": "On",
        "registered": "False",
        "trigger": "invite",
        "service_name": "Engineering Room",
        "service_tag": "engineering-room",
        "remote_display_name": "Alice",
        "remote_alias": f"sip:alice{n:04}@example.com",
        "remote_address": address,
        "remote_port": f"{20000 + n}",
        "proxy_node_address": "",
        "proxy_node_location": "",
        "call_tag": f"tag{n:04}",
        "location": "London",
        "node_ip": "10.144.101.21",
        "version_id": "39",
        "pseudo_version_id": "82559.0.0",
        "local_alias": "engineering",
    }
    return f"/policy/v1/participant/location?{urlencode(parameters)}"
