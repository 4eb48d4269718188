"""Stand-in for the Management API of Infinity, over the truth of a simulated platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web
from aiohttp.test_utils import TestServer

from pexpolicy.config.outgoing import basic
from pexpolicy.testing.simulator import Simulator

Object = dict[str, Any]
STATUSES = {"unauthorized": 401, "forbidden": 403, "busy": 429, "broken": 500, "redirect": 302}
"""Faults that are a status; one to the login page for ``redirect``."""
_ROOT = "/api/admin"


class ManagementApi:
    """The Management API of a platform, with its paging and its faults, for one user.

    ``objects`` has the lists of ``configuration`` by resource, and those of ``status`` that are not
    of people, such as ``status/alarm``. ``faults`` names what goes wrong by resource, ``*`` for all
    of them: one of ``STATUSES``, no answer for ``slow_s`` (``slow``), a page of HTML (``html``),
    another total on each page (``totals``), pages that begin with the last object of the page
    before (``twice``), pages without every other object (``cut``). ``retry_after`` is sent with
    them. ``paths`` are the requests::

        api = ManagementApi(platform)
        api.add("ivr_theme", {"name": "Acme"}, {"name": "Board"})
        async with api.serving() as url:
            ...
        api.faults["ivr_theme"] = "forbidden"
    """

    user, password = "reader", "of the platform"
    commander = "commander"
    """The user with the same password who may run ``commands``."""
    page = 1000
    """The most objects of one page."""

    def __init__(self, platform: Simulator | None = None) -> None:
        self.platform = platform or Simulator()
        self.objects: dict[str, list[Object]] = {}
        self.faults: dict[str, str] = {}
        self.retry_after: str | None = "1"
        self.slow_s = 10.0
        self.paths: list[str] = []
        self.commands = {"participant/disconnect", "conference/disconnect"}
        """Those that are in the schema."""

    def add(self, resource: str, *objects: Mapping[str, Any]) -> list[str]:
        """Add objects of ``configuration``; return their addresses, for references to them."""
        listed = self.objects.setdefault(resource, [])
        first = len(listed)
        for number, one in enumerate(objects, first + 1):
            uri = f"{_ROOT}/configuration/v1/{resource}/{number}/"
            listed.append({"id": number, "resource_uri": uri, **one})
        return [one["resource_uri"] for one in listed[first:]]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve it on a free port of 127.0.0.1; yield its URL."""
        app = web.Application()
        app.router.add_get(_ROOT + "/{api}/v1/{resource}/", self._handle)
        app.router.add_route("*", _ROOT + "/command/v1/{kind}/{name}/{_:(schema/)?}", self._command)
        async with TestServer(app, shutdown_timeout=0.1) as server:
            yield str(server.make_url("")).rstrip("/")

    def listed(self, api: str, resource: str) -> list[Object] | None:
        """Return the objects of a resource; ``None`` for one that there is not."""
        name = resource if api == "configuration" else f"{api}/{resource}"
        made = {"status/participant": self._participants, "status/conference": self._conferences}
        return [*made[name]()] if name in made else self.objects.get(name)

    def _participants(self) -> Iterator[Object]:
        for leg in (leg for one in self.platform.people if one.service for leg in one.legs):
            since, uuid = leg["connect_time"], leg["uuid"]
            yield {
                **{name: value for name, value in leg.items() if name not in ("uuid", "call_id")},
                "id": uuid,
                "call_uuid": leg["call_id"],
                # In UTC without a zone.
                "connect_time": since and datetime.fromtimestamp(since, UTC).isoformat()[:-6],
                "resource_uri": f"{_ROOT}/status/v1/participant/{uuid}/",
            }

    def _conferences(self) -> Iterator[Object]:
        present = {person.service: person for person in self.platform.people if person.service}
        for name, person in present.items():
            row = {"id": _id_of(name), "name": name, "is_started": True}
            yield {**row, "service_type": person.stage, "tag": person.legs[0]["service_tag"]}

    async def _command(self, request: web.Request) -> web.StreamResponse:
        """Answer for the schema of a command, or run it."""
        self.paths.append(request.raw_path)
        kind, name = (request.match_info[one] for one in ("kind", "name"))
        if request.headers.get("Authorization") != basic(self.commander, self.password):
            return web.Response(status=403)
        if f"{kind}/{name}" not in self.commands:
            return web.Response(status=404)
        if request.method == "GET":
            return web.json_response({"fields": {f"{kind}_id": {"type": "string"}}})
        wanted, status = (await request.json())[f"{kind}_id"], 404
        for person in (one for one in self.platform.people if one.service):
            if wanted in (_id_of(person.service), *(leg["uuid"] for leg in person.legs)):
                self.platform.leave(person)
                status = 202
        return web.json_response({"status": "success"}, status=status)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        api, resource = request.match_info["api"], request.match_info["resource"]
        fault = self.faults.get(resource, self.faults.get("*", ""))
        if request.headers.get("Authorization") != basic(self.user, self.password):
            fault = "unauthorized"
        if fault == "slow":
            await asyncio.sleep(self.slow_s)
        if fault == "html":
            return web.Response(text="<html>Please log in</html>", content_type="text/html")
        rows = self.listed(api, resource)
        if fault in STATUSES or rows is None:
            headers = {"Location": "/login/", "Retry-After": self.retry_after or ""}
            return web.Response(status=STATUSES.get(fault, 404), headers=headers)
        query = {"limit": "20", "offset": "0", **request.query}
        limit, offset = int(query.pop("limit")) or self.page, int(query.pop("offset"))
        end = offset + min(limit, self.page)
        for field, value in query.items():
            rows = [one for one in rows if field == "format" or str(one.get(field)) == value]
        following = str(request.rel_url.update_query(offset=end)) if end < len(rows) else None
        total = len(rows) + len(self.paths) * (fault == "totals")
        meta = {"limit": limit, "offset": offset, "total_count": total, "next": following}
        shown = rows[max(offset - (fault == "twice"), 0) : end : 2 if fault == "cut" else 1]
        return web.json_response({"meta": meta, "objects": shown})


def _id_of(conference: str) -> str:
    return str(uuid5(NAMESPACE_URL, conference))
