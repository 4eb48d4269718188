"""Requests without right credentials in every form, and requests that are pipelined."""

import asyncio
import base64
import itertools
import random
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from lab.chaos.access.flood import memory_mib
from tests.support import live_server, waiting, wire

USER, PASSWORD = "pexip", "s3cret:é"
OTHER_USER, OTHER_PASSWORD = "second", "an other one"
USERS = {USER: PASSWORD, OTHER_USER: OTHER_PASSWORD}
KEEP = {"Connection": "keep-alive"}
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0")
MAX_GROWTH_MIB = 30.0
"""Maximum growth of the server's memory by pipelined requests."""
HOLD_S = 5.0
"""Seconds for which a connection with unread replies is held open."""
SEQUENCE = 30
"""Requests on one connection that change their credentials."""


@dataclass
class Admission:
    """Numbers of requests by what became of them, and whatever should not have happened."""

    name: str
    seen: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    note: str = ""

    def wrong(self) -> list[str]:
        """Return a description of each failure."""
        return self.problems + ([] if self.seen else ["nothing was answered"])

    @property
    def sentence(self) -> str:
        """Return all figures in one line."""
        return f"{self.name}: {self.seen.total()} requests, {dict(self.seen)}{self.note}"


def _encoded(pair: bytes) -> bytes:
    return base64.b64encode(pair)


def without_credentials() -> Iterator[bytes]:
    """Yield a request for each path in use or near it, with each method and version."""
    query = b"?local_alias=engineering"
    paths = [target.encode() + query for target in wire.TARGETS.values()]
    for target in list(paths):
        path = target.partition(b"?")[0]
        paths += [b"http://x" + target, path + b"/" + query, path.upper() + query]
    paths += [b"*", b"/", b"//" + paths[0], b"/%70olicy/v1/service/configuration", b"/policy/v1/"]
    for path, method, version in itertools.product(paths, METHODS, VERSIONS):
        yield b"%b %b %b\r\nHost: x\r\nConnection: close\r\n\r\n" % (method, path, version)


def with_wrong_credentials() -> Iterator[bytes]:
    """Yield a request for each way to write credentials that are not the right ones."""
    right = f"{USER}:{PASSWORD}".encode()
    decomposed = unicodedata.normalize("NFD", PASSWORD).encode()
    good = b"Authorization: Basic " + _encoded(right)
    pairs = [
        *(right + end for end in (b"\0", b" ", b"\n", b"\r\n", b"x")),
        *(right[:-1], b" " + right, right.upper(), right.title(), right.replace(b":", b"::", 1)),
        *(
            b"",
            b":",
            b"pexip",
            b"pexip:",
            b":s3cret",
            b"pexip:\0",
            b"\xff\xfe",
            b"\xef\xbb\xbf" + right,
        ),
        b"pexip:" + decomposed,
        f"{USER}:{PASSWORD}".encode("latin-1"),
        f"{USER}:{OTHER_PASSWORD}".encode(),
        f"{OTHER_USER}:{PASSWORD}".encode(),
        f"{USER}:{PASSWORD}".encode("utf-16"),
        _encoded(right),
        base64.b64decode(_encoded(right)[:-4]),
    ]
    values = [b"Basic " + _encoded(pair) for pair in pairs]
    values += [
        *(b"Basic " + right, b"Basic", b"Basic ", b"Basic =", b"Basic ====", b"Basic \x80"),
        *(
            scheme + _encoded(right)
            for scheme in (b"Bearer ", b"Digest ", b"Basic", b"Basic:", b"")
        ),
        b"Basic " + _encoded(right)[:-3],
        b"Basic " + _encoded(right)[1:],
        b"Basic " + b"A" * 40_000,
    ]
    headers = [b"Authorization: " + value for value in values]
    headers += [
        name + good[13:] for name in (b"Proxy-Authorization", b"X-Authorization", b"Cookie")
    ]
    headers += [
        b"Authorization: Basic " + _encoded(b"pexip:wrong") + b"\r\n" + good,
        b"Authorization:\r\n Basic " + _encoded(right),
        b"Authorization : Basic " + _encoded(right),
        b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\n" + good,
        b"X: y\n" + good.replace(b"Auth", b"\x00Auth"),
    ]
    target = wire.SERVICE.encode() + b"?local_alias=engineering"
    for header in headers:
        yield b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n\r\n" % (target, header)
    userinfo = b"http://pexip:s3cret%%3A%%C3%%A9@x%b"
    for url in (userinfo % target, target + b"&user=pexip&password=" + right[6:8]):
        yield b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % url


async def try_credentials(server: live_server.Running, at_once: int) -> Admission:
    """Send each request without right credentials from an address of its own."""
    admission = Admission("credentials")
    requests = [*without_credentials(), *with_wrong_credentials()]
    free = asyncio.Semaphore(at_once)

    async def send(number: int, request: bytes) -> None:
        address = f"127.1.{number // 250}.{number % 250 + 1}"
        async with free:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", server.port, local_addr=(address, 0)
                )
                try:
                    writer.write(request)
                    received = await asyncio.wait_for(reader.read(), waiting.HANG_S)
                finally:
                    writer.close()
                status = received[9:12].decode() or "closed"
                admission.seen[status] += 1
                if (status.startswith("5") and status != "505") or b"decision_id" in received:
                    admission.problems.append(f"{request[:120]!r} got {received[:80]!r}")

    await asyncio.gather(*itertools.starmap(send, enumerate(requests)))
    if missing := len(requests) - admission.seen.total():
        admission.problems.append(f"{missing} requests got nothing")
    decisions = sum(line["event"] == "decision" for line in server.lines())
    if decisions:
        admission.problems.append(f"{decisions} decisions were made")
    return admission


async def change_credentials(server: live_server.Running, connections: int, seed: int) -> Admission:
    """Change the credentials from request to request, on connections at addresses of their own."""
    admission = Admission("remembered")
    kinds: dict[str, tuple[Mapping[str, str], int]] = {
        "right": (wire.basic(USER, PASSWORD), 200),
        "another": (wire.basic(OTHER_USER, OTHER_PASSWORD), 200),
        "none": ({}, 401),
        "wrong": (wire.basic(USER, "guess"), 401),
        "mixed": (wire.basic(USER, OTHER_PASSWORD), 401),
    }
    chosen = random.Random(seed)

    async def use(number: int, names: list[str]) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, local_addr=(f"127.2.{number // 250}.{number % 250 + 1}", 0)
        )
        try:
            for name in names:
                headers, expected = kinds[name]
                target = f"{wire.SERVICE}?local_alias=engineering"
                writer.write(wire.request_bytes(target, "GET", {**headers, **KEEP}))
                head = wire.parse(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(int(head.headers["content-length"]))
                admission.seen[f"{name} {head.status}"] += 1
                if head.status != expected:
                    admission.problems.append(f"{name} credentials got {head.status}")
        finally:
            writer.close()

    await asyncio.gather(
        *(use(n, chosen.choices(list(kinds), k=SEQUENCE)) for n in range(connections))
    )
    return admission


async def pipeline(server: live_server.Running, count: int) -> Admission:
    """Pipeline requests with right, no and wrong credentials, and do not read the last replies."""
    admission = Admission("pipelined")
    target = f"{wire.SERVICE}?local_alias=engineering"
    before = highest = memory_mib(server.pid)

    async def send(headers: Mapping[str, str], number: int, reads: bytes | None) -> int:
        nonlocal highest
        request = wire.request_bytes(target, "GET", {**headers, **KEEP})
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request * number)
        received = 0
        try:
            async with asyncio.timeout(None if reads else HOLD_S):
                while reads and received < number:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
                    await reader.readexactly(int(length))
                    received += head.startswith(b"HTTP/1.1 " + reads)
                    highest = (
                        max(highest, memory_mib(server.pid)) if not received % 100 else highest
                    )
                while not reads:
                    await asyncio.sleep(0.1)
                    highest = max(highest, memory_mib(server.pid))
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()
        return received

    good = wire.basic(USER, PASSWORD)
    for name, headers, number, reads in (
        ("right", good, count, b"200"),
        ("none", {}, count, b"401"),
        ("wrong, not read", wire.basic(USER, "guess"), count, None),
        ("right, not read", good, 4 * count, None),
    ):
        received = await send(headers, number, reads)
        admission.seen[name] += number
        if reads and received != number:
            admission.problems.append(f"{received} of {number} requests with {name} got {reads!r}")
    admission.note = f"; memory {before:.0f} MiB before, {highest:.0f} at most"
    if highest > before + MAX_GROWTH_MIB:
        admission.problems.append(f"the server grew from {before:.0f} to {highest:.0f} MiB")
    return admission
