"""Audit files of any length, in the form in which a server writes them, made quickly.

The example configuration answers one call of each kind; its audit lines are the templates, in which
times, aliases, identifiers and durations are replaced.
"""

import gzip
import random
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from multidict import MultiDict

from pexpolicy.models.alias import Alias
from pexpolicy.testing.requests import composed
from tests.replay import audits
from tests.support import paths
from tests.support.audit_lines import EPOCH

CONFIG = paths.ROOT / "examples/full/config.toml"
CALLERS = 300_000
ROOMS = 50_000
"""Called aliases; the lower the number, the more often it is called."""
NODES = 40
PER_SECOND = 200
"""Calls a second of the server that the audit is of."""
BLOCK = 20_000
"""Lines that are written at once."""
_CALLER, _NODE, _ADDRESS = "caller0000000@example.com", "10.44.0.99", "10.77.77.77"
_UUID = "01234567-89ab-4def-8123-456789abcdef"
_ROOM = "room0000000@example.com"
_REPLACED = {"caller": _CALLER, "room": _ROOM, "node": _NODE, "address": _ADDRESS, "uuid": _UUID}
_KNOWN = "|".join(
    [
        *(f"(?P<{name}>{re.escape(text)})" for name, text in _REPLACED.items()),
        r'(?<="timestamp":")(?P<time>[^"]+)',
        r'(?<="decision_id":")(?P<id>[^"]+)',
        r'(?<="ms":)(?P<ms>[\d.]+)',
    ]
)


def _calls() -> Iterator[audits.Asked]:
    """Yield the calls of the templates, the frequent ones several times."""
    at = datetime.fromtimestamp(EPOCH / 1000, UTC)
    sent = {"node_ip": _NODE, "remote_address": _ADDRESS}
    caller = {**sent, "remote_alias": f"sip:{_CALLER}"}
    call = {**caller, "local_alias": f"sip:{_ROOM}", "request_id": _UUID}
    located = {**call, "service_name": "Engineering"}
    in_call = {**located, "call_uuid": _UUID}
    in_group = {**in_call, "idp_attributes": {"groups": ["Sales"]}}
    kinds: tuple[tuple[str, str | None, int, Mapping[str, Any]], ...] = (
        ("service_configuration", "sip", 6, call),
        ("service_configuration", "web", 3, {**call, "local_alias": "engineering@example.com"}),
        ("service_configuration", "sip", 2, {**call, "local_alias": "board@example.com"}),
        ("service_configuration", "sip", 1, {**call, "local_alias": "helpdesk@example.com"}),
        ("service_configuration", "sip", 1, {**call, "vendor": "friendly-scanner"}),
        ("participant_properties", "web", 5, in_call),
        ("participant_properties", "sso", 1, in_group),
        ("media_location", "sip", 5, located),
        ("registration_alias", None, 4, {**sent, "alias": _CALLER}),
        ("directory_information", None, 1, {"node_ip": _NODE, "registration_alias": _CALLER}),
    )
    for endpoint, shape, times, fields in kinds:
        request = composed(endpoint, shape, fields)
        params = MultiDict(request.params)
        for _ in range(times):
            alias = getattr(request, "alias", "") if endpoint == "registration_alias" else ""
            yield endpoint, Alias(alias).raw, list(params.items()), at


@cache
def templates() -> list[bytes]:
    """Return formats for ``%``: lines of the server with named values."""
    _, lines = audits.answers(CONFIG, list(_calls()))
    found = []
    for number, line in enumerate(lines):
        text = line.decode().replace("%", "%%")
        text = re.sub(_KNOWN, lambda match: f"%({match.lastgroup})b", text)
        chained = f',"boot_id":"a1c49c9f250aa862","seq":%(seq)b,"hash":"{number:064x}"}}'
        found.append(f"{text[:-1]}{chained}\n".encode())
    return found


def lines(count: int, seed: int = 1) -> Iterator[bytes]:
    """Yield so many lines, the same ones for the same seed."""
    chosen = random.Random(seed)
    formats = templates()
    callers = [f"caller{number:07}@example.com".encode() for number in range(CALLERS)]
    nodes = [f"10.44.{number // 8}.{number % 8 + 10}".encode() for number in range(NODES)]
    times = [f"{chosen.lognormvariate(-2, 1.5):.3f}".encode() for _ in range(10_000)]
    second = b""
    for number in range(count):
        at = EPOCH + number * 1000 // PER_SECOND
        if not number % PER_SECOND:
            second = f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%S}".encode()
        bits = chosen.getrandbits(64)
        unique = b"%016x" % (number * 0x9E3779B97F4A7C15 % (1 << 64))
        yield formats[bits % len(formats)] % {
            b"time": b"%b.%06dZ" % (second, at % 1000 * 1000),
            b"id": b"%08x-%04x-7000-8000-%012x" % (at >> 16, at & 0xFFFF, number),
            b"caller": callers[(bits >> 8) % CALLERS],
            b"room": b"room%07d@example.com" % (ROOMS * ((bits >> 28) % 4096 / 4096) ** 3),
            b"node": nodes[(bits >> 40) % NODES],
            b"address": b"10.%d.%d.7" % (bits >> 56, bits >> 48 & 0xFF),
            b"uuid": b"%b-%b-4def-8123-%b" % (unique[:8], unique[8:12], unique[4:]),
            b"ms": times[(bits >> 16) % len(times)],
            b"seq": b"%d" % (number + 1),
        }


def write(path: Path, count: int, seed: int = 1) -> None:
    """Write an audit file."""
    with path.open("wb") as file:
        made = lines(count, seed)
        while block := b"".join(islice(made, BLOCK)):
            file.write(block)


def rotate(audit: Path, number: int, *, compressed: bool) -> None:
    """Rename an audit file as logrotate does."""
    rotated = audit.rename(audit.with_name(f"{audit.name}.{number:06}"))
    if compressed:
        with gzip.open(f"{rotated}.gz", "wb", compresslevel=1) as packed:
            packed.write(rotated.read_bytes())
        rotated.unlink()
