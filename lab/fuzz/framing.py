"""Requests that are cut off, or framed so that a careless server reads two out of one."""

from lab.fuzz.broken import heads, with_token
from lab.fuzz.requests import Dice, FuzzCase, request

INNER = b"GET /policy/v1/registrations?q=b HTTP/1.1\r\nHost: b\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNK_BODIES = (
    *(b"zz\r\n", b"-1\r\na\r\n0\r\n\r\n", b"ffffffffffffffffff\r\na", b"5\r\nab", b"\r\n\r\n"),
    *(b"0x5\r\nabcde\r\n0\r\n\r\n", b"5\nabcde\n0\n\n", b"1\r\nab\r\n0\r\n\r\n", b"0\r\n\r\r"),
    *(b"5 \r\nabcde\r\n0\r\n\r\n", b"1;" + b"a" * 40_000, b"0\r\n" + b"T: a\r\n" * 3000, b"%b\r\n"),
)
LENGTH_LINES = (
    *(b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: "),
    *(
        b"Content-Length: 0x5",
        b"Content-Length: 1_0",
        b"Content-Length: 5 5",
        b"Content-Length: %b",
    ),
    *(
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 1000",
        b"Content-Length: \xd9\xa5",
    ),
    *(b"Content-Length: 99999999999999999999999", b"Content-Length: 5\r\n" + CHUNKED.strip()),
    *(b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: \x0bchunked"),
    *(CHUNKED + CHUNKED.strip(), b"Transfer-Encoding: %b", b"Transfer-Encoding: gzip, chunked"),
    *(
        b"Content-Encoding: gzip\r\nContent-Length: 5",
        b"Content-Encoding: br\r\nContent-Length: 53",
    ),
)
EXPECTATIONS = (b"100-continue", b"100-Continue", b"%b", b"", b"200-ok", b"100-continue, x")
UPGRADES = (
    (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    ),
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ",
    *(b"Upgrade: TLS/1.2\r\nConnection: upgrade", b"Connection: Upgrade\r\nUpgrade: %b"),
    *(b"Connection: close, keep-alive", b"Connection: \xff", b"Connection: %b"),
)
OTHER_PROTOCOLS = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    b"INVITE sip:%b@x SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + request(b"/%b"),
    *(b"SSH-2.0-x\r\n", b"EHLO x\r\n", bytes(64), b"HTTP/1.1 200 OK\r\n\r\n", b"\x05\x01\x00"),
)
LINE_ENDS = (b"\n", b"\n", b"\r", b"\r\r\n", b"\n\r")
NOISES = (b"\r\n", b"\r\n" * 50, b"\n", b" ", b"\x00", b"\xef\xbb\xbf", b"\r", b"%b\r\n")


def loose(wire: bytes, kind: str) -> FuzzCase:
    """Make a case whose end depends on how the server reads it."""
    return FuzzCase(wire, kind, waits=True, replies=heads(wire))


def chunked(target: bytes, dice: Dice) -> FuzzCase:
    rng = dice.rng
    extension = with_token(rng.choice((b"", b";a=b", b";%b")), dice)
    chunk = b"%x%b\r\n%b\r\n" % (len(INNER), extension, INNER)
    trailer = with_token(rng.choice((b"", b"X-Trailer: %b\r\n")), dice)
    body = chunk * rng.randrange(1, 4) + b"0\r\n" + trailer + b"\r\n"
    return FuzzCase(
        request(target, rng.choice((b"GET", b"GET", b"POST")), CHUNKED, body), "chunked"
    )


def bad_chunks(target: bytes, dice: Dice) -> FuzzCase:
    body = with_token(dice.rng.choice(CHUNK_BODIES), dice)
    return loose(request(target, b"GET", CHUNKED, body), "bad chunks")


def length(target: bytes, dice: Dice) -> FuzzCase:
    method = dice.rng.choice((b"GET", b"GET", b"POST", b"PUT"))
    line = b"Content-Length: %d\r\n" % len(INNER)
    return FuzzCase(request(target, method, line, INNER), "length")


def bad_length(target: bytes, dice: Dice) -> FuzzCase:
    lines = with_token(dice.rng.choice(LENGTH_LINES), dice) + b"\r\n"
    return loose(request(target, b"GET", lines, b"0\r\n\r\n" + INNER), "bad length")


def expect(target: bytes, dice: Dice) -> FuzzCase:
    line = b"Expect: " + with_token(dice.rng.choice(EXPECTATIONS), dice) + b"\r\n"
    if dice.rng.random() < 0.5:
        return FuzzCase(request(target, headers=line), "expect")
    return FuzzCase(request(target, b"GET", line + b"Content-Length: 2\r\n", b"ab"), "expect")


def upgrade(target: bytes, dice: Dice) -> FuzzCase:
    lines = with_token(dice.rng.choice(UPGRADES), dice) + b"\r\n"
    more = dice.rng.choice((b"", b"\x81\x05hello"))
    return FuzzCase(request(target, headers=lines) + more, "upgrade", waits=True, replies=2)


def line_ends(target: bytes, dice: Dice) -> FuzzCase:
    return loose(request(target).replace(b"\r\n", dice.rng.choice(LINE_ENDS)), "line ends")


def half_sent(target: bytes, dice: Dice) -> FuzzCase:
    wire = request(target, headers=b"X-A: %b\r\n" % dice.token)
    return FuzzCase(wire[: dice.rng.randrange(1, len(wire) - 1)], "half sent", waits=True)


def leading_noise(target: bytes, dice: Dice) -> FuzzCase:
    return loose(with_token(dice.rng.choice(NOISES), dice) + request(target), "leading noise")


def other_protocol(_target: bytes, dice: Dice) -> FuzzCase:
    noise = dice.rng.randbytes(dice.rng.randrange(1, 400))
    wire = with_token(dice.rng.choice((*OTHER_PROTOCOLS, noise)), dice)
    return loose(wire, "other protocol")
