"""Plugin class of ``limits``: what happens to a call beyond a limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from aiohttp import web
from typing_extensions import override

from pexpolicy import (
    Conference,
    Continue,
    Counters,
    Decision,
    Gateway,
    Key,
    Lecture,
    MediaPlayback,
    Plugin,
    Reject,
    Service,
    ServiceConfigurationRequest,
    Store,
    Tenants,
    TestCall,
    VirtualReception,
    get_logger,
    metrics,
    schedule,
    wall_clock,
)
from pexpolicy.config.schema.plugins import TenantTable
from pexpolicy.events import Event
from pexpolicy.fields import OnCompletion
from pexpolicy.matching import live_values
from pexpolicy_limits.places import Place, Places, gateway_calls, meeting, meetings, participants
from pexpolicy_limits.settings import Action, Limit, LimitsSettings, Tenant

NOT_LIMITED = (VirtualReception, MediaPlayback, TestCall)
"""Services that take no place."""
RECONCILE_S = 60.0
DAY_S = 86_400.0
LOG_S = 60.0
"""Seconds between two lines about the same limit."""
MAX_SHOWN = 20
"""Tenants in the status."""
PLAYED_TAG = "limits"
"""The tag of a service that only plays a message."""

REACHED = metrics.counter("reached", "Calls beyond a limit.", ["kind", "level", "action"])


class _Rule(NamedTuple):
    """One limit of a call: its name, the place, and what follows the name in a reason."""

    kind: str
    limit: Limit
    place: Place
    what: str = ""


class Limits(Plugin[LimitsSettings]):
    """Limits how many people, meetings and gateway calls each tenant has at the same time."""

    can_reject = True

    def __init__(self, settings: LimitsSettings) -> None:
        super().__init__(settings)
        self._tenants = Tenants.known(settings, settings.tenants)
        self._exempt = _aliases(settings.exempt)
        self._exempt_of = {
            name: _aliases(table.exempt) for name, table in settings.tenants.items() if table.exempt
        }
        self._places = Places(self._tenants, settings.tenants.__contains__)
        self._refused = Counters("refused", window=DAY_S)
        self._peaks = Store("peaks", int, ttl=DAY_S)
        self._logged: dict[tuple[str, str], float] = {}
        self._clock = wall_clock()
        self._log = get_logger()
        live_values().limits = self._report
        schedule(self._measure, every=RECONCILE_S, once_per="fleet", name="peaks")
        schedule(self._places.reconcile, every=RECONCILE_S, once_per="fleet", name="reconcile")

    @override
    def static_decisions(self) -> Iterable[tuple[Key, Decision]]:
        """Yield the playlist that callers beyond a limit are led to."""
        if self.settings.media_playlist_name is not None:
            yield (), self._refusal("a tenant", "media_playback", "")

    async def on_events(self, events: Sequence[Event]) -> None:
        """Give and release places as the calls of the events do."""
        await self._places.take(events)

    @override
    async def restrict_service_configuration(
        self, request: ServiceConfigurationRequest, decision: Decision
    ) -> Service | Reject | None:
        """Take the places of an incoming call, or do what follows a limit."""
        if (
            request.call_direction != "dial_in"
            or request.breakout_uuid
            or decision.action != "continue"
            or isinstance(decision, NOT_LIMITED)
        ):
            return None
        tag = decision.set_fields().get("service_tag") or request.service_tag
        name = self._tenants.of(request.local_alias, tag)
        table = self.settings.tenants.get(name) if name is not None else None
        if name is None or table is None or self._is_exempt(request, name):
            return None
        return await self._limited(request, decision, name, table)

    def _is_exempt(self, request: ServiceConfigurationRequest, name: str) -> bool:
        own = self._exempt_of.get(name, self._exempt)
        return any(found.of(request.local_alias) is not None for found in (self._exempt, own))

    async def _limited(
        self,
        request: ServiceConfigurationRequest,
        decision: Decision,
        name: str,
        table: Tenant,
    ) -> Service | Reject | None:
        leases, answer = self._places.leases, None
        taken: list[Place] = []
        for rule in await self._rules(request, decision, name, table):
            (key, holder), soft, hard = rule.place, rule.limit.soft, rule.limit.hard
            taken.append(rule.place)
            if await leases.acquire(key, holder, hard if soft is None else soft):
                continue
            is_soft = soft is not None and await leases.acquire(key, holder, hard)
            count = await leases.count(key)
            most = soft if is_soft else hard
            reason = f"limit of {name}: {count} of {most}{rule.what}"
            level, action = "hard", table.on_hard or self.settings.on_hard
            if is_soft:
                level, action = "soft", table.on_soft or self.settings.on_soft
            self._tell(request, rule, name, level, action, count, reason)
            if action in ("reject", "media_playback"):
                if not await self._admits_as_stale(request, table):
                    for place in taken:
                        await leases.release(*place)
                    await self._refused.add(_used(name, rule.kind))
                    return self._refusal(name, action, reason)
            elif action == "bandwidth":
                answer = _slowed(decision, self.settings.max_callrate)
            if not is_soft:
                await leases.acquire(key, holder)
        return answer

    async def _rules(
        self,
        request: ServiceConfigurationRequest,
        decision: Decision,
        name: str,
        table: Tenant,
    ) -> list[_Rule]:
        """Return the limits of a call. That of meetings is the last, as those share their places:
        none is given back because of another limit.
        """
        call = await self._places.reservations.holder(
            request.local_alias,
            request.remote_alias or "",
            request.remote_display_name or "",
            request.remote_address or "",
        )
        is_gateway, service = isinstance(decision, Gateway), ""
        if not is_gateway and (table.participants_per_meeting or table.meetings):
            service = await self._service(request, decision)
        rows = (
            ("participants_per_meeting", service, meeting(name, service), call, " in one meeting"),
            ("gateway_calls", is_gateway, gateway_calls(name), call, " gateway calls"),
            ("participants", True, participants(name), call, ""),
            ("meetings", service, meetings(name), service, " meetings"),
        )
        return [
            _Rule(kind, limit, (key, holder), what)
            for kind, has_one, key, holder, what in rows
            if has_one and (limit := getattr(table, kind)) is not None
        ]

    async def _service(self, request: ServiceConfigurationRequest, decision: Decision) -> str:
        """Return the name of the service, or what stands for that of one of Infinity's own."""
        if isinstance(decision, Continue):
            return await self._places.reservations.name_of(request.local_alias)
        return str(decision.set_fields().get("name", ""))

    async def _admits_as_stale(self, request: ServiceConfigurationRequest, table: Tenant) -> bool:
        if (table.on_stale or self.settings.on_stale) == "enforce":
            return False
        is_stale = bool(await self._places.stale.items(limit=1))
        if is_stale:
            request.annotate(**{"live.stale": True})
        return is_stale

    def _refusal(self, name: str, action: Action, reason: str) -> Service | Reject:
        playlist = self.settings.media_playlist_name
        if action == "reject" or playlist is None:
            return Reject(reason=reason)
        return MediaPlayback(
            name=f"limit of {name}",
            service_tag=PLAYED_TAG,
            media_playlist_name=playlist,
            on_completion=OnCompletion(disconnect=True),
            reason=reason,
        )

    def _tell(
        self,
        request: ServiceConfigurationRequest,
        rule: _Rule,
        name: str,
        level: str,
        action: Action,
        count: int,
        reason: str,
    ) -> None:
        """Add what was reached to the audit line, the metrics and, once a minute, the log."""
        request.annotate(limit=reason)
        if rule.kind == "participants":
            request.annotate(**{"live.tenant": count})
        if request.dry_run:
            return
        REACHED.inc(kind=rule.kind, level=level, action=action)
        now, key = self._clock(), (name, rule.kind)
        if not 0 <= now - self._logged.get(key, 0.0) < LOG_S:
            self._logged[key] = now
            self._log.warning("limit reached", reason=reason, limit=level, action=action)

    async def _measure(self) -> None:
        """Note the highest numbers of the last day, which are looked at each minute."""
        counts = await self._places.leases.counts()
        for name, kind in product(self.settings.tenants, TOTALS):
            if count := counts.get(TOTALS[kind](name), 0):
                key = _used(name, kind)
                if count > (await self._peaks.get(key) or 0):
                    await self._peaks.put(key, count)

    async def _report(self, name: str) -> Mapping[str, object]:
        """Return each limit of a tenant, and the use of it; peaks and refusals are of a day."""
        table, found = self.settings.tenants.get(name), dict[str, object]()
        for kind in (*TOTALS, "participants_per_meeting"):
            limit: Limit | None = getattr(table, kind, None)
            if limit is None:
                continue
            key, one = _used(name, kind), {"soft": limit.soft, "hard": limit.hard}
            if kind in TOTALS:
                one["now"] = await self._places.leases.count(TOTALS[kind](name))
                one["peak"] = max(await self._peaks.get(key) or 0, one["now"] or 0)
            found[kind] = {**one, "refused": await self._refused.count(key)}
        return found

    @override
    def routes(self) -> Iterable[web.RouteDef]:
        """Serve the limits of each tenant, and their use, as JSON."""
        yield web.get("/", self._show)

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"tenants": {n: await self._report(n) for n in self.settings.tenants}}
        )

    @override
    async def status(self) -> Mapping[str, object]:
        """Return the tenants with the most people, and how many places are taken."""
        counts = await self._places.leases.counts()
        people = {
            name: counts.get(participants(name), 0)
            for name in self.settings.tenants
            if participants(name) in counts
        }
        most = sorted(people.items(), key=lambda item: -item[1])[:MAX_SHOWN]
        stale = await self._places.stale.items(limit=1)
        total = sum(people.values())
        return {"places": total, "tenants": dict(most), "stale": bool(stale)}


TOTALS = {
    "participants": participants,
    "meetings": meetings,
    "gateway_calls": gateway_calls,
}
"""What is counted for a tenant as a whole: the key of its places by the kind of limit."""


def _used(tenant: str, kind: str) -> str:
    return f"{tenant}/{kind}"


def _aliases(patterns: Sequence[str]) -> Tenants:
    """Return what finds these aliases, as it does those of tenants."""
    return Tenants({"exempt": TenantTable(aliases=list(patterns))})


def _slowed(decision: Decision, rate: int) -> Service | None:
    """Return a service with call rates of ``rate`` at most; ``None`` if it cannot be lowered."""
    if not isinstance(decision, Conference | Lecture | Gateway):
        return None
    known = decision.set_fields()
    above = [n for n in ("max_callrate_in", "max_callrate_out") if known.get(n, rate + 1) > rate]
    return decision.replace(**dict.fromkeys(above, rate)) if above else None
