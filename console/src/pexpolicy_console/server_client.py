"""Client of the admin listener: the status of the server, and what its plugins and fleet say."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Any

import aiohttp

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


class Document(dict[str, Any]):
    """A JSON object whose keys are attributes as well; those that it has not are ``None``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


class ServerClient:
    """Asks the admin listener of a configuration, or the one on ``port``."""

    def __init__(self, config: ConfigFile, port: int | None = None) -> None:
        self._config = config
        self._port = port
        self._fetched = self._compared = -math.inf
        self._known: Document | None = None
        self.problem = ""
        """Why the server has not answered, as far as that is known."""
        self._lock = asyncio.Lock()
        self._asking: asyncio.Task[Any] | None = None
        self._comparing: asyncio.Task[None] | None = None
        self.last: Document | None = None
        """The last status."""
        self.answered: float | None = None
        """When that came, in seconds since 1970."""
        self.silent_since: float | None = None
        """When the server did not answer for the first time since then."""
        self.odd_servers: list[str] = []
        """Servers of the fleet that are silent or have refused a change."""
        self.policies: set[str] = set()
        """The policy hashes of the servers of the fleet."""

    @property
    def url(self) -> str:
        """The URL of the admin listener."""
        return admin_url(self._config.settings, self._port)

    async def status(self) -> Document | None:
        """Return the status of the server; ``None`` if it does not answer."""
        async with self._lock:
            if time.monotonic() - self._fetched >= MAX_AGE_S:
                found, self.problem = await self.ask("/status")
                if found is not None and not {"config", "plugins"} <= found.keys():
                    found, self.problem = None, f"{self.url} is not that of a pexpolicy server"
                self._known, self._fetched = found, time.monotonic()
                if found is not None:
                    self.last, self.answered, self.silent_since = found, time.time(), None
                else:
                    self.silent_since = self.silent_since or time.time()
            return self._known

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
            odd = (one for one in found["servers"] if one.silent or one.refused)
            self.odd_servers = [one.instance or one.url for one in odd]
            self.policies = {one.policy_hash for one in found["servers"] if one.policy_hash}

    def forget(self) -> None:
        """Fetch the status again when it is asked for the next time."""
        self._fetched = -math.inf

    async def ask(self, path: str, author: str = "") -> tuple[Document | None, str]:
        """Return the document of a path, or what became of the action there that ``author`` asks
        for; ``None`` and why if there is none.
        """
        settings, method = self._config.settings, "POST" if author else "GET"
        if not settings.admin.enabled:
            return None, "admin.enabled is false, so the server has no status"
        token = revealed(settings.admin_token) or (own_token(settings) if author else "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        params, url = {"author": author} if author else None, f"{self.url}{path}"
        try:
            # A proxy of the environment is for other networks, and would receive the token.
            async with (
                aiohttp.ClientSession(
                    timeout=TIMEOUTS[method], trust_env=False, headers=headers
                ) as session,
                session.request(
                    method, url, params=params, allow_redirects=False, ssl=False
                ) as response,
            ):
                if response.status not in ANSWERS[method]:
                    return None, f"{url} answers {response.status}"
                found = json.loads(await response.read(), object_hook=Document)
                if isinstance(found, Document):
                    return found, ""
                return None, f"{url} is no JSON object"
        except (ValueError, RecursionError) as error:
            return None, f"{self.url} is not the admin listener of a pexpolicy server: {error}"
        except (aiohttp.ClientError, OSError) as error:
            why = describe_network_error(error.__cause__ or error)
            return None, f"the server does not answer at {self.url}, its admin listener: {why}"
