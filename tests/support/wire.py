"""Requests and replies as bytes on a socket, so that a test decides about each one."""

import asyncio
import base64
import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

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
PATIENCE = 10.0
"""Seconds until a reply counts as missing."""


@dataclass(frozen=True)
class Reply:
    """What came back: the status, the headers by lower-case name, and the body."""

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


def parsed(content: bytes) -> Reply:
    """The one reply in all that a connection brought."""
    head, _, body = content.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Reply(int(first.split(" ")[1]), headers, body)


def request_bytes(target: str | bytes, method: str, headers: Mapping[str, str]) -> bytes:
    """A request whose target is sent as it stands."""
    raw = target if isinstance(target, bytes) else target.encode()
    lines = {"Host": "policy.example.com", "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return method.encode() + b" " + raw + b" HTTP/1.1\r\n" + head.encode() + b"\r\n"


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic authentication."""
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
    """One request over a connection of its own; ``connecting`` says more about that one."""
    return await send(port, request_bytes(target, method, headers or {}), **connecting)


async def send(port: int, content: bytes, **connecting: Any) -> Reply:
    """Bytes of any kind, and the reply to them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **connecting)
    try:
        writer.write(content)
        return parsed(await reader.read())
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def ask_blocking(
    port: int,
    target: str | bytes,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """The same from a program without an event loop."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request_bytes(target, method, headers or {}))
        while more := connection.recv(65536):
            received += more
    return parsed(received)
