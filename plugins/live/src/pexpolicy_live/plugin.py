"""Plugin class of ``live``: merges events into the table, and reads the counts from it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from pexpolicy import (
    Plugin,
    PluginSettings,
    Request,
    SharedUnavailableError,
    Store,
    Tenants,
    metrics,
    schedule,
    wall_clock,
)
from pexpolicy.events import Event
from pexpolicy.events.receiver import Inbox
from pexpolicy.matching import live_values
from pexpolicy_live.participants import Key, Participant, Row
from pexpolicy_live.presence import Counts, Presence
from pexpolicy_live.repair import changes, fresh, listed
from pexpolicy_live.table import PAGE, LiveTable

READ_S = 1.0
"""Seconds between two readings of the table."""
OLD_S = 10.0
"""Seconds after which counts that could not be read again are stale."""
SWEEP_S = 60.0
MAX_KNOWN = 100_000
"""Calls and conferences of one platform; further ones are not kept, and it is stale."""
MAX_CAUSES = 100
"""Causes of staleness that are shown."""

REPAIR_S = 600.0
"""Seconds between two repairs, shortened at random by up to a fifth."""
APART_S = 60.0
"""Seconds between two looks whether a repair is due: no two are closer, also after a restart."""
API_S = 30.0
"""Seconds for all pages of the Management API."""
SETTLE_S = 2.0
"""Seconds for events on their way, after its answer."""

PEOPLE = metrics.gauge("participants", "People in conferences.", ["tenant"], combine="max")
WAITING = metrics.gauge("waiting", "People in waiting rooms.", ["tenant"], combine="max")
STALE = metrics.gauge("stale_nodes", "Nodes of which events are missing.", combine="max")
LAG = metrics.gauge("read_seconds", "When the counts were last read, since 1970.", combine="min")
REPAIRED = metrics.counter("repaired", "Participants that a repair changed.", ["change"])
ALL = "*"
"""The label of all together, with people of no tenant."""
MAX_LABELS = 99
"""Tenants with a label of their own in the metrics."""


class LiveSettings(PluginSettings):
    """There are none: what counts is fixed by Infinity."""


class Live(Plugin[LiveSettings]):
    """Knows who is in which service, by Infinity's events."""

    def __init__(self, settings: LiveSettings) -> None:
        super().__init__(settings)
        self._tenants = Tenants.known(settings)
        self._table = LiveTable(self._put, self._forget)
        self._presence = Presence()
        self._clock = wall_clock()
        self._read_at: float | None = None
        self._expired_at = 0.0
        self._reading = asyncio.Lock()
        self._labels: set[str] = set()
        values = live_values()
        values.read, values.report = self._value, self._report
        self._sources = values.event_sources
        self._inbox, self._repairs = Inbox(), Store("repairs", float)
        self._pause = REPAIR_S
        for name in values.platforms.keys() & values.received:
            run = partial(self.repair_if_due, name, values.platforms[name])
            schedule(run, every=APART_S, once_per="fleet", name=f"repair {name}")
        schedule(self.read, every=READ_S, once_per="worker", name="read")
        schedule(self._table.sweep, every=SWEEP_S, name="sweep")

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Read what is known; without the engine it is stale until it can be read."""
        with suppress(SharedUnavailableError):
            await self.read()
        yield

    # ---- events

    async def on_events(self, events: Sequence[Event]) -> None:
        """Merge events into the table; raises ``SharedUnavailableError``, so that they are kept."""
        await self._table.take(events, self._tenant_of, self._too_many)

    def _too_many(self, source: str) -> str:
        is_full = self._presence.known[source] >= MAX_KNOWN
        return f"more than {MAX_KNOWN:,} calls: further ones are not counted" if is_full else ""

    def _tenant_of(self, alias: str, tag: str) -> str | None:
        return self._tenants.of(alias, tag)

    # ---- counts

    async def read(self) -> None:
        """Read what has changed."""
        async with self._reading:
            await self._table.follow()
            now = time.monotonic()
            if now - self._expired_at >= SWEEP_S:
                self._presence.expire(now)
                self._expired_at = now
            self._read_at = now
            self._measure()

    def _put(self, key: Key, row: Row, now: float, kept: float) -> None:
        self._presence.put(key, row, now, kept)

    def _forget(self) -> None:
        self._presence = Presence()

    def _measure(self) -> None:
        changed = self._presence.changed
        self._labels.update(sorted(changed)[: MAX_LABELS - len(self._labels)])
        counted = {name: self._presence.of_tenant(name) for name in changed & self._labels}
        for tenant, counts in {**counted, ALL: self._presence.total}.items():
            PEOPLE.set(counts.participants, tenant=tenant)
            WAITING.set(counts.waiting, tenant=tenant)
        changed.clear()
        STALE.set(len(self._presence.stale))
        LAG.set(self._clock())

    @property
    def age(self) -> float | None:
        """Seconds since the counts were read; ``None`` if they never were."""
        if self._read_at is None:
            return None
        return time.monotonic() - self._read_at

    def stale_because(self) -> list[dict[str, str]]:
        """Return why the counts may be wrong, each with the source, the node and since when."""
        found = [
            {"source": source, "node": node, "why": stale.why, "since": _time(stale.since)}
            for (source, node), stale in islice(self._presence.stale.items(), MAX_CAUSES)
        ]
        if self._is_old:
            why = "the shared state cannot be read"
            found.append({"source": "", "node": "", "why": why, "since": self._as_of})
        return sorted(found, key=lambda one: (one["source"], one["node"]))

    @property
    def is_stale(self) -> bool:
        """True while the counts may be wrong."""
        return bool(self._presence.stale) or self._is_old

    @property
    def _is_old(self) -> bool:
        return self.age is None or self.age > OLD_S

    @property
    def _as_of(self) -> str:
        return _time(self._clock() - (self.age or 0.0))

    def document(self) -> dict[str, Any]:
        """Return the counts, when they were read, and whether they may be wrong."""
        tenants = {name: Counts() for name in self._tenants} | self._presence.tenants
        counted = {"services": self._presence.services, "tenants": tenants}
        return {**counted, "as_of": self._as_of, "stale": self.is_stale}

    # ---- the repair

    async def repair_if_due(self, source: str, api: Any) -> None:
        """Repair at the start, after events were missing, and now and then; raise why not."""
        now, done = self._clock(), await self._repairs.get(source) or 0.0
        stale = (one.since for (name, _), one in self._presence.stale.items() if name == source)
        if max(stale, default=0.0) > done or not 0 <= now - done < self._pause:
            await self._repair(source, api)
            await self._repairs.put(source, now)
            self._pause = REPAIR_S * random.uniform(0.8, 1.0)  # noqa: S311 - jitter

    async def _repair(self, source: str, api: Any) -> None:
        await self.read()
        before, began = self._presence.calls(source), self._clock()
        async with asyncio.timeout(API_S):
            told = await asyncio.to_thread(listed, await api.objects("status/participant"))
        await asyncio.sleep(SETTLE_S)
        await self.read()
        after = self._presence.calls(source)
        keys: list[Key] = [("participant", source, one) for one in told.keys() - after.keys()]
        for at in range(0, len(keys), PAGE):
            _, rows = await self._table.found(keys[at : at + PAGE])
            calls = ((key[-1], one) for key, one in rows.items() if isinstance(one, Participant))
            after |= {uuid: one for uuid, one in calls if one.is_over or uuid in before}
        found = changes(before, after, told, began, self._tenant_of)
        made = await asyncio.to_thread(lambda: [*found])
        bodies = map(msgspec.json.encode, (*(event for _, event in made), fresh(began)))
        await self._inbox.put([(source, body.decode()) for body in bodies])
        for what, number in Counter(what for what, _ in made).items():
            REPAIRED.inc(number, change=what)

    # ---- for rules, operators and the console

    def _value(self, request: Request, name: str) -> int | bool | None:
        """Return the value of a condition for a request."""
        source = self._sources.get(getattr(request, "environment", None) or "")
        if name == "stale":
            stale = self._presence.stale
            return self._is_old or any(source in (None, one) for one, _ in stale)
        alias = getattr(request, "local_alias", None)
        if name == "tenant":
            tag = getattr(request, "service_tag", None) or ""
            tenant = self._tenant_of(alias or "", tag)
            return 0 if tenant is None else self._presence.of_tenant(tenant).participants
        service = getattr(request, "service_name", None)
        names = (service,) if service else (str(alias), alias.user) if alias else ()
        found = (self._presence.of_place(source, one) for one in names)
        counts = next(filter(None, found), Counts())
        return int(getattr(counts, "participants" if name == "service" else name))

    async def _report(self, *names: str) -> list[Mapping[str, Any]]:
        """Return the counts of services, read now if that is possible."""
        with suppress(SharedUnavailableError):
            await self.read()
        known = self._presence.services
        rest = {"as_of": self._as_of, "stale": self.is_stale}
        return [{**msgspec.structs.asdict(known.get(name) or Counts()), **rest} for name in names]

    async def status(self) -> Mapping[str, object]:
        """Return the totals, and what is stale."""
        total = self._presence.total
        return {
            "participants": total.participants,
            "hosts": total.hosts,
            "waiting": total.waiting,
            "services": len(self._presence.services),
            "age_s": None if self.age is None else round(self.age, 1),
            "stale": self.stale_because(),
        }

    def routes(self) -> Iterable[web.RouteDef]:
        """Serve the counts, and what is stale, as JSON."""
        yield web.get("/", self._show)
        yield web.get("/stale", self._show_stale)

    async def _show(self, _: web.Request) -> web.Response:
        return await self._json(self.document)

    async def _show_stale(self, _: web.Request) -> web.Response:
        return await self._json(lambda: {"stale": self.stale_because()})

    async def _json(self, document: Callable[[], object]) -> web.Response:
        with suppress(SharedUnavailableError):
            await self.read()
        body = msgspec.json.encode(document())
        return web.Response(body=body, content_type="application/json")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")[:-6] + "Z"
