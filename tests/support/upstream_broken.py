"""Broken targets, each with a different fault."""

import asyncio
import gzip
import json
import socket
import struct
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.upstream_servers import ROOM, Behave, decided, reply

END_OF_HEAD = b"\r\n\r\n"
BAD = {**ROOM, "name": "Bad"}
"""A decision that must reach no caller."""
SOUND = json.dumps({"status": "success", "action": "continue", "result": BAD}).encode()


@dataclass(frozen=True)
class Broken:
    """One fault; ``says`` must occur in the detail of the step."""

    name: str
    behave: Behave
    says: str
    slow: bool = False
    """True if the fault is detected by the timeout."""
    silent: bool = False
    """True for a reply that counts as abstaining, not as a failure."""

    def __str__(self) -> str:
        return self.name


def sends(*parts: bytes, then: str = "close", pause: float = 0.0) -> Behave:
    """Return a target that sends these bytes, then closes, resets, hangs, or continues."""

    async def behave(reader: Reader, writer: Writer) -> None:
        while True:
            await reader.readuntil(END_OF_HEAD)
            for number, part in enumerate(parts):
                if number:
                    await asyncio.sleep(pause)
                writer.write(part)
                await writer.drain()
            if then == "hang":
                await asyncio.sleep(60)
            if then == "reset":
                _reset(writer)
            if then != "keep":
                return writer.close()

    return behave


def _reset(writer: Writer) -> None:
    connection: Any = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(content: bytes, at_once: int = 0) -> Behave:
    """Return a target that sends the first ``at_once`` bytes, then one byte each second."""
    return sends(content[:at_once], *(bytes([byte]) for byte in content[at_once:]), pause=1.0)


def endless(head: bytes, part: bytes) -> Behave:
    """Return a target that sends a head, then the same part without end."""

    async def behave(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(END_OF_HEAD)
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    return behave


async def _never_answers(reader: Reader, _: Writer) -> None:
    while await reader.read(65536):
        pass


async def _closes_at_once(_: Reader, writer: Writer) -> None:
    writer.close()


async def _resets_at_once(_: Reader, writer: Writer) -> None:
    _reset(writer)
    writer.close()


async def _speaks_first(reader: Reader, writer: Writer) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n")
    await reader.readuntil(END_OF_HEAD)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LATE, CLOSED, TORN, NO_HTTP = "in time", "closed the connection", "shorter", "not HTTP"
BOMB = gzip.compress(b" " * 4_000_000 + SOUND, 1)


def sized(length: object, body: bytes = SOUND) -> bytes:
    """Return a reply whose Content-Length is ``length``."""
    return HEAD + f"Content-Length: {length}\r\n\r\n".encode() + body


def _connections() -> Iterable[Broken]:
    yield Broken("never answers", _never_answers, LATE, slow=True)
    yield Broken("closes at once", _closes_at_once, CLOSED)
    yield Broken("resets at once", _resets_at_once, CLOSED)
    yield Broken("closes after the request", sends(), CLOSED)
    yield Broken("resets after the request", sends(then="reset"), CLOSED)
    yield Broken("speaks another protocol", _speaks_first, NO_HTTP)
    yield Broken("sends noise", sends(bytes(range(256)) * 4), NO_HTTP)
    yield Broken("answers in HTTP 0.9", sends(SOUND), NO_HTTP)
    yield Broken("hangs within the head", sends(HEAD, then="hang"), LATE, slow=True)
    yield Broken("closes within the head", sends(HEAD), CLOSED)
    yield Broken("drips its head", drips(sized(len(SOUND))), LATE, slow=True)
    yield Broken("has headers without end", endless(HEAD, b"X-More: " + b"x" * 200 + b"\r\n"), "")
    yield Broken("has one endless header", endless(HEAD + b"X-More: ", b"x" * 4096), NO_HTTP)
    yield Broken(
        "asks to continue for ever", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "", slow=True
    )
    yield Broken("switches protocols", sends(b"HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n"), "101")


def _bodies() -> Iterable[Broken]:
    yield Broken("says too great a length", sends(sized(len(SOUND) + 10)), TORN)
    yield Broken("says too small a length", sends(sized(len(SOUND) - 10)), "")
    yield Broken("hangs within the body", sends(sized(9_999), then="hang"), LATE, slow=True)
    yield Broken("resets within the body", sends(sized(9_999), then="reset", pause=0.01), "")
    yield Broken("says a negative length", sends(sized(-1)), NO_HTTP)
    yield Broken("says a length that is none", sends(sized("many")), NO_HTTP)
    yield Broken("drips its body", drips(sized(len(SOUND)), at_once=120), LATE, slow=True)
    yield Broken("closes within a chunk", sends(CHUNKED + b"ff\r\n" + SOUND[:20]), TORN)
    yield Broken("closes before the last chunk", sends(CHUNKED + b"5\r\nabcde\r\n"), TORN)
    yield Broken("has chunks of no size", sends(CHUNKED + b"zz\r\n" + SOUND), "")
    yield Broken("answers five megabytes", sends(reply(b" " * 5_000_000 + SOUND)), "longer")
    yield Broken("answers without end", endless(CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"), "")
    yield Broken("sends a gzip bomb", sends(reply(BOMB, extra="Content-Encoding: gzip\r\n")), "cod")
    bomb = reply(BOMB, extra="Content-Encoding: deflate, gzip\r\n")
    yield Broken("sends a bomb in two codings", sends(bomb), "coding")


def _statuses() -> Iterable[Broken]:
    for status in ("500 Oops", "502 Bad Gateway", "503 Busy", "504 Late", "401 Who", "403 No"):
        yield Broken(f"answers {status}", sends(reply(SOUND, status), then="keep"), status[:3])
    for status in ("204 Nothing", "202 Later", "400 What", "414 Long", "299 Odd"):
        yield Broken(f"answers {status}", sends(reply(SOUND, status)), "")
    yield Broken("answers 404 with a decision", sends(reply(SOUND, "404 None")), "404")
    yield Broken("answers 404", sends(reply(b"{}", "404 None"), then="keep"), "", silent=True)
    yield Broken("answers 429", sends(reply(b"", "429 Slow"), then="keep"), "429")
    failed = reply({"status": "fail", "action": "continue"})
    yield Broken("reports a failure", sends(failed, then="keep"), "", silent=True)


def _contents() -> Iterable[Broken]:
    html = b"<!doctype html><title>Login</title>"
    yield Broken("answers HTML", sends(reply(html, kind="text/html")), "content type")
    yield Broken("calls HTML JSON", sends(reply(html)), "not JSON")
    yield Broken("calls JSON text", sends(reply(SOUND, kind="text/plain")), "content type")
    yield Broken("answers nothing", sends(reply(b"")), "empty")
    yield Broken("answers half of it", sends(reply(SOUND[:40])), "not JSON")
    yield Broken("answers a list", sends(reply(b"[]")), "not an object")
    yield Broken("answers in Latin-1", sends(reply(SOUND.replace(b"Bad", b"B\xe5d"))), "UTF-8")
    yield Broken("begins with a byte order mark", sends(reply(b"\xef\xbb\xbf" + SOUND)), "mark")
    twice = SOUND.replace(b'"result"', b'"action":"continue","result"')
    yield Broken("says a key twice", sends(reply(twice)), "twice")
    yield Broken("says NaN", sends(reply(SOUND.replace(b'"room"', b"NaN"))), "NaN")
    deep = SOUND[:-1] + b',"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    for size in (1_000_000, 130_000):
        dense = SOUND[:-1] + b',"x":[' + b'{"a":1},' * (size // 8) + b"1]"
        says = "longer" if size > 131_072 else "not JSON"
        yield Broken(f"fills {size} bytes with objects", sends(reply(dense)), says)
    yield Broken("nests without end", sends(reply(deep)), "nested")


def _decisions() -> Iterable[Broken]:
    misspelt = reply({"status": "Success", "action": "continue", "result": BAD})
    yield Broken("misspells success", sends(misspelt), "exactly")
    yield Broken("rejects with a room", sends(decided(BAD, "reject")), "usable")
    yield Broken("knows another action", sends(decided({}, "allow")), "not one of")
    yield Broken("has a PIN of letters", sends(decided({**BAD, "pin": "abc"})), "pin")
    yield Broken("leaves out the name", sends(decided({"service_type": "conference"})), "name")
    yield Broken("knows another service", sends(decided({**BAD, "service_type": "vmr"})), "vmr")
    yield Broken("answers a text", sends(decided("Room")), "result")
    yield Broken(
        "redirects to no alias", sends(decided({"new_alias": "sales"}, "redirect")), "scheme"
    )


KINDS = [*_connections(), *_bodies(), *_statuses(), *_contents(), *_decisions()]
