"""The end of meetings that disconnect: through the Management API of Infinity."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiohttp

from pexpolicy import get_logger
from pexpolicy.config.outgoing import HttpSettings
from pexpolicy.conformance.replies import client_session
from pexpolicy_meetings.meeting import Meeting, service_tag
from pexpolicy_meetings.settings import TenantOf
from pexpolicy_meetings.store import MeetingStore

EVERY_S = 15.0
TRIED_S = 300.0
"""Seconds after the end of a meeting in which its conference is looked for."""
STATUS = "/api/admin/status/v1/conference/"
COMMAND = "/api/admin/command/v1/conference/disconnect/"


class Ending:
    """Ends the conferences of meetings that have closed, if ``at_end`` is ``disconnect``."""

    def __init__(
        self,
        settings: HttpSettings,
        store: MeetingStore,
        tenants: Mapping[str, TenantOf],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._tls = settings.tls()
        self._store = store
        self._tenants = tenants
        self._clock = clock
        self._done: dict[str, float] = {}
        """When the conference of a closed meeting was found to be over, by its version."""
        self._log = get_logger()

    async def run(self) -> None:
        """Disconnect the conferences of meetings that have closed; failures are tried again."""
        now = self._clock()
        self._done = {key: at for key, at in self._done.items() if now - at < TRIED_S}
        closed = await self._store.closed(now - TRIED_S)
        due = [
            one
            for one in closed
            if one.at_end == "disconnect"
            and one.tenant in self._tenants
            and one.version not in self._done
        ]
        if not due:
            return
        connector = aiohttp.TCPConnector(limit=1, ssl=self._tls)
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        async with client_session(
            connector, timeout, headers=self._settings.authorization()
        ) as session:
            for meeting in due:
                if await self._end(session, meeting):
                    self._done[meeting.version] = now

    async def _end(self, session: aiohttp.ClientSession, meeting: Meeting) -> bool:
        """Disconnect the conference of a meeting; return whether none is left."""
        base = self._settings.url.rstrip("/")
        query = {"name": meeting.name, "limit": "100"}
        async with session.get(base + STATUS, params=query, allow_redirects=False) as response:
            response.raise_for_status()
            found = (await response.json()).get("objects", [])
        # The next meeting of that name may have begun.
        tag = service_tag(meeting, self._tenants[meeting.tenant])
        running = [one["id"] for one in found if one["name"] == meeting.name and one["tag"] == tag]
        for conference in running:
            body = {"conference_id": conference}
            async with session.post(base + COMMAND, json=body, allow_redirects=False) as response:
                if response.status != 404:  # noqa: PLR2004 - it has ended meanwhile
                    response.raise_for_status()
            self._log.info("meeting disconnected", tenant=meeting.tenant, meeting=meeting.id)
        # Without live nobody tells who is in it: it is looked for until the time is over.
        return not running and self._store.participants(meeting.name) == 0
