"""Requests with something broken in the request line or in the headers."""

from lab.fuzz.clean import VALUES
from lab.fuzz.requests import CREDENTIALS, HOST, Dice, FuzzCase, request

LINE_LIMIT = 32 * 1024
FIELD_LIMIT = 8 * 1024
VERSIONS = rb"""
    HTTP/1.0 HTTP/1.2 HTTP/0.9 HTTP/2.0 HTTP/9.9 HTTP/11.1 HTTP/1.10 http/1.1 HTTP/1,1 HTTP/
    HTTP/-1.1 HTTPS/1.1 RTSP/1.0
    """.split()
METHODS = (
    *(b"get", b"GE T", b"G\x00T", b"G\xc3\x89T", b"A" * 5000, b"", b"GET\t", b"{}"),
    *(b"%b", b"M%b", b"GET%b"),
)
TARGET_BYTES = (
    b" ",
    b"\t",
    b"\xff",
    b"\xc3\xa9",
    b"\x00",
    b"\x7f",
    b"\x0b",
    b"\xe2\x80\xa8",
    b" %b ",
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
    *(
        b"no colon",
        b": empty",
        b"A : b",
        b"A\x00: b",
        b"A: \x00%b",
        b" folded %b",
        b"A: b\r\n folded %b",
    ),
    *(b"A(b): c", b"\xff: a", b"\x7f: b", b"A: b\rC: d", b"%b", b"%b : a", b"X" * 9000 + b": a"),
    *(b"Host: a, b", b"Host: [::", b"Host: %b", b"User-Agent: a\r\nUser-Agent: %b"),
    *(b"Content-Length : 0", b"Content-Type: ;;;=%b", b"Content-Type: a\r\nContent-Type: b"),
    *(b"A: " + b"v" * 70_000, b"Cookie: " + b"a=b;" * 3000, CREDENTIALS.strip()),
)
HOST_LINES = (
    *(b"", b"Host:\r\n", HOST * 2, b"Host: %b\r\n", b"Host: a b\r\n", b"Host: \xff\r\n"),
    *(b"Host: a:99999999\r\n", b"Host: [::1\r\n", b"Host: %b:%b\r\n"),
)


def with_token(form: bytes, dice: Dice) -> bytes:
    """Put the token where a form of a table has its place."""
    return form.replace(b"%b", dice.token)


def version(target: bytes, dice: Dice) -> FuzzCase:
    word = dice.rng.choice((*VERSIONS, b"HTTP/1.1 x", b"\xff", dice.token))
    return FuzzCase(b"GET %b %b\r\n%b%b\r\n" % (target, word, HOST, CREDENTIALS), "version")


def no_version(target: bytes, dice: Dice) -> FuzzCase:
    method = dice.rng.choice((b"GET", b"get", b"POST"))
    return FuzzCase(b"%b %b\r\n\r\n" % (method, target), "no version", waits=True)


def method(target: bytes, dice: Dice) -> FuzzCase:
    return FuzzCase(request(target, with_token(dice.rng.choice(METHODS), dice)), "method")


def header(target: bytes, dice: Dice) -> FuzzCase:
    long = b"A: " + b"v" * (FIELD_LIMIT + dice.rng.randrange(-40, 41))
    line = with_token(dice.rng.choice((*HEADER_LINES, long)), dice)
    return FuzzCase(request(target, headers=line + b"\r\n"), "header")


def host(target: bytes, dice: Dice) -> FuzzCase:
    line = with_token(dice.rng.choice(HOST_LINES), dice)
    return FuzzCase(b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target, line, CREDENTIALS), "host")


def target_bytes(target: bytes, dice: Dice) -> FuzzCase:
    odd = with_token(dice.rng.choice(TARGET_BYTES), dice)
    cut = dice.rng.randrange(1, len(target) + 1)
    return FuzzCase(request(target[:cut] + odd + target[cut:]), "target bytes")


def target_form(target: bytes, dice: Dice) -> FuzzCase:
    form = with_token(
        dice.rng.choice((*TARGETS, *(start + target for start in TARGET_STARTS))), dice
    )
    verb = dice.rng.choice((b"GET", b"GET", b"OPTIONS", b"CONNECT"))
    return FuzzCase(request(form, verb), "target form", waits=True)


def long_line(target: bytes, dice: Dice) -> FuzzCase:
    limits = (LINE_LIMIT, LINE_LIMIT, LINE_LIMIT, FIELD_LIMIT, 65_536, 200_000)
    length = dice.rng.choice(limits) + dice.rng.randrange(-40, 41)
    filling = dice.rng.choice((b"a", b"%41", b"&", b"%", b"idp_attribute_a=b&", b"+", b"/"))
    line = target + b"&x=" + filling * (length // len(filling) + 1)
    return FuzzCase(request(line[:length]), "long line")


def many_headers(target: bytes, dice: Dice) -> FuzzCase:
    count = dice.rng.choice((50, 99, 100, 101, 127, 128, 129, 500, 3000))
    lines = b"".join(b"X-%d: %b\r\n" % (n, dice.token) for n in range(count))
    return FuzzCase(request(target, headers=lines), "many headers")


def bitten(target: bytes, dice: Dice) -> FuzzCase:
    rng = dice.rng
    wire = bytearray(request(target, headers=b"X-A: %b\r\nContent-Length: 0\r\n" % dice.token))
    pieces = (b"\r\n", b"\x00", b" ", b":", b"\r\n\r\n", b"%", rng.randbytes(1), rng.choice(VALUES))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(wire))
        wire[at : at + rng.randrange(4)] = rng.choice(pieces)
    return FuzzCase(bytes(wire), "bitten", waits=True, replies=heads(bytes(wire)))


def heads(wire: bytes) -> int:
    """How many requests the most lenient reader might find in these bytes."""
    return 1 + wire.count(b"\n")
