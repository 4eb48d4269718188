"""A writer of small databases in the format MMDB."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"


def encode(value: Any) -> bytes:
    """Return a value of the data section: a map, a list, a text or an unsigned number."""
    if isinstance(value, dict):
        items = b"".join(encode(key) + encode(item) for key, item in value.items())
        return bytes([7 << 5 | len(value)]) + items
    if isinstance(value, list):
        return bytes([len(value), 11 - 7]) + b"".join(map(encode, value))
    if isinstance(value, str):
        text = value.encode()
        assert len(text) < 29
        return bytes([2 << 5 | len(text)]) + text
    assert isinstance(value, int)
    number = value.to_bytes(4, "big")
    return bytes([6 << 5 | 4]) + number


def write_mmdb(path: Path, networks: dict[str, Any], kind: str = "Test-Country") -> Path:
    """Write a database of IPv6 whose IPv4 part is at ``::/96``; networks must not overlap."""
    nodes: list[list[int | None]] = [[None, None]]
    data, leaves = b"", {}
    for written, record in networks.items():
        network = ip_network(written)
        shift = 96 if network.version == 4 else 0
        bits = format(int(network.network_address), "0128b")[: shift + network.prefixlen]
        node = 0
        for bit in map(int, bits[:-1]):
            if (following := nodes[node][bit]) is None:
                following = nodes[node][bit] = len(nodes)
                nodes.append([None, None])
            node = following
        leaves[node, int(bits[-1])] = len(data)
        data += encode(record)
    count, tree = len(nodes), b""
    for number, pair in enumerate(nodes):
        for side, value in enumerate(pair):
            leaf = leaves.get((number, side))
            pointer = count + 16 + leaf if leaf is not None else value or count
            tree += pointer.to_bytes(3, "big")
    metadata = {
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 1_764_200_000,
        "database_type": kind,
        "description": {"en": "test"},
        "ip_version": 6,
        "languages": ["en"],
        "node_count": count,
        "record_size": 24,
    }
    path.write_bytes(tree + bytes(16) + data + MARKER + encode(metadata))
    return path
