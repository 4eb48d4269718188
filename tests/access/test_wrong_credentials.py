"""Requests without the right credentials, in every form that a client may write."""

import asyncio
import base64
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.support import live_server, waiting, wire

USER, PASSWORD = "pexip", "s3cret:é"
OTHER_USER, OTHER_PASSWORD = "second", "an other one"
METHODS = (b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"CONNECT")
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0")


def encoded(pair: bytes) -> bytes:
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
    good = b"Authorization: Basic " + encoded(right)
    pairs = [
        *(right + end for end in (b"\0", b" ", b"\n", b"\r\n", b"x")),
        *(right[:-1], b" " + right, right.upper(), right.title(), right.replace(b":", b"::", 1)),
        *(b"", b":", b"pexip", b"pexip:", b":s3cret", b"pexip:\0", b"\xff\xfe"),
        b"\xef\xbb\xbf" + right,
        b"pexip:" + decomposed,
        f"{USER}:{PASSWORD}".encode("latin-1"),
        f"{USER}:{OTHER_PASSWORD}".encode(),
        f"{OTHER_USER}:{PASSWORD}".encode(),
        f"{USER}:{PASSWORD}".encode("utf-16"),
        encoded(right),
        base64.b64decode(encoded(right)[:-4]),
    ]
    values = [b"Basic " + encoded(pair) for pair in pairs]
    values += [
        *(b"Basic " + right, b"Basic", b"Basic ", b"Basic =", b"Basic ====", b"Basic \x80"),
        *(scheme + encoded(right) for scheme in (b"Bearer ", b"Digest ", b"Basic", b"Basic:", b"")),
        b"Basic " + encoded(right)[:-3],
        b"Basic " + encoded(right)[1:],
        b"Basic " + b"A" * 40_000,
    ]
    headers = [b"Authorization: " + value for value in values]
    headers += [
        name + good[13:] for name in (b"Proxy-Authorization", b"X-Authorization", b"Cookie")
    ]
    headers += [
        b"Authorization: Basic " + encoded(b"pexip:wrong") + b"\r\n" + good,
        b"Authorization:\r\n Basic " + encoded(right),
        b"Authorization : Basic " + encoded(right),
        b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\n" + good,
        b"X: y\n" + good.replace(b"Auth", b"\x00Auth"),
    ]
    target = wire.SERVICE.encode() + b"?local_alias=engineering"
    for header in headers:
        yield b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n\r\n" % (target, header)
    userinfo = b"http://pexip:s3cret%%3A%%C3%%A9@x%b"
    for url in (userinfo % target, target + b"&user=pexip&password=" + right[6:8]):
        yield b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % url


async def test_no_request_without_the_right_credentials_is_admitted(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"""
[[auth.credentials]]
user = "{USER}"
password_file = "first"
[[auth.credentials]]
user = "{OTHER_USER}"
password_file = "second"
[audit]
path = "audit.jsonl"
[plugins.rooms.settings.rooms.engineering]
name = "Engineering"
""")
    for name, password in (("first", PASSWORD), ("second", OTHER_PASSWORD)):
        (tmp_path / name).write_text(password)
        (tmp_path / name).chmod(0o600)
    seen: Counter[str] = Counter()
    with live_server.running(config) as server:
        free = asyncio.Semaphore(20)

        async def send(number: int, request: bytes) -> None:
            own = (f"127.1.{number // 250}.{number % 250 + 1}", 0)
            async with free:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", server.port, local_addr=own
                )
                writer.write(request)
                with suppress(ConnectionError):
                    received = await asyncio.wait_for(reader.read(), waiting.HANG_S)
                    assert b"decision_id" not in received, request
                    seen[received[9:12].decode() or "closed"] += 1
                writer.transport.abort()

        requests = [*without_credentials(), *with_wrong_credentials()]
        await asyncio.gather(*itertools.starmap(send, enumerate(requests)))
        for user, password in ((USER, PASSWORD), (OTHER_USER, OTHER_PASSWORD)):
            right = await asyncio.to_thread(
                server.ask,
                f"{wire.SERVICE}?local_alias=engineering",
                headers=wire.basic(user, password),
            )
            assert right.status == 200
    assert not {status for status in seen if status.startswith("5")} - {"505"}
    decisions = [line for line in server.lines() if line["event"] == "decision"]
    assert [line["credential"] for line in decisions] == [1, 2]
