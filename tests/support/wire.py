"""Requests and replies as bytes on a socket."""

import asyncio
import base64
import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.support.waiting import HANG_S

PREFIX = "/policy/v1"
SERVICE = f"{PREFIX}/service/configuration"
PARTICIPANT = f"{PREFIX}/participant/properties"
LOCATION = f"{PREFIX}/participant/location"
AVATAR = f"{PREFIX}/participant/avatar/"
DIRECTORY = f"{PREFIX}/registrations"
REGISTRATION = f"{PREFIX}/registrations/"
TARGETS = {
    "service_configuration": SERVICE,
    "participant_properties": PARTICIPANT,
    "media_location": LOCATION,
    "participant_avatar": AVATAR + "alice",
    "directory_information": DIRECTORY,
    "registration_alias": REGISTRATION + "alice@example.com",
}
"""A target for each endpoint."""


@dataclass(frozen=True)
class Reply:
    """Status, headers by lower-case name, and body of a reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def action(self) -> str:
        return str(self.json["action"])

    @property
    def result(self) -> Any:
        return self.json.get("result")


def parse(content: bytes) -> Reply:
    """Parse the only reply on a connection."""
    head, _, body = content.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Reply(int(first.split(" ")[1]), headers, body)


def request_bytes(target: str | bytes, method: str, headers: Mapping[str, str]) -> bytes:
    """Return a request with the target unchanged."""
    raw = target if isinstance(target, bytes) else target.encode()
    lines = {"Host": "policy.example.com", "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return method.encode() + b" " + raw + b" HTTP/1.1\r\n" + head.encode() + b"\r\n"


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of HTTP Basic authentication."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


async def ask(
    port: int,
    target: str | bytes,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    **connecting: Any,
) -> Reply:
    """Send one request on a new connection, opened with the options ``connecting``."""
    return await send(port, request_bytes(target, method, headers or {}), **connecting)


async def send(port: int, content: bytes, **connecting: Any) -> Reply:
    """Send raw bytes and return the reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **connecting)
    try:
        writer.write(content)
        return parse(await reader.read())
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def ask_blocking(
    port: int, target: str | bytes, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Reply:
    """Send one request without an event loop."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection:
        connection.sendall(request_bytes(target, method, headers or {}))
        while more := connection.recv(65536):
            received += more
    return parse(received)
