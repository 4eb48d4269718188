"""Client of ``/status`` of the admin listener."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from pexpolicy.cli.for_console import admin_url, own_token
from pexpolicy.errors import describe_network_error
from pexpolicy_console.config_file import ConfigFile

TIMEOUT = aiohttp.ClientTimeout(total=4.0)
LOOK_S = 0.5
"""For the header of a page, which is shown all the same."""
COMMAND_TIMEOUT = aiohttp.ClientTimeout(total=90.0)
"""The API of Infinity may take 30 seconds for each of two requests."""
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

    @property
    def url(self) -> str:
        """The URL of the admin listener."""
        return admin_url(self._config.settings, self._port)

    async def status(self) -> tuple[ServerStatus | None, str]:
        """Return the status of the server; ``None`` and why if it does not answer."""
        async with self._lock:
            if time.monotonic() - self._fetched >= MAX_AGE_S:
                self._known = await self._fetch()
                self._fetched = time.monotonic()
                found, _ = self._known
                if found is not None:
                    self.last, self.answered, self.silent_since = found, time.time(), None
                elif self._config.settings.admin.enabled:
                    self.silent_since = self.silent_since or time.time()
            return self._known

    async def disconnect(self, participant: str, author: str) -> str:
        """End the call of a participant; return ``done``, ``gone``, or why it goes on."""
        settings, token = self._config.settings, self._config.settings.admin_token
        known = own_token(settings) if token is None else token.get_secret_value()
        url = f"{self.url}/disconnect/{quote(participant, safe='')}?author={quote(author)}"
        options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {known}"}, "ssl": False}
        try:
            async with (
                aiohttp.ClientSession(timeout=COMMAND_TIMEOUT, trust_env=False) as session,
                session.post(url, allow_redirects=False, **options) as response,
            ):
                return str(msgspec.json.decode(await response.read())["result"])
        except (aiohttp.ClientError, OSError, msgspec.DecodeError, LookupError, TypeError) as error:
            return f"the server does not answer: {describe_network_error(error)}"

    @property
    def problem(self) -> str:
        """Why the server has not answered, as far as that is known."""
        return self._known[1] if self.silent_since is not None else ""

    async def look(self) -> None:
        """Ask for the status, but wait for it for a moment only."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self.status())
        await asyncio.wait([self._asking], timeout=LOOK_S)

    def forget(self) -> None:
        """Fetch the document again when it is asked for the next time."""
        self._fetched = -MAX_AGE_S

    async def _fetch(self) -> tuple[ServerStatus | None, str]:
        settings = self._config.settings
        if not settings.admin.enabled:
            return None, "admin.enabled is false, so the server has no status"
        token = settings.admin_token
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        url = f"{self.url}/status"
        try:
            # A proxy of the environment is for other networks, and would receive the token.
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False) as session,
                session.get(url, headers=headers, allow_redirects=False, ssl=False) as response,
            ):
                if response.status != HTTPStatus.OK:
                    return None, f"{url} answers {response.status}"
                return msgspec.json.decode(await response.read(), type=ServerStatus), ""
        except msgspec.DecodeError as error:
            return None, f"{self.url} is not the admin listener of a pexpolicy server: {error}"
        except (aiohttp.ClientError, OSError) as error:
            why = describe_network_error(error.__cause__ or error)
            return None, f"the server does not answer at {self.url}, its admin listener: {why}"
