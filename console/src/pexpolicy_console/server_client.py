"""Client of ``/status`` of the admin listener."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec

from pexpolicy.cli.for_console import admin_url, own_token
from pexpolicy.config.outgoing import revealed
from pexpolicy.errors import describe_network_error
from pexpolicy_console.config_file import ConfigFile

LOOK_S = 0.5
"""For the header of a page, which is shown all the same."""
TIMEOUTS = {"GET": aiohttp.ClientTimeout(total=6.0), "POST": aiohttp.ClientTimeout(total=180.0)}
"""The servers of a fleet are asked for 5 s, and the build of a configuration may take longer."""
ANSWERS = {"GET": (200,), "POST": (200, 404, 409, 502)}
"""Statuses of a document; one of what was asked for says what became of it."""
FLEET_S = 10.0
"""Time between two looks at the other servers, longer than one takes."""
MAX_AGE_S = 1.0
"""Age up to which the document is not fetched again."""


class _Part(msgspec.Struct, frozen=True):
    """Unknown fields are ignored: the server may be of a newer version."""


class ConfigStatus(_Part, frozen=True):
    """The active configuration, and the last reload."""

    path: str = ""
    policy_hash: str = ""
    activated_at: float = 0.0
    age: float = 0.0
    last_reload_successful: bool = True
    problems: list[str] = []
    restart_required: list[str] = []
    changes: list[str] = []
    state_dir: str = ""


class AuditStatus(_Part, frozen=True):
    """The audit log of the worker that answered."""

    records: int = 0
    status: str = ""
    problem: str | None = None
    lost: int = 0
    spooled_bytes: int = 0
    free_bytes: int | None = None
    synced_at: float | None = None


class CertificateStatus(_Part, frozen=True):
    """The certificate of the listener; ``not_after`` in seconds of the Unix epoch."""

    not_after: float = 0.0
    problem: str | None = None


class PluginState(_Part, frozen=True):
    """One plugin, or one source of data; ages are seconds."""

    name: str
    driver: str = ""
    distribution: str | None = None
    version: str | None = None
    mode: str = "decide"
    isolation: str | None = None
    hooks: list[str] = []
    calls: dict[str, int] = {}
    observed: dict[str, Any] | None = None
    breaker_open: bool | None = None
    breaker: dict[str, float] | None = None
    """For how long it is open, and in how long the plugin is tried: ``open_for`` and
    ``next_attempt_in`` in seconds."""
    has_stuck_calls: bool = False
    data: dict[str, dict[str, Any]] = {}
    jobs: dict[str, dict[str, Any]] = {}
    failures: list[Any] = []
    status: Any = None
    problem: str | None = None


class NodeState(_Part, frozen=True):
    """One Conferencing Node; times are seconds of the Unix epoch, ages seconds."""

    node: str
    last_call: float | None = None
    age: float | None = None
    calls: int = 0
    last_refused: float | None = None
    refused_because: str | None = None


class ServerStatus(_Part, frozen=True):
    """The document of ``/status``."""

    ready: bool
    instance: str = ""
    version: str = ""
    workers: float = 1
    started: float = 0.0
    uptime: float = 0.0
    not_ready_reasons: list[str] = []
    degraded: list[str] = []
    """What an operator has to repair although it is ready."""
    loop_lag: float = 0.0
    memory: dict[str, int | None] | None = None
    config: ConfigStatus = ConfigStatus()
    audit: AuditStatus = AuditStatus()
    certificate: CertificateStatus | None = None
    endpoints: dict[str, dict[str, int]] = {}
    refused: dict[str, int] = {}
    plugins: list[PluginState] = []
    sources: list[PluginState] = []
    names: dict[str, Any] | None = None
    """The names that are unknown to Infinity."""
    nodes: list[NodeState] = []
    commands: list[str] = []
    """The sources of events whose platform has commands."""


class ServerClient:
    """Asks the admin listener of a configuration, or the one on ``port``."""

    def __init__(self, config: ConfigFile, port: int | None = None) -> None:
        self._config = config
        self._port = port
        self._fetched = -MAX_AGE_S
        self._known: tuple[ServerStatus | None, str] = None, ""
        self._lock = asyncio.Lock()
        self._asking: asyncio.Task[Any] | None = None
        self.last: ServerStatus | None = None
        """The last document."""
        self.answered: float | None = None
        """When that came, in seconds since 1970."""
        self.silent_since: float | None = None
        """When the server did not answer for the first time since then."""
        self._comparing: asyncio.Task[None] | None = None
        self._compared = -FLEET_S
        self.odd_servers: list[str] = []
        """Servers of the fleet that are silent or have refused a change."""

    @property
    def url(self) -> str:
        """The URL of the admin listener."""
        return admin_url(self._config.settings, self._port)

    async def status(self) -> tuple[ServerStatus | None, str]:
        """Return the status of the server; ``None`` and why if it does not answer."""
        async with self._lock:
            if time.monotonic() - self._fetched >= MAX_AGE_S:
                self._known = await self.ask("/status", ServerStatus)
                self._fetched = time.monotonic()
                found, _ = self._known
                if found is not None:
                    self.last, self.answered, self.silent_since = found, time.time(), None
                elif self._config.settings.admin.enabled:
                    self.silent_since = self.silent_since or time.time()
            return self._known

    @property
    def problem(self) -> str:
        """Why the server has not answered, as far as that is known."""
        return self._known[1] if self.silent_since is not None else ""

    async def look(self) -> None:
        """Ask for the status, but wait for it for a moment only."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self.status())
        is_due = time.monotonic() - self._compared >= FLEET_S
        if self._config.settings.fleet.servers and is_due:
            self._compared = time.monotonic()
            self._comparing = asyncio.create_task(self._compare())
        await asyncio.wait([self._asking], timeout=LOOK_S)

    async def _compare(self) -> None:
        found, _ = await self.ask("/fleet")
        if found is not None:
            odd = (one for one in found["servers"] if one["silent"] or one["refused"])
            self.odd_servers = [one["instance"] or one["url"] for one in odd]

    def forget(self) -> None:
        """Fetch the document again when it is asked for the next time."""
        self._fetched = -MAX_AGE_S

    async def ask(self, path: str, kind: Any = Any, author: str = "") -> tuple[Any, str]:
        """Return the document of a path, or what became of the action there that ``author`` asks
        for; ``None`` and why if there is none.
        """
        settings, method = self._config.settings, "POST" if author else "GET"
        if not settings.admin.enabled:
            return None, "admin.enabled is false, so the server has no status"
        token = revealed(settings.admin_token) or (own_token(settings) if author else "")
        options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"} if token else {}}
        options["params"] = {"author": author} if author else None
        url = f"{self.url}{path}"
        try:
            # A proxy of the environment is for other networks, and would receive the token.
            async with (
                aiohttp.ClientSession(timeout=TIMEOUTS[method], trust_env=False) as session,
                session.request(
                    method, url, allow_redirects=False, ssl=False, **options
                ) as response,
            ):
                if response.status not in ANSWERS[method]:
                    return None, f"{url} answers {response.status}"
                return msgspec.json.decode(await response.read(), type=kind), ""
        except msgspec.DecodeError as error:
            return None, f"{self.url} is not the admin listener of a pexpolicy server: {error}"
        except (aiohttp.ClientError, OSError) as error:
            why = describe_network_error(error.__cause__ or error)
            return None, f"the server does not answer at {self.url}, its admin listener: {why}"
