"""What the console does with bodies, heads and floods that no browser sends."""

import gzip
import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.live_console import LiveConsole, running_console
from tests.support.waiting import HANG_S

CONFIG = """
[audit]
path = "audit.jsonl"

[console]
trusted_proxies = ["127.0.0.0/8"]

[[console.users]]
user = "vera"
role = "viewer"
password_file = "vera.txt"
"""
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
RIGHT = b"user=vera&password=correct+horse+battery"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveConsole]:
    folder = tmp_path_factory.mktemp("console")
    (folder / "config.toml").write_text(CONFIG)
    (folder / "vera.txt").write_text("correct horse battery")
    with running_console(folder / "config.toml") as running:
        yield running


def exchange(console: LiveConsole, head: str, body: bytes = b"") -> bytes:
    """Send bytes; return what comes back until the console closes."""
    host, _, port = console.netloc.rpartition(":")
    text = f"{head}\r\nHost: {console.netloc}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), HANG_S) as connection:
        connection.sendall(text.encode("latin-1") + body)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def log_in(console: LiveConsole, client: str, body: bytes, *headers: str) -> int:
    """Send a body to the login as a browser at an address; return the status."""
    lines = [
        "POST /login HTTP/1.1",
        f"Origin: {console.url}",
        f"X-Forwarded-For: {client}",
        *(headers or (URLENCODED,)),
        f"Content-Length: {len(body)}",
    ]
    return int(exchange(console, "\r\n".join(lines), body).split(b" ", 2)[1])


MALFORMED = [
    (RIGHT, "Content-Type: text/plain", 415),
    (RIGHT, f"{URLENCODED}; charset=utf-7", 415),
    (RIGHT, f"{URLENCODED}; charset=no-such", 415),
    (RIGHT, "X-Nothing: 1", 415),
    (gzip.compress(RIGHT), f"{URLENCODED}\r\nContent-Encoding: gzip", 415),
    (
        b'--b\r\nContent-Disposition: form-data; name="user"\r\n\r\nvera\r\n--b--\r\n',
        'Content-Type: multipart/form-data; boundary="b"',
        415,
    ),
    (json.dumps({"user": "vera"}).encode(), "Content-Type: application/json", 415),
    (b"user=vera&user=ann&password=x", URLENCODED, 400),
    (b"user=vera&password=a&password=correct+horse+battery", URLENCODED, 400),
    (b"user=vera&password=%ff", URLENCODED, 400),
    (b"user=vera&password=\xff", URLENCODED, 400),
    (b"user=vera&password=%ed%a0%80", URLENCODED, 400),
    (b"nothing", URLENCODED, 400),
    (b"&".join(b"f%d=1" % number for number in range(100)), URLENCODED, 400),
]


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_a_malformed_form_is_refused_and_counts_as_an_attempt(
    console: LiveConsole, number: int
) -> None:
    body, headers, status = MALFORMED[number]
    client = f"10.1.0.{number}"
    assert log_in(console, client, body, headers) == status
    line = console.actions()[-1]
    assert (line["event"], line["peer"]) == ("login refused", client)


def test_forms_without_the_fields_of_a_login_are_wrong_credentials(console: LiveConsole) -> None:
    for body in (b"", b"user=vera", b"password=x", b"link=", b"user=&password="):
        assert log_in(console, "10.2.0.1", body) == 401


def test_attempts_of_every_shape_count_towards_one_limit(console: LiveConsole) -> None:
    """The delays grow, so the attempts are made at the same time, from one address."""
    host, _, port = console.netloc.rpartition(":")
    opened = []
    for number in range(40):
        body, headers, _ = MALFORMED[number % len(MALFORMED)]
        if number % 2:
            body, headers = b"user=vera&password=guess", URLENCODED
        head = (
            f"POST /login HTTP/1.1\r\nHost: {console.netloc}\r\nOrigin: {console.url}\r\n"
            f"X-Forwarded-For: 10.3.0.1\r\n{headers}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        connection = socket.create_connection((host, int(port)), HANG_S)
        connection.sendall(head.encode() + body)
        opened.append(connection)
    statuses = []
    for connection in opened:
        with connection:
            statuses.append(int(connection.recv(1 << 16).split(b" ", 2)[1]))
    assert statuses.count(429) == 20
    assert log_in(console, "10.3.0.1", RIGHT) == 429
    assert log_in(console, "10.3.0.2", RIGHT) == 303
    link = f"link={console.link('viewer')}".encode()
    assert log_in(console, "10.3.0.1", link) == 303


def test_a_form_of_a_page_has_to_be_one_too(console: LiveConsole) -> None:
    console.log_in()
    for body, headers, status in MALFORMED:
        head = (
            f"POST /logout HTTP/1.1\r\nOrigin: {console.url}\r\nCookie: {console.cookie}\r\n"
            f"X-CSRF-Token: {console.token}\r\n{headers}\r\nContent-Length: {len(body)}"
        )
        assert int(exchange(console, head, body).split(b" ", 2)[1]) == status
    assert console.get("/").status == 200


def test_what_is_no_request_gets_the_headers_and_is_not_repeated(console: LiveConsole) -> None:
    for head, status in (
        (f"GET /{'a' * 40_000} HTTP/1.1", 431),
        (f"GET / HTTP/1.1\r\nCookie: {'a' * 40_000}", 431),
        ("GET / HTTP/9.9", 400),
        ("GET / HTTP/1.1\r\n<script>: alert(1)", 400),
        ("GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("POST /login HTTP/1.1\r\nTransfer-Encoding: chunked", 400),
        ("POST /login HTTP/1.1\r\nContent-Length: 99999999", 413),
        ("GET /login HTTP/1.1\r\nContent-Length: 5", 400),
    ):
        reply = exchange(console, head, b"hello")
        assert int(reply.split(b" ", 2)[1]) == status, head[:60]
        assert b"Content-Security-Policy: default-src 'none'" in reply
        assert b"X-Content-Type-Options: nosniff" in reply
        assert b"Server: pexpolicy" in reply
        assert b"script>" not in reply
        assert b"aaaa" not in reply


def test_a_long_url_of_a_page_is_answered(console: LiveConsole) -> None:
    reply = exchange(console, f"GET /login?{'a' * 9000} HTTP/1.1")
    assert reply.startswith(b"HTTP/1.1 200")
    assert b"X-Frame-Options: DENY" in reply


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
def test_pages_of_other_sites_get_only_links(
    console: LiveConsole, site: str, mode: str, status: int
) -> None:
    headers = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode}
    assert console.send("GET", "/login", None, headers).status == status


def test_a_second_host_header_is_refused(console: LiveConsole) -> None:
    assert b" 400 " in exchange(console, "GET /login HTTP/1.1\r\nHost: evil.example")[:20]
