"""Plugin class of ``meetings``: what calls to a meeting get, what events tell of it, its end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from aiohttp import web
from msgspec.structs import replace
from typing_extensions import override

from pexpolicy import (
    Alias,
    Conference,
    Key,
    ParticipantProperties,
    ParticipantPropertiesRequest,
    Plugin,
    Reject,
    ServiceConfigurationRequest,
    SharedUnavailableError,
    Store,
    Tenants,
    get_logger,
    metrics,
    schedule,
    wall_clock,
)
from pexpolicy.config.schema.plugins import TenantTable
from pexpolicy.events import Event, ParticipantEvent
from pexpolicy.matching import live_values
from pexpolicy_meetings.api import Api
from pexpolicy_meetings.meeting import DAY_S, Invitation, Meeting, rfc3339, service_of, service_tag
from pexpolicy_meetings.pins import Pins
from pexpolicy_meetings.settings import MeetingsSettings, known_tenants
from pexpolicy_meetings.store import MeetingStore

UNKNOWN = metrics.counter("unknown", "Calls to aliases of tenants that no meeting has.")
SWEEP_S = 3600.0
END_S = 15.0
TRIED_S = 300.0
"""Seconds after the end of a meeting in which its conference is looked for."""
MAX_KNOWN = 10_000
V = TypeVar("V")
MAX_PEOPLE = 16
"""People of one invitation who are remembered."""
PRESENT = ("conference", "lecture")
"""Service types of a participant who is in a meeting."""
ROLES = {"host": "chair", "guest": "guest"}


class Meetings(Plugin[MeetingsSettings]):
    """Leads calls to the meetings of booking systems, while they are open."""

    can_reject = True

    def __init__(self, settings: MeetingsSettings) -> None:
        super().__init__(settings)
        self._all, self.tenants = known_tenants(settings)
        users = dict.fromkeys(
            pattern.partition("@")[0]
            for name in self.tenants
            for pattern in self._all.tables[name].aliases
        )
        self._bare = Tenants({"bare": TenantTable(aliases=list(users))})
        """Finds the user parts of the aliases of all tenants."""
        self.clock = wall_clock()
        self.pins = Pins(settings.key)
        self.store = MeetingStore(self.pins, self.clock, settings.retention_days, live_values())
        self._present = Store("present", str, ttl=DAY_S)
        """The meeting whose people are in the service of a name, by its tag."""
        self._known: OrderedDict[str, list[Meeting]] = OrderedDict()
        """By alias, for when the database does not answer."""
        self._tags: OrderedDict[str, str] = OrderedDict()
        self._api = Api(self.tenants, self.store, self.clock)
        self._invited_calls = Store("invited", tuple[str, str], ttl=DAY_S)
        """Alias and person of the calls to invitations, by ``uuid``."""
        self._calls_seen: OrderedDict[str, tuple[str, str] | None] = OrderedDict()
        schedule(self.store.sweep, every=SWEEP_S, once_per="fleet", name="sweep")
        found = live_values().platforms.values()
        self._platforms = [one for one in found if one.has_commands]
        self._ended: set[str] = set()
        """The versions of closed meetings whose conference was found to be over."""
        if self._platforms:
            schedule(self.end, every=END_S, once_per="fleet", name="end")

    @override
    def static_decisions(self) -> Iterable[tuple[Key, Conference]]:
        """Yield the defaults of each tenant."""
        for name, tenant in self.tenants.items():
            fields = {"name": f"defaults of {name}", "service_tag": "", **tenant.defaults}
            decision = Conference.from_result(fields, extras=tenant.infinity.extras)
            yield ("tenants", name, "defaults"), decision

    @override
    def api_routes(self) -> Iterable[web.RouteDef]:
        """Serve the API of booking systems."""
        return self._api.routes()

    @override
    def routes(self) -> Iterable[web.RouteDef]:
        """Serve the same to operators and the console."""
        return self._api.operator_routes()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Read the key of the PINs."""
        await self.store.open()
        yield

    async def end(self) -> None:
        """End the conferences of meetings that have closed, where ``at_end`` is ``disconnect``."""
        closed = await self.store.closed(self.clock() - TRIED_S)
        due = [one for one in closed if one.at_end == "disconnect" and one.tenant in self.tenants]
        self._ended &= {one.version for one in due}
        for meeting in due:
            if meeting.version not in self._ended and await self._end(meeting):
                self._ended.add(meeting.version)

    async def _end(self, meeting: Meeting) -> bool:
        """End the conference of a meeting; return whether none is left."""
        # The next meeting of that name may have begun.
        tag, results = service_tag(meeting, self.tenants[meeting.tenant]), list[str]()
        for platform in self._platforms:
            results += await platform.end_conferences(meeting.name, tag)
        for result in results:
            more = {"tenant": meeting.tenant, "meeting": meeting.id, "result": result}
            get_logger().info("meeting ended", **more)
        # Without live nobody tells who is in it: it is looked for until the time is over.
        return not results and self.store.participants(meeting.name) == 0

    # ---- calls

    @override
    async def service_configuration(
        self, request: ServiceConfigurationRequest
    ) -> Conference | Reject | None:
        """Return the conference of an open meeting; reject before, after, and when cancelled."""
        if request.call_direction == "non_dial" or request.breakout_uuid is not None:
            return None
        meetings = await self._meetings(request.local_alias, request)
        if not meetings:
            if self._is_ours(request.local_alias):
                request.annotate(meeting="unknown")
                if not request.dry_run:
                    UNKNOWN.inc()
            return None
        meeting = meetings[0]
        request.annotate(tenant=meeting.tenant, meeting=meeting.id)
        invitation = self._invitation(meeting, request.local_alias)
        if why := await self._why_closed(meeting, invitation, meetings[1:]):
            return Reject(reason=why)
        fields = await self._answer(meeting)
        fields = {**fields, **self._pins_of(meeting, invitation, fields)}
        return Conference.from_result(fields, extras=self.settings.extras)

    @override
    async def participant_properties(
        self, request: ParticipantPropertiesRequest
    ) -> ParticipantProperties | None:
        """Return the role of an invitation; hosts pass a locked meeting. Others are not ours."""
        alias, tag = request.local_alias, request.service_tag or "&m="
        if request.call_direction == "dial_out" or request.breakout_uuid is not None:
            return None
        if "&m=" not in tag or not (meetings := await self._meetings(alias, request)):
            return None
        meeting, properties = meetings[0], dict[str, Any]()
        role: str | None = request.preauthenticated_role
        if (invitation := self._invitation(meeting, alias)) is not None:
            role = properties["preauthenticated_role"] = ROLES[invitation.role]
        if meeting.lobby == "locked" and role == "chair":
            properties["bypass_lock"] = True
        return ParticipantProperties(**properties) if properties else None

    async def _meetings(
        self, alias: Alias, request: ServiceConfigurationRequest | ParticipantPropertiesRequest
    ) -> list[Meeting]:
        """Return the meetings of an alias, the nearest one first.

        The database is asked each time, so that a call gets what the API has answered before, on
        any server; while it is not available, the last answer holds.
        """
        if not self._is_ours(alias):
            return []
        try:
            found = await self.store.by_alias(alias)
        except SharedUnavailableError:
            if alias not in self._known:
                raise
            request.annotate(**{"meetings.stale": True})
            return self._known[alias]
        self._known.pop(alias, None)
        known = [one for one in found if one.tenant in self.tenants]
        return _keep(self._known, alias, known) if known else known

    def _is_ours(self, alias: Alias) -> bool:
        tenants = self._bare if alias.bare else self._all
        found = tenants.of(alias) if alias.user else None
        return found is not None and (alias.bare or found in self.tenants)

    @staticmethod
    def _invitation(meeting: Meeting, alias: str) -> Invitation | None:
        return None if meeting.has_alias(alias) else meeting.invitation(alias)

    async def _why_closed(
        self, meeting: Meeting, invitation: Invitation | None, others: Sequence[Meeting]
    ) -> str:
        """Return why a meeting admits nobody now; empty if it does."""
        state = meeting.state(now := self.clock())
        if state == "scheduled":
            return f"opens at {rfc3339(meeting.opens)}"
        if state in ("ended", "cancelled"):
            return state
        if invitation is not None and not invitation.admits(now):
            return "invitation used"
        former = [one for one in others if one.name == meeting.name and one.opens < meeting.opens]
        if former and self.store.participants(meeting.name):
            present = await self._present.get(meeting.name)
            if present in {f"{one.tenant}\n{one.id}" for one in former}:
                return "the meeting before has not ended"
        return ""

    async def _answer(self, meeting: Meeting) -> dict[str, Any]:
        """Return the fields of the conference; those of before while people are there from then."""
        tenant = self.tenants[meeting.tenant]
        if meeting.answer is not None and self.store.participants(meeting.name):
            return meeting.answer
        if meeting.answer is not None:
            with suppress(SharedUnavailableError):
                await self.store.change(tenant, meeting.id, _without_answer, keeps_etag=True)
        return service_of(meeting, tenant)

    def _pins_of(
        self, meeting: Meeting, invitation: Invitation | None, fields: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the PINs; with an invitation those by which it has its role and no other one."""
        host = meeting.host_pin
        if not fields.get("allow_guests"):
            return {"pin": host}
        # Guests without a PIN are possible only while an answer stays that was given before.
        guest = meeting.guest_pin or self.pins.unknown_pin(meeting.id, host)
        if invitation is not None and invitation.role == "guest":
            # There must be a Host PIN where there are guests, and this one nobody knows.
            host = self.pins.unknown_pin(invitation.alias, guest)
        return {"pin": host, "guest_pin": guest}

    # ---- events

    async def on_events(self, events: Sequence[Event]) -> None:
        """Count the uses of invitations, and note whose people are in a service."""
        for event in events:
            if isinstance(event, ParticipantEvent) and event.protocol != "api":
                await self._take(event)

    async def _take(self, event: ParticipantEvent) -> None:
        is_end = event.event == "participant_disconnected"
        if not is_end and event.conference and event.service_tag:
            await self._note(event.conference, event.service_tag)
        if event.uuid and event.call_direction != "out":
            call = await self._invited(event.uuid, event)
            if call is not None and (is_end or event.service_type in PRESENT):
                await self._count(*call, event, is_end=is_end)

    async def _invited(self, uuid: str, event: ParticipantEvent) -> tuple[str, str] | None:
        """Return the alias of the invitation of a call, and the person; ``None`` without one.

        It is not known whether Infinity repeats the alias in each event of the call.
        """
        if uuid in self._calls_seen:
            return self._calls_seen[uuid]
        if not event.destination_alias:
            return await self._invited_calls.get(uuid)
        alias, call = Alias(event.destination_alias), None
        found = await self.store.by_alias(alias) if self._is_ours(alias) else []
        if any(self._invitation(one, alias) for one in found):
            call = str(alias), event.conversation_id or uuid
            await self._invited_calls.put(uuid, call)
        return _keep(self._calls_seen, uuid, call)

    async def _note(self, name: str, tag: str) -> None:
        """Note which meeting has its people in the service of a name."""
        tenant = self._all.of("", tag)
        parts = [part for part in tag.split("&") if part.startswith("m=")]
        if tenant not in self.tenants or not parts:
            return
        key = f"{tenant}\n{parts[0][2:]}"
        if self._tags.get(name) != key:
            await self._present.put(name, key)
            _keep(self._tags, name, key)

    async def _count(
        self, alias: str, person: str, event: ParticipantEvent, *, is_end: bool
    ) -> None:
        """Count the use of an invitation."""
        for found in await self.store.by_alias(alias):
            if found.tenant not in self.tenants or self._invitation(found, alias) is None:
                continue
            at = min(event.time, self.clock())

            def edit(meeting: Meeting | None, at: float = at) -> Meeting | None:
                known = None if meeting is None else meeting.invitation(alias)
                if meeting is None or known is None:
                    return meeting
                return meeting.with_invitation(known, _used(known, person, at, is_end=is_end))

            await self.store.change(self.tenants[found.tenant], found.id, edit, keeps_etag=True)
            return


def _keep(table: OrderedDict[str, V], key: str, value: V) -> V:
    """Remember a value; the oldest of more than ``MAX_KNOWN`` is forgotten."""
    table[key] = value
    if len(table) > MAX_KNOWN:
        table.popitem(last=False)
    return value


def _without_answer(meeting: Meeting | None) -> Meeting | None:
    return meeting and replace(meeting, answer=None)


def _used(invitation: Invitation, person: str, at: float, *, is_end: bool) -> Invitation:
    """Return an invitation after a participant joined or left with it; no reconnect counts."""
    last, is_known = invitation.spent_at, person in invitation.people
    if is_known != is_end or (is_end and last is not None and at <= last):
        return invitation
    used = invitation.used if is_end else min(invitation.used + 1, invitation.uses)
    return replace(
        invitation,
        used=used,
        spent_at=at if last is None else max(last, at),
        people=invitation.people if is_end else (*invitation.people, person)[-MAX_PEOPLE:],
    )
