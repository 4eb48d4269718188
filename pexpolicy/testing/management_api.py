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
_ROOT = "/api/admin"
_STATUS = {"unauthorized": 401, "forbidden": 403, "busy": 429, "broken": 500, "redirect": 302}


class ManagementApi:
    """The Management API of a platform, with its paging and its faults, for one user.

    ``objects`` has the lists of ``configuration`` by resource, and those of ``status`` that are not
    of people, such as ``status/alarm``. ``faults`` names what goes wrong by resource, ``*`` for all
    of them: HTTP 401, 403, 429 and 500 (``unauthorized``, ``forbidden``, ``busy``, ``broken``), no
    answer for ``slow_s`` (``slow``), a page of HTML (``html``), a ``redirect`` to the login page,
    another total on each page (``totals``), pages that begin with the last object of the page
    before (``twice``), pages without every other object (``cut``). ``retry_after`` is sent with
    429. ``paths`` are the requests::

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
        for person in self.platform.people:
            for leg in person.legs if person.service else ():
                since = leg["connect_time"]
                row = {**leg, "id": leg["uuid"], "call_uuid": leg["call_id"]}
                # In UTC without a zone.
                row["connect_time"] = since and datetime.fromtimestamp(since, UTC).isoformat()[:-6]
                del row["uuid"], row["call_id"]
                yield {**row, "resource_uri": f"{_ROOT}/status/v1/participant/{row['id']}/"}

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
        for person in self.platform.people:
            ids = (_id_of(person.service), *(leg["uuid"] for leg in person.legs))
            if person.service and wanted in ids:
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
        if (status := _STATUS.get(fault)) is not None:
            headers = {"Location": "/login/"} if fault == "redirect" else {}
            if fault == "busy" and self.retry_after is not None:
                headers["Retry-After"] = self.retry_after
            return web.Response(status=status, headers=headers)
        if (rows := self.listed(api, resource)) is None:
            return web.Response(status=404)
        query = dict(request.query)
        limit = min(int(query.pop("limit", 20)) or self.page, self.page)
        offset = int(query.pop("offset", 0))
        for field, value in query.items():
            rows = [one for one in rows if field == "format" or str(one.get(field)) == value]
        first, end = max(offset - (fault == "twice"), 0), offset + limit
        total, place = len(rows), f"{request.path}?limit={limit}&offset="
        meta: Object = {"limit": limit, "offset": offset}
        meta["total_count"] = total + len(self.paths) * (fault == "totals")
        meta["next"] = f"{place}{end}" if end < total else None
        meta["previous"] = f"{place}{offset - limit}" if offset else None
        shown = rows[first : end : 2 if fault == "cut" else 1]
        return web.json_response({"meta": meta, "objects": shown})


def _id_of(conference: str) -> str:
    return str(uuid5(NAMESPACE_URL, conference))
