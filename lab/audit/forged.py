"""Requests that try to forge audit lines, or to control the terminal of their readers."""

import asyncio
import itertools
import json
import unicodedata
from collections import Counter
from pathlib import Path
from urllib.parse import quote_from_bytes

from lab.audit.server import Server, audit_files, check
from lab.report import Finding
from tests.support import forked, waiting, wire

FORGED = b'{"time":"2026-01-01T00:00:00Z","event":"forged"}'
VALUES = (
    *(b"x\n" + FORGED + b"\n", b"x\r\n" + FORGED, b'x"}\n' + FORGED, b'","event":"forged","a":"'),
    *(f"x{separator}{FORGED.decode()}".encode() for separator in "\u2028\u2029\x85\x0b\x0c\x1c"),
    *(b"\x1b[31mred", b"\x1b]8;;http://evil.example\x07link\x1b]8;;\x07", b"\x1b[2J\x1b[H"),
    *("\x9b31m".encode(), "\x9d0;title\x9c".encode(), "\u202egpj.exe".encode(), b"a\x08\x08b"),
    *("\u2066a\u2069\u200f".encode(), b"\x00", b"\x7f", b"\xed\xa0\x80", b"\xff\xfe", b"[/]"),
    *("\ufeffx".encode(), b"[link=http://evil.example]x[/link]", b"\\u000aforged", b"\\"),
)
PARAMETERS = (
    *("local_alias", "remote_alias", "remote_display_name", "call_tag", "vendor", "location"),
    *("node_ip", "service_name", "service_tag", "idp_attribute_group", "unheard_of"),
)
HEADERS = ("User-Agent", "Referer", "X-Forwarded-For", "Authorization", "Host")
_MARKS = ("RLE", "LRE", "RLO", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI")


def requests() -> list[tuple[bytes, bool]]:
    """Return the requests, and whether each must be answered with a decision."""
    found: list[tuple[bytes, bool]] = []

    def add(target: bytes, header: bytes = b"", *, decided: bool) -> None:
        head = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n" % (target, header)
        found.append((head, decided))

    services = [wire.SERVICE.encode(), wire.PARTICIPANT.encode()]
    for value, name in itertools.product(VALUES, PARAMETERS):
        written = quote_from_bytes(value, safe="").encode()
        for service in services:
            add(b"%b?%b=%b" % (service, name.encode(), written), decided=True)
    for value in VALUES:
        written = quote_from_bytes(value, safe="").encode()
        add(b"%b?%b=x&local_alias=a" % (services[0], written), decided=True)
        add(wire.AVATAR.encode() + written, decided=True)
        add(wire.REGISTRATION.encode() + written, decided=True)
        add(b"/" + written, decided=False)
        add(b"%b?local_alias=%b" % (services[0], value), decided=False)
        for header in HEADERS:
            add(
                services[0] + b"?local_alias=x",
                b"%b: %b\r\n" % (header.encode(), value),
                decided=False,
            )
    return found


async def forged(folder: Path) -> Finding:
    """Send the requests and read the audit with each command."""
    sent = requests()
    finding = Finding("forged lines", f"{len(sent)} requests")
    server = await Server(folder).start()
    statuses: Counter[str] = Counter()
    ids: list[str] = []
    for request, decided in sent:
        received = await _received(server.port, request)
        status = received[9:12].decode("ascii", "replace") or "closed"
        statuses[status] += 1
        if decided and status not in ("200", "404"):
            finding.wrong.append(f"{request[:90]!r} got {status}")
        if b'"decision_id"' in received:
            body = received.partition(b"\r\n\r\n")[2]
            ids.append(json.loads(body)["decision_id"])
    await server.stop()
    content = server.path.read_bytes()
    for line in content.decode().split("\n")[:-1]:
        if json.loads(line)["event"] not in ("decision", "refused", "end"):
            finding.wrong.append(f"a line of another event: {line[:100]}")
    if odd := _odd(content.decode()):
        finding.wrong.append(f"{odd} in the file")
    await check(finding, ids, audit_files(folder))
    for command in (("tail", "-n", "5000"), ("grep", "x"), ("stats",), ("show", ids[0])):
        output = await _audit(folder, *command)
        if odd := _odd(output):
            finding.wrong.append(f"{odd} in the output of {command[0]}")
        finding.notes.append(f"{command[0]} {len(output):,} characters")
    if odd := _odd(server.log.decode()):
        finding.wrong.append(f"{odd} on standard error")
    finding.notes.append(f"replies {dict(statuses)}")
    return finding


async def _received(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), waiting.HANG_S)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def _audit(folder: Path, *arguments: str) -> str:
    command = ("audit", *arguments, "--config", "config.toml")
    done = await asyncio.to_thread(forked.run, *command, cwd=folder, merged=True)
    return done.stdout


def _odd(text: str) -> list[str]:
    """Return the control characters, line separators and marks of direction in a text."""
    return sorted(
        {
            f"U+{ord(letter):04X}"
            for letter in text
            if (unicodedata.category(letter) in ("Cc", "Zl", "Zp") and letter != "\n")
            or unicodedata.bidirectional(letter) in _MARKS
        }
    )
