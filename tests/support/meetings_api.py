"""Two servers with the API of ``meetings`` and one database, which are asked in turn."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.policy import BuildContext
from pexpolicy.testing import Server, capture_audit, server
from pexpolicy.testing.build import EnvironmentClock
from tests.support import installed, wire
from tests.support.waiting import until

NOW = "2030-06-01T08:00:00Z"
SCOPES = ["meetings:read", "meetings:write", "pins:read", "live:read"]
CRM_7 = {
    "title": "Review",
    "start": "2030-06-01T10:00:00+02:00",
    "end": "2030-06-01T11:00:00+02:00",
    "lobby": "host",
    "aliases": ["812345678@acme.example.com"],
    "host_pin": "471100",
    "guest_pin": "081500",
}


def token(name: str, scopes: list[str] = SCOPES, **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(f"TOKEN_OF_{name}".encode()).hexdigest()
    return {"name": name, "sha256": digest, "scopes": scopes, **more}


TENANTS = {
    "acme": {
        "tag": "t=acme",
        "aliases": ["8*@acme.example.com"],
        "domain": "acme.example.com",
        "tokens": [
            token("ACME"),
            token("READER", ["meetings:read"]),
            token("OLD", expires="2030-06-01T07:59:59Z"),
        ],
    },
    "bolt": {"tag": "t=bolt", "aliases": ["7*@bolt.example.com"], "tokens": [token("BOLT")]},
}


class Reply(NamedTuple):
    """A reply of the API."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pointers(self) -> list[str]:
        return [one["pointer"] for one in self.json["errors"]]


class Site(NamedTuple):
    """The servers, their clock and what was written into the audit."""

    servers: Iterator[Server]
    http: aiohttp.ClientSession
    clock: Path
    lines: list[dict[str, Any]]

    async def api(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str = "ACME",  # noqa: S107
        **headers: str,
    ) -> Reply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer TOKEN_OF_{token}"
        url = f"{next(self.servers).api_url}/api/v1/{path}"
        return await self._ask(method, url, body, sent)

    async def operator(self, method: str, path: str, body: Any = None) -> Reply:
        url = f"{next(self.servers).admin_url}/plugins/meetings/{path}"
        return await self._ask(method, url, body, {})

    async def _ask(self, method: str, url: str, body: Any, sent: dict[str, str]) -> Reply:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.http.request(method, url, data=data, headers=sent) as reply:
            return Reply(reply.status, reply.headers, await reply.read())

    async def call(self, alias: str, direction: str = "dial_in") -> dict[str, Any]:
        query = {"call_direction": direction, "protocol": "sip", "local_alias": alias}
        url = f"{next(self.servers).url}/policy/v1/service/configuration"
        async with self.http.get(url, params=query) as reply:
            found: dict[str, Any] = await reply.json()
            found.pop("decision_id")
            return found

    async def properties(self, alias: str) -> dict[str, Any]:
        query = {"call_direction": "dial_in", "protocol": "sip", "local_alias": alias}
        url = f"{next(self.servers).url}/policy/v1/participant/properties"
        async with self.http.get(url, params=query) as reply:
            return dict((await reply.json())["result"])

    async def report(self, event: str, seq: int = 1, login: str = "sink:right", **data: Any) -> int:
        """Send an event of one node to one server."""
        body = {"node": "10.0.0.1", "seq": seq, "version": 2, "time": 1906531200.0 + seq}
        return await self.send({**body, "event": event, "data": data}, login)

    async def send(self, body: object, login: str = "sink:right") -> int:
        url, auth = f"{next(self.servers).url}/events/v1", wire.basic(*login.split(":"))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(url, data=data, headers=auth) as reply:
            assert await reply.read() == b"" or reply.status != 200
            return reply.status

    async def counts(self, path: str = "meetings/crm-7/live", **expected: int) -> None:
        """Wait until the counts are as expected."""

        async def is_so() -> bool:
            found = (await self.api("GET", path)).json
            found = found["participants"] if path == "limits" else found
            return all(found[name] == number for name, number in expected.items())

        await until(is_so)

    def at(self, time: str) -> None:
        self.clock.write_text(time)

    @property
    def changes(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "change"]


@asynccontextmanager
async def serving(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shared: dict[str, Any], **others: Any
) -> AsyncIterator[Site]:
    """Serve the API to two tenants, at ``NOW`` until the clock is set."""
    clock = folder / "clock"
    clock.write_text(NOW)
    monkeypatch.setenv("PEXPOLICY_TEST_CLOCK", str(clock))
    (folder / "key").write_text("0123456789abcdef" * 4)
    meetings = {"settings": {"tenants": TENANTS, "key_file": "key"}, "on_error": "reject"}
    (folder / "sink").write_text("right")
    document = {
        "api": {},
        "events": {"user": "sink", "password_file": "sink"},
        "shared": {"timeout": 4.5, **shared},
        "plugins": {"meetings": meetings, **others},
    }
    settings = from_document(document, folder / "config.toml")
    async with AsyncExitStack() as stack:
        lines = stack.enter_context(capture_audit())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        servers = []
        for _ in range(2):
            context = BuildContext(wall_clock=EnvironmentClock())
            policy = build_policy(settings, available=installed.plugins(), context=context)
            await stack.enter_async_context(policy.serving(in_server=True))
            servers.append(await stack.enter_async_context(server(policy)))
        yield Site(cycle(servers), http, clock, lines)
