"""Requests that are broken, cut off, or framed so that a careless server reads two out of one."""

from collections.abc import Callable
from typing import NamedTuple

from lab.fuzz.clean import VALUES
from lab.fuzz.requests import CREDENTIALS, HOST, Dice, FuzzCase, request

LINE_LIMIT = 32 * 1024
FIELD_LIMIT = 8 * 1024
VERSIONS = (
    *rb"""
    HTTP/1.0 HTTP/1.2 HTTP/0.9 HTTP/2.0 HTTP/9.9 HTTP/11.1 HTTP/1.10 http/1.1 HTTP/1,1 HTTP/
    HTTP/-1.1 HTTPS/1.1 RTSP/1.0 %b
    """.split(),
    *(b"HTTP/1.1 x", b"\xff"),
)
METHODS = (
    *(b"get", b"GE T", b"G\x00T", b"G\xc3\x89T", b"A" * 5000, b"", b"GET\t", b"{}"),
    *(b"%b", b"M%b", b"GET%b"),
)
TARGET_BYTES = (
    *(b" ", b"\t", b"\xff", b"\xc3\xa9", b"\x00", b"\x7f", b"\x0b", b"\xe2\x80\xa8", b" %b "),
)
TARGETS = (
    *rb"""
    * ? ?a a [ :: # x:1 \\x http:// http://a:b:c/%b https://%b/ //%b javascript:1 http://%%00/
    http://[::1 http://x:99999/%b ftp://x/%b http://u:p@x/%b http://[%b]/ :%b @%b
    """.split(),
    b"",
    b"http://\xff/",
    b"http://" + b"a" * 300,
)
TARGET_STARTS = (b"http://[::1", b"http://[fe80::1%25eth0]:80", b"http://xn--", b"ftp://x")
HEADER_LINES = (
    *(b"no colon", b": empty", b"A : b", b"A\x00: b", b"A: \x00%b"),
    *(b" folded %b", b"A: b\r\n folded %b"),
    *(b"A(b): c", b"\xff: a", b"\x7f: b", b"A: b\rC: d", b"%b", b"%b : a", b"X" * 9000 + b": a"),
    *(b"Host: a, b", b"Host: [::", b"Host: %b", b"User-Agent: a\r\nUser-Agent: %b"),
    *(b"Content-Length : 0", b"Content-Type: ;;;=%b", b"Content-Type: a\r\nContent-Type: b"),
    *(b"A: " + b"v" * 70_000, b"Cookie: " + b"a=b;" * 3000, CREDENTIALS.strip()),
)
HOST_LINES = (
    *(b"", b"Host:\r\n", HOST * 2, b"Host: %b\r\n", b"Host: a b\r\n", b"Host: \xff\r\n"),
    *(b"Host: a:99999999\r\n", b"Host: [::1\r\n", b"Host: %b:%b\r\n"),
)
INNER = b"GET /policy/v1/registrations?q=b HTTP/1.1\r\nHost: b\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNK_BODIES = (
    *(b"zz\r\n", b"-1\r\na\r\n0\r\n\r\n", b"ffffffffffffffffff\r\na", b"5\r\nab", b"\r\n\r\n"),
    *(b"0x5\r\nabcde\r\n0\r\n\r\n", b"5\nabcde\n0\n\n", b"1\r\nab\r\n0\r\n\r\n", b"0\r\n\r\r"),
    *(b"5 \r\nabcde\r\n0\r\n\r\n", b"1;" + b"a" * 40_000, b"0\r\n" + b"T: a\r\n" * 3000, b"%b\r\n"),
)
LENGTHS = b"-1 +5 0x5 1_0 1000 %b \xd9\xa5 99999999999999999999999".split()
LENGTH_LINES = (
    *(b"Content-Length: " + length for length in (*LENGTHS, b"", b"5, 5", b"5 5")),
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5\r\n" + CHUNKED.strip(),
    *(b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: \x0bchunked"),
    *(CHUNKED + CHUNKED.strip(), b"Transfer-Encoding: %b", b"Transfer-Encoding: gzip, chunked"),
    b"Content-Encoding: gzip\r\nContent-Length: 5",
    b"Content-Encoding: br\r\nContent-Length: 53",
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


def _header(dice: Dice) -> bytes:
    long = b"A: " + b"v" * (FIELD_LIMIT + dice.rng.randrange(-40, 41))
    return dice.form((*HEADER_LINES, long)) + b"\r\n"


def _target_bytes(target: bytes, dice: Dice) -> bytes:
    cut = dice.rng.randrange(1, len(target) + 1)
    return request(target[:cut] + dice.form(TARGET_BYTES) + target[cut:])


def _target_form(target: bytes, dice: Dice) -> bytes:
    forms = (*TARGETS, *(start + target for start in TARGET_STARTS))
    return request(dice.form(forms), dice.form((b"GET", b"GET", b"OPTIONS", b"CONNECT")))


def _bitten(target: bytes, dice: Dice) -> bytes:
    rng = dice.rng
    wire = bytearray(request(target, headers=b"X-A: %b\r\nContent-Length: 0\r\n" % dice.token))
    pieces = (b"\r\n", b"\x00", b" ", b":", b"\r\n\r\n", b"%", rng.randbytes(1), rng.choice(VALUES))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(wire))
        wire[at : at + rng.randrange(4)] = rng.choice(pieces)
    return bytes(wire)


def _chunked(target: bytes, dice: Dice) -> bytes:
    extension, trailer = dice.form((b"", b";a=b", b";%b")), dice.form((b"", b"X-Trailer: %b\r\n"))
    chunk = b"%x%b\r\n%b\r\n" % (len(INNER), extension, INNER)
    body = chunk * dice.rng.randrange(1, 4) + b"0\r\n" + trailer + b"\r\n"
    return request(target, dice.form((b"GET", b"GET", b"POST")), CHUNKED, body)


def _length(target: bytes, dice: Dice) -> bytes:
    method = dice.form((b"GET", b"GET", b"POST", b"PUT"))
    return request(target, method, b"Content-Length: %d\r\n" % len(INNER), INNER)


def _expect(target: bytes, dice: Dice) -> bytes:
    line = b"Expect: " + dice.form(EXPECTATIONS) + b"\r\n"
    lines, body = dice.rng.choice(((line, b""), (line + b"Content-Length: 2\r\n", b"ab")))
    return request(target, b"GET", lines, body)


def _upgrade(target: bytes, dice: Dice) -> bytes:
    lines = dice.form(UPGRADES) + b"\r\n"
    return request(target, headers=lines) + dice.form((b"", b"\x81\x05hello"))


def _half_sent(target: bytes, dice: Dice) -> bytes:
    wire = request(target, headers=b"X-A: %b\r\n" % dice.token)
    return wire[: dice.rng.randrange(1, len(wire) - 1)]


def _other_protocol(_target: bytes, dice: Dice) -> bytes:
    return dice.form((*OTHER_PROTOCOLS, dice.rng.randbytes(dice.rng.randrange(1, 400))))


def _long_line(target: bytes, dice: Dice) -> bytes:
    limits = (LINE_LIMIT, LINE_LIMIT, LINE_LIMIT, FIELD_LIMIT, 65_536, 200_000)
    length = dice.rng.choice(limits) + dice.rng.randrange(-40, 41)
    filling = dice.rng.choice((b"a", b"%41", b"&", b"%", b"idp_attribute_a=b&", b"+", b"/"))
    line = target + b"&x=" + filling * (length // len(filling) + 1)
    return request(line[:length])


def _many_headers(target: bytes, dice: Dice) -> bytes:
    count = dice.rng.choice((50, 99, 100, 101, 127, 128, 129, 500, 3000))
    return request(
        target, headers=b"".join(b"X-%d: %b\r\n" % (n, dice.token) for n in range(count))
    )


class Kind(NamedTuple):
    """A kind of broken requests: `make` puts one together from a target.

    A server may wait for more bytes of one that `waits`. With no number of `replies`, the bytes may
    bring as many as the most lenient reader might find requests in them.
    """

    name: str
    make: Callable[[bytes, Dice], bytes]
    waits: bool = False
    replies: int | None = 1
    weight: float = 1

    def case(self, target: bytes, dice: Dice) -> FuzzCase:
        """Make a case of this kind."""
        wire = self.make(target, dice)
        replies = 1 + wire.count(b"\n") if self.replies is None else self.replies
        return FuzzCase(wire, self.name, waits=self.waits, replies=replies)


def _version(target: bytes, dice: Dice) -> bytes:
    return b"GET %b %b\r\n%b%b\r\n" % (target, dice.form(VERSIONS), HOST, CREDENTIALS)


def _host(target: bytes, dice: Dice) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target, dice.form(HOST_LINES), CREDENTIALS)


def _bad_length(target: bytes, dice: Dice) -> bytes:
    return request(target, b"GET", dice.form(LENGTH_LINES) + b"\r\n", b"0\r\n\r\n" + INNER)


WAITS, LOOSE = True, None
KINDS = (
    Kind("version", _version),
    Kind("no version", lambda t, d: d.form((b"GET", b"get", b"POST")) + b" %b\r\n\r\n" % t, WAITS),
    Kind("method", lambda t, d: request(t, d.form(METHODS))),
    Kind("host", _host),
    Kind("target form", _target_form, WAITS),
    Kind("header", lambda t, d: request(t, headers=_header(d)), weight=2),
    Kind("target bytes", _target_bytes, weight=2),
    Kind("bitten", _bitten, WAITS, LOOSE, weight=3),
    Kind("chunked", _chunked),
    Kind(
        "bad chunks", lambda t, d: request(t, b"GET", CHUNKED, d.form(CHUNK_BODIES)), WAITS, LOOSE
    ),
    Kind("length", _length),
    Kind("bad length", _bad_length, WAITS, LOOSE),
    Kind("expect", _expect),
    Kind("upgrade", _upgrade, WAITS, 2),
    Kind("line ends", lambda t, d: request(t).replace(b"\r\n", d.form(LINE_ENDS)), WAITS, LOOSE),
    Kind("leading noise", lambda t, d: d.form(NOISES) + request(t), WAITS, LOOSE),
    Kind("half sent", _half_sent, WAITS, weight=2),
    Kind("other protocol", _other_protocol, WAITS, LOOSE),
    Kind("long line", _long_line, weight=0.6),
    Kind("many headers", _many_headers, weight=0.6),
)
WEIGHTS = [kind.weight for kind in KINDS]
