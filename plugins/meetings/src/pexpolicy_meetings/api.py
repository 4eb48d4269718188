"""The API of booking systems, and the same for operators at the admin listener."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from aiohttp import hdrs, web
from msgspec.structs import replace

from pexpolicy import SharedUnavailableError, record_change
from pexpolicy.matching import live_values
from pexpolicy_meetings.meeting import (
    MAX_LATE_S,
    Fault,
    Invitation,
    Meeting,
    MeetingBody,
    body_of,
    parsed,
    parsed_invitation,
    patched,
    shown,
    shown_invitation,
)
from pexpolicy_meetings.openapi import MEETINGS, OPERATIONS, PREFIX, Operation, description
from pexpolicy_meetings.problems import (
    JSON,
    QUERY,
    Refusal,
    check_conditions,
    document_of,
    id_of,
    query_of,
)
from pexpolicy_meetings.settings import TenantOf
from pexpolicy_meetings.store import (
    FIRST,
    IdempotencyKey,
    MeetingStore,
    Place,
    Stored,
    made_invitation,
)

PAGE, MAX_PAGE = 100, 500
"""Meetings in a part of a list."""
MAX_INVITATIONS = 500
PINS = "pins:read"
IDEMPOTENCY_KEY = "Idempotency-Key"
COUNTED = ("participants", "hosts", "waiting")
UNSTORED: dict[str, str] = {hdrs.CACHE_CONTROL: "no-store"}
"""Answers may have PINs."""
OPERATOR = "[admin]"
"""The token in the audit for a request at the admin listener; no token has this name."""
CALENDAR = "text/calendar"
MAX_OCTETS = 75
_FIRST_SEQUENCE = 1_577_836_800
"""2020: the number of a version has 31 bits, and also grows when an id is used again."""
_QUALITY = re.compile(r";\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_KEY = re.compile(r'"([ -!#-~]{1,255})"|([!#-~]{1,255})')
"""An Idempotency-Key: a string of RFC 8941, or as most clients send it."""


class Caller(NamedTuple):
    """Who asks: a token of a tenant, or an operator for it."""

    tenant: TenantOf
    token: str
    scopes: frozenset[str]

    def named(self, meeting_id: str) -> dict[str, str]:
        """Return who asks for which meeting, for the audit, which has no PINs and titles."""
        return {"tenant": self.tenant.name, "token": self.token, "meeting": meeting_id}


Edited = Meeting | list[Fault]
Route = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Answers the requests of booking systems."""

    def __init__(
        self, tenants: Mapping[str, TenantOf], store: MeetingStore, clock: Callable[[], float]
    ) -> None:
        self._tenants = tenants
        self._tokens = {
            table.sha256: (tenant, table) for tenant in tenants.values() for table in tenant.tokens
        }
        self._store = store
        self._live_values = live_values()
        self._clock = clock

    def routes(self) -> Iterator[web.RouteDef]:
        """Return the routes on the listener of ``[api]``."""
        for one in OPERATIONS:
            yield web.route(one.method, PREFIX + one.path, self._route(one, self._caller))

    def operator_routes(self) -> Iterator[web.RouteDef]:
        """Return those on the admin listener: for each tenant, and the meetings of all."""
        yield web.get(MEETINGS, _answering(self._all))
        for one in OPERATIONS:
            if one.scope:
                path = "/tenants/{tenant}" + one.path
                yield web.route(one.method, path, self._route(one, self._operator))

    def _route(
        self, operation: Operation, caller_of: Callable[[web.Request, Operation], Caller]
    ) -> Route:
        answer: Callable[..., Awaitable[web.StreamResponse]] = getattr(self, f"_{operation.name}")

        async def work(request: web.Request) -> web.StreamResponse:
            if not operation.scope:
                return await answer()
            caller = caller_of(request, operation)
            try:
                return await answer(request, caller)
            except Refusal as refusal:
                if operation.method != hdrs.METH_GET:
                    named = caller.named(request.match_info.get("id", "")[:128])
                    record_change(action="meeting_refused", **named, **refusal.named())
                raise

        return _answering(work)

    def _caller(self, request: web.Request, operation: Operation) -> Caller:
        """Return whose token a request has."""
        # No token has a comma, so that two of them are a wrong one.
        header = ",".join(request.headers.getall(hdrs.AUTHORIZATION, []))
        scheme, _, sent = header.partition(" ")
        # The look-up takes longer for nothing that a client can choose: it sends no digest.
        digest = hashlib.sha256(sent.strip().encode("utf-8", "surrogateescape")).hexdigest()
        tenant, token = self._tokens.get(digest, (None, None))
        if tenant is None or token is None or scheme.lower() != "bearer":
            raise Refusal(HTTPStatus.UNAUTHORIZED)
        if token.expires is not None and token.expires.timestamp() <= self._clock():
            raise Refusal(HTTPStatus.UNAUTHORIZED)
        if operation.scope not in token.scopes:
            raise Refusal(HTTPStatus.FORBIDDEN, f"the token has no scope {operation.scope}")
        return Caller(tenant, token.name, frozenset(token.scopes))

    def _operator(self, request: web.Request, operation: Operation) -> Caller:
        """Return an operator, who is shown PINs on request, which is recorded."""
        scopes = {operation.scope, *[PINS] * (request.query.get("pins") == "true")}
        return self._operator_of(request.match_info["tenant"], *scopes)

    def _operator_of(self, tenant: str, *scopes: str) -> Caller:
        if tenant not in self._tenants:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such tenant")
        return Caller(self._tenants[tenant], OPERATOR, frozenset(scopes))

    async def _all(self, request: web.Request) -> web.StreamResponse:
        """Show the meetings of a time, or those that are not over, without PINs, by tenant."""
        items, is_past_shown = list[dict[str, Any]](), "from" in request.query
        query = {"from": self._clock() - MAX_LATE_S} | query_of(request, *QUERY, "tenant")
        query["limit"] = MAX_PAGE
        for name in request.query.getall("tenant", sorted(self._tenants)):
            found, _ = await self._part(query, self._operator_of(name))
            listed = (one for one in found if is_past_shown or one["state"] != "ended")
            items += ({"tenant": name, **one} for one in listed)
        return _json({"items": items})

    # ---- meetings

    async def _put_meeting(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        meeting_id = request.match_info.get("id") or secrets.token_hex(8)
        body = await document_of(request)
        key = _key_of(request, body) if request.method == hdrs.METH_POST else None

        def edit(before: Meeting | None) -> Edited:
            known = before if before is not None and before.cancelled_at is None else None
            return parsed(body, caller.tenant, self._clock(), meeting_id=meeting_id, base=known)

        return await self._changed(request, caller, meeting_id, edit, "replaced", key)

    _post_meeting = _put_meeting

    async def _get_meeting(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        meeting = await self._found(request, caller)
        if _is_calendar_wanted(request.headers.get(hdrs.ACCEPT, "")):
            domain = caller.tenant.domain or caller.tenant.name
            _record_look(caller, meeting)
            text = calendar_of(meeting, domain, has_pins=PINS in caller.scopes)
            headers = {hdrs.ETAG: f'"{meeting.etag}"', **UNSTORED}
            return web.Response(text=text, content_type=CALENDAR, headers=headers)
        return await self._shown(meeting, caller)

    async def _list_meetings(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        items, following = await self._part(query_of(request, *QUERY), caller)
        return _json({"items": items, "next": following})

    async def _patch_meeting(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        patch = await document_of(request)

        def edit(before: Meeting | None) -> Edited:
            return patched(_present(before), patch, caller.tenant, self._clock())

        return await self._changed(request, caller, id_of(request), edit, "patched")

    async def _delete_meeting(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        def edit(before: Meeting | None) -> Edited:
            if before is not None and before.cancelled_at is not None:
                return before
            return replace(_present(before), cancelled_at=self._clock())

        await self._changed(request, caller, id_of(request), edit, "cancelled")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _delete_series(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        series, cancelled = query_of(request, "series").get("series"), 0
        if series is None:
            faults = [Fault("/query/series", "is missing")]
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, faults=faults)

        def edit(before: Meeting | None) -> Edited:
            if before is None or before.cancelled_at is not None or before.series != series:
                raise Refusal(HTTPStatus.NOT_FOUND)
            return replace(before, cancelled_at=self._clock())

        async for one in self._each(caller, series=series):
            if one.cancelled_at is None:
                with suppress(Refusal):
                    await self._changed(request, caller, one.id, edit, "cancelled")
                    cancelled += 1
        return _json({"cancelled": cancelled})

    async def _end_meeting(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        def edit(before: Meeting | None) -> Edited:
            meeting, now = _present(before), self._clock()
            return meeting if now >= meeting.closes else replace(meeting, ended_at=now)

        return await self._changed(request, caller, id_of(request), edit, "ended")

    async def _new_pins(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        def edit(before: Meeting | None) -> Edited:
            return replace(_present(before), host_pin="", guest_pin="")

        return await self._changed(request, caller, id_of(request), edit, "given_new_pins")

    # ---- invitations

    async def _invite(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        body = await document_of(request)
        made: list[Invitation] = []

        def edit(before: Meeting | None) -> Edited:
            meeting = _present(before)
            if len(meeting.invitations) >= MAX_INVITATIONS:
                return [Fault("", f"the meeting has {MAX_INVITATIONS} invitations", 409)]
            # Another alias at each attempt, as the one before may be in use.
            found = parsed_invitation(body, made_invitation(caller.tenant, meeting))
            if not isinstance(found, Invitation):
                return found
            made[:] = [found]
            return meeting.with_invitation(None, found)

        meeting_id = id_of(request)
        await self._changed(request, caller, meeting_id, edit, "invited")
        place = f"{PREFIX}{MEETINGS}/{meeting_id}/invitations/{made[0].id}"
        return _json(shown_invitation(made[0]), HTTPStatus.CREATED, headers={hdrs.LOCATION: place})

    async def _patch_invitation(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        patch = await document_of(request)
        made: list[Invitation] = []

        def edit(before: Meeting | None) -> Edited:
            meeting = _present(before)
            invitation = _invitation(request, meeting)
            found = parsed_invitation(patch, invitation)
            if not isinstance(found, Invitation):
                return found
            made[:] = [found]
            return meeting.with_invitation(invitation, found)

        await self._changed(request, caller, id_of(request), edit, "invitation_patched")
        return _json(shown_invitation(made[0]))

    async def _revoke(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        def edit(before: Meeting | None) -> Edited:
            meeting = _present(before)
            return meeting.with_invitation(_invitation(request, meeting), None)

        await self._changed(request, caller, id_of(request), edit, "invitation_revoked")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    # ---- what other plugins know

    async def _live_meeting(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        meeting = await self._found(request, caller)
        (counts,) = await self._counts(meeting.name)
        return _json(counts)

    async def _live(self, _: web.Request, caller: Caller) -> web.StreamResponse:
        """Add the counts of the meetings that are open."""
        names = [one.name async for one in self._each(caller, state="open")]
        counts = await self._counts("", *names)
        return _json({**counts[0], **{key: sum(one[key] for one in counts) for key in COUNTED}})

    async def _limits(self, _: web.Request, caller: Caller) -> web.StreamResponse:
        if self._live_values.limits is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "the plugin limits is not active")
        return _json(await self._live_values.limits(caller.tenant.name))

    async def _counts(self, *names: str) -> list[Mapping[str, Any]]:
        if self._live_values.report is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "the plugin live is not active")
        return await self._live_values.report(*names)

    async def _people(self, meetings: Iterable[Meeting]) -> dict[str, int]:
        """Return how many people are in which meeting that is open, by its id."""
        now = self._clock()
        found = [one for one in meetings if one.state(now) == "open"]
        if not found or self._live_values.report is None:
            return {}
        counts = await self._counts(*(one.name for one in found))
        pairs = zip(found, counts, strict=True)
        return {one.id: counted["participants"] for one, counted in pairs}

    # ---- common parts

    async def _found(self, request: web.Request, caller: Caller) -> Meeting:
        meeting = await self._store.get(caller.tenant.name, id_of(request))
        if meeting is None:
            raise Refusal(HTTPStatus.NOT_FOUND)
        return meeting

    async def _changed(
        self,
        request: web.Request,
        caller: Caller,
        meeting_id: str,
        edit: Callable[[Meeting | None], Edited],
        action: str,
        key: IdempotencyKey | None = None,
    ) -> web.StreamResponse:
        """Change a meeting, record that, and return the response; raises ``Refusal``."""

        def checked(before: Meeting | None) -> Edited:
            after = edit(before)
            if isinstance(after, Meeting) and after is not before:
                check_conditions(request, before)
            return after

        stored = await self._store.change(caller.tenant, meeting_id, checked, key)
        if not isinstance(stored, Stored):
            statuses = {one.status for one in stored}
            status = statuses.pop() if len(statuses) == 1 else HTTPStatus.UNPROCESSABLE_ENTITY
            raise Refusal(HTTPStatus(status), faults=stored)
        meeting, before = stored
        is_repeated = meeting.id != meeting_id  # by the key of an earlier request
        if not is_repeated and (before is None or before.etag != meeting.etag):
            done = "created" if before is None and action == "replaced" else action
            changed = _changed_names(before, meeting)
            record_change(action=f"meeting_{done}", **caller.named(meeting.id), changed=changed)
        is_new = before is None and action == "replaced"
        return await self._shown(meeting, caller, is_new=is_new)

    async def _shown(
        self, meeting: Meeting, caller: Caller, *, is_new: bool = False
    ) -> web.StreamResponse:
        _record_look(caller, meeting)
        people = await self._people([meeting])
        now, with_pins = self._clock(), PINS in caller.scopes
        document = shown(meeting, now, people.get(meeting.id, 0), with_pins=with_pins)
        headers: dict[str, str] = {hdrs.ETAG: f'"{meeting.etag}"'}
        if is_new:
            headers[hdrs.LOCATION] = f"{PREFIX}{MEETINGS}/{meeting.id}"
        return _json(document, HTTPStatus.CREATED if is_new else HTTPStatus.OK, headers)

    async def _each(self, caller: Caller, **which: Any) -> AsyncIterator[Meeting]:
        """Yield all meetings of a tenant of a state or series."""
        after: Place | None = FIRST
        while after is not None:
            limits: dict[str, Any] = {"limit": MAX_PAGE, "after": after}
            found, after = await self._store.listed(caller.tenant.name, **limits, **which)
            for one in found:
                yield one

    async def _part(
        self, query: Mapping[str, Any], caller: Caller
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return some meetings of a list, and the cursor of the next ones."""
        state = query.get("state")
        meetings, following = await self._store.listed(
            caller.tenant.name,
            since=query.get("from", 0.0),
            until=query.get("to", 1e12),
            state=state,
            series=query.get("series", ""),
            limit=query.get("limit", PAGE),
            after=query.get("cursor", FIRST),
        )
        people, now = await self._people(meetings), self._clock()
        items = []
        for one in meetings:
            count = people.get(one.id, 0)
            found = one.state(now, count)
            if found == state or (state is None and found != "cancelled"):
                with_pins = PINS in caller.scopes and caller.token != OPERATOR
                document = shown(one, now, count, with_pins=with_pins)
                items.append(document | ({"people": count} if caller.token == OPERATOR else {}))
        return items, following and f"{following[0]:.0f}_{following[1]}"

    async def _openapi(self) -> web.StreamResponse:
        others = {"Live": self._live_values.report, "Limits": self._live_values.limits}
        missing = frozenset(result for result, answer in others.items() if answer is None)
        return web.Response(body=await asyncio.to_thread(description, missing), content_type=JSON)


def _answering(work: Route) -> Route:
    """Return a handler that responds also to what is refused."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await work(request)
        except Refusal as refusal:
            return refusal.response()
        except SharedUnavailableError:
            text, headers = "the database does not answer", {"Retry-After": "1"}
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text, headers=headers).response()

    return handle


def _json(
    document: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    given: Any = {"body": msgspec.json.encode(document), "headers": {**UNSTORED, **(headers or {})}}
    return web.Response(status=status, content_type=JSON, **given)


def _key_of(request: web.Request, body: object) -> IdempotencyKey | None:
    sent = request.headers.getall(IDEMPOTENCY_KEY, [])
    found = _KEY.fullmatch("\n".join(sent).strip())
    if sent and found is None:
        text = f"{IDEMPOTENCY_KEY} has to be one text in quotes of at most 255 characters"
        raise Refusal(HTTPStatus.BAD_REQUEST, text)
    return found and IdempotencyKey(found[1] or found[2], json.dumps(body, sort_keys=True))


def _present(meeting: Meeting | None) -> Meeting:
    """Return a meeting that may be changed; raises ``Refusal``."""
    if meeting is None:
        raise Refusal(HTTPStatus.NOT_FOUND)
    if meeting.cancelled_at is not None:
        raise Refusal(HTTPStatus.CONFLICT, "the meeting was cancelled")
    return meeting


def _invitation(request: web.Request, meeting: Meeting) -> Invitation:
    for one in meeting.invitations:
        if one.id == request.match_info["invitation"]:
            return one
    raise Refusal(HTTPStatus.NOT_FOUND)


def _changed_names(before: Meeting | None, after: Meeting) -> list[str]:
    """Return the names of the fields that differ; of a new meeting those that it has."""
    if before is None:
        return [*body_of(after)]
    names = (*MeetingBody.__struct_fields__, "invitations", "ended_at", "cancelled_at")
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def _record_look(caller: Caller, meeting: Meeting) -> None:
    if caller.token == OPERATOR and PINS in caller.scopes:
        record_change(action="pins_shown", **caller.named(meeting.id))


# ---- text/calendar (RFC 5545), for the text of an invitation


def calendar_of(meeting: Meeting, domain: str, *, has_pins: bool) -> str:
    """Return one VEVENT; with ``has_pins`` it has the PIN of guests, never that of hosts."""
    end = meeting.end if meeting.ended_at is None else min(meeting.end, meeting.ended_at)
    address, pin = f"sip:{meeting.aliases[0]}", meeting.guest_pin if has_pins else ""
    text = f"Join: {address}" + (f"\nPIN: {pin}" if pin else "")
    lines = (
        *("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//pexpolicy//meetings//EN"),
        *("BEGIN:VEVENT", f"UID:{meeting.id}@{domain}"),
        # A later version replaces an earlier one.
        f"SEQUENCE:{max(int(meeting.updated - _FIRST_SEQUENCE), 0)}",
        f"DTSTAMP:{_calendar_time(meeting.updated)}",
        f"DTSTART:{_calendar_time(meeting.start)}",
        f"DTEND:{_calendar_time(max(end, meeting.start + 1))}",
        *([f"SUMMARY:{_calendar_text(meeting.title)}"] if meeting.title else []),
        f"LOCATION:{_calendar_text(address)}",
        f"DESCRIPTION:{_calendar_text(text)}",
        *([f"ORGANIZER:mailto:{meeting.owner_email}"] if meeting.owner_email else []),
        f"STATUS:{'CONFIRMED' if meeting.cancelled_at is None else 'CANCELLED'}",
        *("END:VEVENT", "END:VCALENDAR"),
    )
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _is_calendar_wanted(accept: str) -> bool:
    """Return whether an Accept header ranks a calendar as high as JSON (RFC 9110, 12.5.1)."""
    ranks = {CALENDAR: 0.0, JSON: 0.0}
    for one in accept.lower().split(","):
        found = _QUALITY.search(one)
        ranks[one.partition(";")[0].strip()] = float(found[1]) if found else 1.0
    return ranks[CALENDAR] > 0.0 and ranks[CALENDAR] >= ranks[JSON]


def _calendar_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _calendar_text(text: str) -> str:
    return re.sub(r"([\\;,])", r"\\\1", text).replace("\n", "\\n")


def _folded(line: str) -> str:
    """Return a line in pieces of at most 75 octets; a character has up to four."""
    if len(line.encode()) <= MAX_OCTETS:
        return line
    return "\r\n ".join(line[at : at + 18] for at in range(0, len(line), 18))
