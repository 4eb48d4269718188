"""The door of a server that its command line started, on the event loop that serves for real."""

import json
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pexpolicy.config.secrets import PasswordHash
from tests.support import certificates, live_server, wire
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow

GOOD = wire.basic("pexip", "s3cret")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    folder = tmp_path_factory.mktemp("door")
    certificates.write_pair(folder)
    certificates.write_authority(folder)
    config = folder / "config.toml"
    config.write_text(f"""
[auth]
credentials = [{{ user = "pexip", password_hash = "{PasswordHash.create("s3cret", ln=4)}" }}]
[access]
networks = ["127.0.0.1", "127.0.0.2"]
[tls]
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
[audit]
path = "audit.jsonl"
""")
    log: list[str] = []
    with live_server.running(config, log=log) as running:
        yield running
    assert not [line for line in log if "exception" in line]


def client(leaf: bool = True) -> ssl.SSLContext:
    context = certificates.client_context()
    if leaf:
        certificates.issue().configure_cert(context)
    return context


def connect(server: live_server.Running, of: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), HANG_S, source_address=(of, 0))


def ask(
    server: live_server.Running, headers: dict[str, str], context: ssl.SSLContext
) -> wire.Reply:
    plain = connect(server)
    with context.wrap_socket(plain, server_hostname=certificates.NAME) as connection:
        connection.sendall(wire.request_bytes(wire.SERVICE, "GET", headers))
        received = b""
        while more := connection.recv(65536):
            received += more
    return wire.parse(received)


def noted(server: live_server.Running, reason: str, **facts: object) -> bool:
    """Whether such a line is on record, or comes within a moment."""

    def is_there() -> bool:
        lines = map(json.loads, server.audit.read_text().splitlines())
        return any(line.get("reason") == reason and facts.items() <= line.items() for line in lines)

    wait_until(is_there)
    return True


def test_certificate_password_and_network_admit_a_node(server: live_server.Running) -> None:
    for _ in range(3):
        assert ask(server, GOOD, client()).status == 200


def test_without_a_certificate_nothing_is_answered(server: live_server.Running) -> None:
    with pytest.raises((OSError, IndexError, ValueError)):
        ask(server, GOOD, client(leaf=False))
    assert noted(server, "tls handshake failed", detail="peer did not return a certificate")


def test_plain_http_is_no_tls(server: live_server.Running) -> None:
    with suppress(OSError, IndexError, ValueError):
        server.ask(wire.SERVICE)
    assert noted(server, "tls handshake failed", detail="http request")


def test_what_is_half_sent_is_closed(server: live_server.Running) -> None:
    plain = connect(server)
    began = time.monotonic()
    with (
        connect(server) as handshake,
        client().wrap_socket(plain, server_hostname=certificates.NAME) as request,
    ):
        handshake.sendall(b"\x16\x03\x01\x02\x00\x01")
        request.sendall(b"GET /policy/v1/service/configuration HTTP/1.1\r\nHost: a\r\n")
        for connection in (handshake, request):
            with suppress(OSError):
                assert connection.recv(1) == b""
        assert time.monotonic() - began > 9
    assert noted(server, "tls handshake failed", detail="the handshake took too long")
    assert noted(server, "request timeout", status=408)


def test_a_flood_of_strangers_does_not_keep_a_node_out(server: live_server.Running) -> None:
    strangers = [connect(server, "127.0.0.2") for _ in range(300)]
    try:
        for stranger in strangers:
            with suppress(OSError):
                stranger.sendall(b"\x16")
        assert ask(server, GOOD, client()).status == 200
        assert noted(server, "connection evicted", peer="127.0.0.2")
    finally:
        for stranger in strangers:
            stranger.close()


REPLACED = """
[auth]
credentials = [{hashes}]
[audit]
path = "audit.jsonl"
"""


def test_a_password_that_was_taken_out_is_no_longer_good_on_an_open_connection(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.toml"
    old, new = (
        f'{{ user = "pexip", password_hash = "{PasswordHash.create(password, ln=4)}" }}'
        for password in ("s3cret", "another")
    )
    config.write_text(REPLACED.format(hashes=f"{old}, {new}"))
    request = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive", **GOOD})
    with live_server.running(config) as server, connect(server) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        config.write_text(REPLACED.format(hashes=new))
        os.kill(server.pid, signal.SIGHUP)
        for _ in range(200):
            connection.sendall(request)
            if connection.recv(65536).startswith(b"HTTP/1.1 401"):
                break
            time.sleep(0.02)
        assert server.lines()[-1]["status"] == 401
        good = wire.basic("pexip", "another")
        assert server.ask(wire.SERVICE, headers=good).status == 200


def test_a_call_whose_connection_was_just_accepted_is_answered_before_the_end(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[audit]\npath = "audit.jsonl"\n')
    request = wire.request_bytes(wire.SERVICE, "GET", {})
    with live_server.running(config) as server:
        connections = [connect(server) for _ in range(50)]
        for connection in connections:
            connection.sendall(request)
        # Accepted by then, and most of them not answered yet.
        while not server.audit.exists() or not server.audit.stat().st_size:
            time.sleep(0.0005)
        os.kill(server.pid, signal.SIGTERM)
        answered = []
        for connection in connections:
            with connection, suppress(ConnectionError):
                answered.append(connection.recv(65536).startswith(b"HTTP/1.1 200"))
        assert all(answered)
        assert len(answered) == 50


def test_a_crash_writes_no_core_dump(server: live_server.Running) -> None:
    limits = Path(f"/proc/{server.pid}/limits").read_text("ascii")
    assert re.search(r"Max core file size +0 +0 ", limits)
